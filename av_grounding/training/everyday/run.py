"""The everyday bundle in one call: recordings, sound head, speech trunk, assembly, calibration.

Every stage leaves a file in the run's folder and is skipped where its file is there, so that an
interrupted run goes on; the speech trunk's training resumes inside its stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from av_grounding.everyday import corpus
from av_grounding.everyday.nouns import NOUNS
from av_grounding.everyday.recordings import ORIGINS, OTHER, SOUNDFONT, Recording, recordings
from av_grounding.everyday.samples import EverydaySamples
from av_grounding.files import replacing
from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.bundle_config import read_config
from av_grounding.modeling.effects_audio import EffectsBackbone
from av_grounding.synthetic.samples import Sample
from av_grounding.training.everyday.assembling import assemble, everyday_spec
from av_grounding.training.everyday.calibrating import calibrate_on
from av_grounding.training.everyday.sound_head import extract, train_sound_head
from av_grounding.training.everyday.sound_windows import SoundWindows
from av_grounding.training.everyday.weights import (
    SOUND_FILE,
    SOUND_PACKAGE,
    package_file,
    read_sound_weights,
)
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.speech import SpeechConfig, load_trunk, train_speech


@dataclass(frozen=True)
class EverydayRun:
    """What one run does; `folders` says where an origin of recordings lies (see `recordings`)."""

    name: str = "everyday-small"
    num_windows: int = 4096
    sound_steps: int = 1500
    num_calibration_samples: int = 60
    num_utterances: int = 2000
    seed: int = 0
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    folders: Mapping[str, str] = field(default_factory=dict)


def run_everyday(config: EverydayRun, out: Path, progress: Progress) -> Path:
    """Train everything and return the bundle's directory, `out`/bundle."""
    out.mkdir(parents=True, exist_ok=True)
    sounds = _recordings(config, out / "recordings.npz", progress)
    others = [one.waveform for one in sounds if one.noun == OTHER]
    speech_file = out / "speech" / "trunk.safetensors"
    if not speech_file.exists():
        train_speech(
            tuple(NOUNS), [one.waveform for one in sounds], speech_file.parent, config.speech,
            progress,
        )  # fmt: skip
    utterances = _utterances(speech_file.parent / "corpus", config.num_utterances, config.seed)
    windows = SoundWindows(sounds, utterances, tuple(NOUNS), seed=config.seed)
    sound_file = out / "sound_head.safetensors"
    if not sound_file.exists():
        trunk = EffectsBackbone()
        trunk.load_state_dict(read_sound_weights(package_file(SOUND_PACKAGE, SOUND_FILE)))
        features, things = extract(
            trunk, windows, config.num_windows, out / "windows",
            lambda done, total: progress("sound features", done, total, {}),
        )  # fmt: skip
        head = train_sound_head(
            features, things, len(NOUNS), steps=config.sound_steps, seed=config.seed
        )
        with replacing(sound_file) as partial:
            save_file(head.state_dict(), partial)
    facts = {
        "recipe": "everyday",
        "things": list(NOUNS),
        "num_recordings": len(sounds),
        "num_other_sounds": len(others),
        "origins": _licences(sounds),
    }
    speech, _ = load_trunk(speech_file)
    return build_bundle(
        out / "bundle", speech.state_dict(), load_file(sound_file), windows.nouns, facts,
        config, progress,
    )  # fmt: skip


def build_bundle(
    bundle: Path,
    speech: Mapping[str, torch.Tensor],
    sound: Mapping[str, torch.Tensor],
    sounding: Sequence[str],
    facts: dict,
    config: EverydayRun,
    progress: Progress,
) -> Path:
    """Assemble, write, and calibrate on validation scenes (see `EverydaySamples`)."""
    model = assemble(speech, sound)
    vocabulary = {"sound": sorted(sounding), "speech": list(NOUNS)}
    save_bundle(
        bundle, model, everyday_spec(model), name=config.name, info=facts, vocabulary=vocabulary
    )
    calibrate_everyday(bundle, config.num_calibration_samples, config.seed, progress)
    return bundle


def calibrate_everyday(bundle: Path, num: int, seed: int, progress: Progress) -> None:
    """Fit evidence floors and calibration on `num` validation scenes and store them."""
    known = read_config(bundle)["vocabulary"]["sound"]
    samples = KnownSamples(EverydaySamples("validation", seed), known)
    calibrate_on(bundle, samples, num, seed, progress)


class KnownSamples:
    """Of validation samples those whose sound the bundle knows.

    A head that never learned what sounds cannot be right about it, and would teach its calibration
    that nothing it says means anything.
    """

    def __init__(self, samples: EverydaySamples, known: Sequence[str]) -> None:
        if not set(known) & set(samples.part.sounding):
            raise ValueError(
                f"no sound of the {samples.part.name} part is among the {len(known)} that the "
                "bundle knows: expected one or more"
            )
        self.samples, self.known = samples, frozenset(known)
        self._indices: list[int] = []

    def __getitem__(self, index: int) -> Sample:
        return self.samples[self.original(index)]

    def absent(self, index: int) -> dict[str, np.ndarray]:
        return self.samples.absent(self.original(index))

    def original(self, index: int) -> int:
        """The number of sample `index` among all."""
        while len(self._indices) <= index:
            number = self._indices[-1] + 1 if self._indices else 0
            while self.samples.draw_names(self.samples.rng(number))[0] not in self.known:
                number += 1
            self._indices.append(number)
        return self._indices[index]


def _recordings(config: EverydayRun, path: Path, progress: Progress) -> list[Recording]:
    if not path.exists():
        rows = []
        for one in recordings({name: Path(of) for name, of in config.folders.items()}):
            rows.append(one)
            progress("recordings", len(rows), len(rows), {})
        with replacing(path) as partial, open(partial, "wb") as file:
            np.savez(
                file,
                samples=np.concatenate([one.waveform[:MAX_SAMPLES] for one in rows]),
                lengths=[min(len(one.waveform), MAX_SAMPLES) for one in rows],
                nouns=[one.noun for one in rows],
                origins=[one.origin for one in rows],
                names=[one.name for one in rows],
            )
    with np.load(path) as stored:
        parts = np.split(stored["samples"], np.cumsum(stored["lengths"])[:-1])
        labels = zip(stored["nouns"], stored["origins"], stored["names"], strict=True)
        return [
            Recording(*map(str, label), part) for label, part in zip(labels, parts, strict=True)
        ]


MAX_SAMPLES = 16_000 * 20
"""Of one recording: more of the same teaches nothing."""


def _utterances(folder: Path, num: int, seed: int) -> list[np.ndarray]:
    """Utterances of all engines, drawn alike often from every file of the corpus."""
    rng = np.random.default_rng(seed)
    paths = sorted(folder.glob("*.npz"))
    found = []
    for path in paths:
        shard = corpus.load(path)
        for index in rng.integers(len(shard.nouns), size=-(-num // len(paths))):
            said = shard.samples[shard.bounds[index] : shard.bounds[index + 1]]
            found.append(said.astype(np.float32) / 32768)
    return found


def _licences(sounds: Sequence[Recording]) -> dict[str, str]:
    used = {one.origin for one in sounds}
    return {one.name: one.licence for one in (*ORIGINS, SOUNDFONT) if one.name in used}
