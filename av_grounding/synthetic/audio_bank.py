"""Banks of sounds and utterances on disk, memory-mapped: drawing a clip takes microseconds."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from av_grounding.files import atomic_write, write_json
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import instance_seed
from av_grounding.synthetic.sounds import synthesize_sound
from av_grounding.synthetic.speech import (
    CARRIERS,
    VOICES,
    Speak,
    Utterance,
    engine_version,
    synthesize_utterance,
)

logger = logging.getLogger(__name__)

STORED_SOUND_S = 4.0
CACHE_VARIABLE = "AV_GROUNDING_CACHE"
_FORMAT = 1
_FULL_SCALE = 32767.0
_INDEX = "index.json"


def default_directory() -> Path:
    """Where banks live: $AV_GROUNDING_CACHE, or the user's cache folder, then `synthetic`."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser() / "synthetic"
    import platformdirs

    return Path(platformdirs.user_cache_dir("av_grounding")) / "synthetic"


@dataclass(frozen=True)
class _Parameters:
    """What a bank holds; a part made with other values is made again."""

    split: str
    num_sounds_per_class: int
    num_utterances_per_class: int
    seed: int
    engine: str
    code: str
    speakers: str = ""
    format: int = _FORMAT

    def __post_init__(self) -> None:
        for name in ("num_sounds_per_class", "num_utterances_per_class"):
            if getattr(self, name) < 1:
                raise ValueError(f"got {name} {getattr(self, name)}, expected 1 or more; raise it")
        if self.split not in VOICES:
            raise ValueError(
                f"got split {self.split!r}, expected one of {', '.join(VOICES)}; pick one of them"
            )
        if self.seed < 0:
            raise ValueError(f"got seed {self.seed}, expected 0 or more; drop the sign")


@dataclass(frozen=True)
class _Part:
    """One class's clips: `sounds` (n, s), `speech` all utterances end to end, `index` theirs."""

    sounds: np.ndarray
    speech: np.ndarray
    utterances: list[dict[str, Any]]


class AudioBank:
    """Sounds (4 s each) and utterances per class, stored as int16 at 16 kHz."""

    def __init__(self, directory: Path, parameters: dict[str, Any]) -> None:
        self.directory, self.parameters = directory, parameters
        self._parts: dict[str, _Part] = {}

    @classmethod
    def build(
        cls,
        directory: Path | str | None,
        split: str,
        *,
        num_sounds_per_class: int,
        num_utterances_per_class: int,
        seed: int,
        progress: Callable[[int, int], None] | None = None,
        workers: int = 2,
        speak: Speak | None = None,
    ) -> AudioBank:
        """Synthesise the bank unless `directory` already holds it; `progress(done, total)`.

        Every second utterance is `speak`'s where that is given; worker processes get a copy.
        None stands for `default_directory()/audio/<split>`. Classes are written one by one, each
        complete or not at all, so that a build that was stopped goes on where it was. Raises
        RuntimeError where espeak-ng is missing.
        """
        directory = default_directory() / "audio" / split if directory is None else Path(directory)
        parameters = _Parameters(
            split,
            num_sounds_per_class,
            num_utterances_per_class,
            seed,
            engine_version(),
            _code_digest(),
            repr(speak) if speak else "",
        )
        if _read_json(directory / _INDEX) == asdict(parameters):
            return cls.open(directory)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _INDEX).unlink(missing_ok=True)
        missing = [
            name
            for name in CLASSES
            if _read_json(directory / f"{name}.json").get("parameters") != asdict(parameters)
        ]
        num_done, total = len(CLASSES) - len(missing), len(CLASSES)
        logger.info("building %d of %d classes in %s", len(missing), total, directory)
        if progress is not None:
            progress(num_done, total)
        # Not forked: the caller may hold threads, of torch for one.
        pool = ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn"))
        try:
            jobs = [
                pool.submit(_build_class, directory, name, parameters, speak) for name in missing
            ]
            for num_now, job in enumerate(as_completed(jobs), num_done + 1):
                job.result()
                if progress is not None:
                    progress(num_now, total)
        finally:
            pool.shutdown(cancel_futures=True)
        write_json(directory / _INDEX, asdict(parameters))
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path | str | None, split: str = "train") -> AudioBank:
        """A finished bank; None stands for the default place of `split`."""
        directory = default_directory() / "audio" / split if directory is None else Path(directory)
        parameters = _read_json(directory / _INDEX)
        if not parameters:
            raise FileNotFoundError(
                f"got {directory}, expected a finished audio bank; make it with AudioBank.build"
            )
        return cls(directory, parameters)

    def sound(
        self, class_name: str, rng: np.random.Generator, num_samples: int
    ) -> Float32[np.ndarray, " s"]:
        """A random crop of a random individual's sound; at most 4 s long."""
        sounds = self._part(class_name).sounds
        if not 1 <= num_samples <= sounds.shape[1]:
            raise ValueError(
                f"got num_samples {num_samples}, expected 1..{sounds.shape[1]}; "
                "synthesize_sound makes longer ones"
            )
        row = int(rng.integers(len(sounds)))
        start = int(rng.integers(sounds.shape[1] - num_samples + 1))
        return sounds[row, start : start + num_samples].astype(np.float32) / _FULL_SCALE

    def utterance(self, class_name: str, rng: np.random.Generator) -> Utterance:
        """A random stored utterance that names the class."""
        part = self._part(class_name)
        entry = part.utterances[int(rng.integers(len(part.utterances)))]
        start, stop = entry["samples"]
        return Utterance(
            waveform=part.speech[start:stop].astype(np.float32) / _FULL_SCALE,
            text=entry["text"],
            class_name=class_name,
            word_span_s=(entry["word_span_s"][0], entry["word_span_s"][1]),
            voice=entry["voice"],
        )

    def _part(self, class_name: str) -> _Part:
        if class_name not in self._parts:
            if class_name not in CLASSES:
                raise ValueError(
                    f"got class {class_name!r}, expected one of {', '.join(CLASSES)}; "
                    "pick one of them"
                )
            self._parts[class_name] = _Part(
                np.load(self.directory / f"{class_name}.sounds.npy", mmap_mode="r"),
                np.load(self.directory / f"{class_name}.speech.npy", mmap_mode="r"),
                _read_json(self.directory / f"{class_name}.json")["utterances"],
            )
        return self._parts[class_name]

    def __getstate__(self) -> dict[str, Any]:
        # A worker maps the files itself: a pickled memory map would carry all of their bytes.
        return {**self.__dict__, "_parts": {}}


def _build_class(
    directory: Path, class_name: str, parameters: _Parameters, speak: Speak | None
) -> None:
    rng = np.random.default_rng((parameters.seed, CLASSES.index(class_name)))
    num_sounds = parameters.num_sounds_per_class
    sounds = np.stack(
        [
            _to_int16(synthesize_sound(class_name, seed, STORED_SOUND_S))
            for seed in _distinct_seeds(rng, parameters.split, num_sounds)
        ]
    )
    voices, waveforms, entries, position = VOICES[parameters.split], [], [], 0
    seeds = _distinct_seeds(rng, parameters.split, parameters.num_utterances_per_class)
    # Shuffled rounds rather than free draws: every voice and phrase occurs about equally often.
    voice_order = _rounds(len(voices), len(seeds), rng)
    carrier_order = _rounds(len(CARRIERS), len(seeds), rng)
    drawn = zip(seeds, voice_order, carrier_order, strict=True)
    for number, (seed, voice_index, carrier_index) in enumerate(drawn):
        carrier = CARRIERS[carrier_index]
        if speak is not None and number % 2:
            utterance = speak(class_name, carrier, seed)
        else:
            utterance = synthesize_utterance(class_name, carrier, voices[voice_index], seed)
        waveforms.append(_to_int16(utterance.waveform))
        entries.append(
            {
                "samples": [position, position + len(waveforms[-1])],
                "text": utterance.text,
                "word_span_s": list(utterance.word_span_s),
                "voice": utterance.voice,
            }
        )
        position += len(waveforms[-1])
    for kind, array in (("sounds", sounds), ("speech", np.concatenate(waveforms))):
        with atomic_write(directory / f"{class_name}.{kind}.npy") as file:
            np.save(file, array)
    part = {"parameters": asdict(parameters), "utterances": entries}
    write_json(directory / f"{class_name}.json", part)


def _distinct_seeds(rng: np.random.Generator, split: str, number: int) -> list[int]:
    seeds: dict[int, None] = {}
    while len(seeds) < number:
        seeds[instance_seed(rng, split)] = None
    return list(seeds)


def _rounds(size: int, number: int, rng: np.random.Generator) -> list[int]:
    return [int(i) for _ in range(-(-number // size)) for i in rng.permutation(size)][:number]


def _to_int16(waveform: Float32[np.ndarray, " s"]) -> np.ndarray:
    return np.round(np.clip(waveform, -1.0, 1.0) * _FULL_SCALE).astype(np.int16)


@cache
def _code_digest() -> str:
    """Of the code that makes the clips: a bank from older code is not taken for a new one."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for name in ("acoustics", "sound_blocks", "sounds", "sounds_living", "sounds_made"):
        digest.update((here / f"{name}.py").read_bytes())
    for name in ("speech", "espeak_worker"):
        digest.update((here / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    """What the file holds; empty where it is missing or was cut off."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}
