"""Training batches from the synthetic banks: batch `step` depends on the seed and the step."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from av_grounding.synthetic.acoustics import (
    ACTIVE_LEVEL_DBFS,
    active_rms,
    mix,
    reverberate,
)
from av_grounding.synthetic.audio_bank import AudioBank
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import place
from av_grounding.synthetic.scene_bank import SceneBank
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ

NOISE_S = 60
PARTNER_RANGE_DB = 6.0
"""Clips that are summed differ in level by up to this."""


class SyntheticBatches(Dataset):
    """What both kinds of batches share; banks are opened in the worker that reads them."""

    def __init__(self, data: Path, seed: int, num_samples: int, token_samples: int) -> None:
        self.data, self.seed = data, seed
        self.num_samples, self.token_samples = num_samples, token_samples

    def __len__(self) -> int:
        return 2**62

    @cached_property
    def scenes(self) -> SceneBank:
        return SceneBank(self.data / "scenes")

    @cached_property
    def audio(self) -> AudioBank:
        return AudioBank.open(self.data / "audio")

    @cached_property
    def pink_noise(self) -> np.ndarray:
        """Background noise of unit power; clips take random pieces of it."""
        rng = np.random.default_rng(self.seed)
        spectrum = np.fft.rfft(rng.standard_normal(NOISE_S * SAMPLE_RATE_HZ))
        spectrum /= np.maximum(np.arange(len(spectrum)), 1000) ** 0.5
        noise = np.fft.irfft(spectrum)
        return (noise / noise.std()).astype(np.float32)

    def draw_sound(self, class_name: str, rng: np.random.Generator) -> np.ndarray:
        """A crop of a sound; one in four starts late or stops early."""
        sound = self.audio.sound(class_name, rng, self.num_samples)
        if rng.random() < 0.25:
            cut = int(rng.integers(self.num_samples // 8, self.num_samples // 2))
            sound = sound.copy()
            sound[slice(cut) if rng.random() < 0.5 else slice(-cut, None)] = 0.0
        return self.room(sound, rng)

    def draw_speech(
        self, class_name: str, rng: np.random.Generator
    ) -> tuple[np.ndarray, tuple[float, float]]:
        clip, span = place(self.audio.utterance(class_name, rng), self.num_samples, rng)
        return self.room(clip, rng), span

    def room(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return reverberate(waveform, int(rng.integers(2**31))) if rng.random() < 0.3 else waveform

    def with_noise(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Background noise 10 to 45 dB under the clip."""
        start = int(rng.integers(len(self.pink_noise) - len(waveform)))
        level = float(np.sqrt(np.mean(np.square(waveform)) + 1e-8)) * 10 ** -rng.uniform(0.5, 2.25)
        return waveform + np.float32(level) * self.pink_noise[start : start + len(waveform)]

    def silent_tokens(self, waveform: np.ndarray) -> np.ndarray:
        """1 for tokens whose samples are at least 40 dB under the clip's loudest, else 0."""
        blocks = waveform.reshape(-1, self.token_samples)
        level = np.sqrt(np.square(blocks).mean(axis=1))
        return (level < 0.01 * level.max()).astype(np.float32)


class MixAndSeparateBatches(SyntheticBatches):
    """Batches of the sss recipe (see `MixAndSeparate`)."""

    def __init__(self, *args: object, batch_size: int, ratio_db: float = 6.0, **kwargs: object):
        super().__init__(*args, **kwargs)
        self.batch_size, self.ratio_db = batch_size, ratio_db

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, 1, step))
        scenes = np.sort(rng.choice(len(self.scenes.classes), self.batch_size, replace=False))
        views = rng.integers(2, size=self.batch_size)
        pixels = self.scenes.images[scenes, views]
        flip = rng.random(self.batch_size) < 0.5
        pixels[flip] = pixels[flip, :, ::-1]
        sound_class, speech_class, sounds, speeches = [], [], [], []
        for members in self.scenes.classes[scenes]:
            sounding, named = rng.permutation(members[members >= 0])[:2]
            sound_class.append(sounding)
            speech_class.append(named)
            sounds.append(self.draw_sound(CLASSES[sounding], rng))
            speeches.append(self.draw_speech(CLASSES[named], rng)[0])
        mixtures = [
            mix(sound, speech, float(rng.uniform(-self.ratio_db, self.ratio_db))).mixture
            for sound, speech in zip(sounds, speeches[1:] + speeches[:1], strict=True)
        ]
        present = np.zeros((self.batch_size, len(CLASSES)), bool)
        for row, members in zip(present, self.scenes.classes[scenes], strict=True):
            row[members[members >= 0]] = True
        return {
            "pixels": to_pixels(pixels),
            "sound": torch.from_numpy(np.stack([self.with_noise(s, rng) for s in sounds])),
            "speech": torch.from_numpy(np.stack([self.with_noise(s, rng) for s in speeches])),
            "mixture": torch.from_numpy(np.stack([self.with_noise(s, rng) for s in mixtures])),
            "sound_silent": torch.from_numpy(np.stack([*map(self.silent_tokens, sounds)])),
            "speech_silent": torch.from_numpy(np.stack([*map(self.silent_tokens, speeches)])),
            # Clip i is a negative for image j unless j shows clip i's class.
            "present": torch.from_numpy(present),
            "sound_class": torch.tensor([*map(int, sound_class)]),
            "speech_class": torch.tensor([*map(int, speech_class)]),
        }


class PartnerBatches(SyntheticBatches):
    """Batches of the oneavm recipe (see `OneAvm`): pictures, and the sound of one thing in each.

    Neighbours, the last and the first too, may be mixed: neither's sound is of anything that the
    other's picture shows.
    """

    def __init__(self, *args: object, batch_size: int, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.batch_size = batch_size

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, 2, step))
        scenes, sounding = self.draw_ring(rng)
        pixels = self.scenes.images[scenes, rng.integers(2, size=self.batch_size)]
        flip = rng.random(self.batch_size) < 0.5
        pixels[flip] = pixels[flip, :, ::-1]
        clips = [self.with_noise(self.draw_sound(CLASSES[name], rng), rng) for name in sounding]
        levels_db = ACTIVE_LEVEL_DBFS - rng.uniform(0.0, PARTNER_RANGE_DB, self.batch_size)
        gains = 10 ** (levels_db / 20) / np.array([active_rms(clip) for clip in clips])
        return {
            "pixels": to_pixels(pixels),
            "audio": torch.from_numpy(np.stack(clips) * gains[:, None].astype(np.float32)),
            "present": torch.from_numpy(self.shown(scenes)),
            "audio_class": torch.tensor([*map(int, sounding)]),
        }

    def shown(self, scenes: np.ndarray) -> np.ndarray:
        """Which classes each scene shows, (n, classes)."""
        classes = self.scenes.classes[scenes]
        return (classes[:, :, None] == np.arange(len(CLASSES))).any(axis=1)

    def draw_ring(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Scenes and what sounds in each, drawn one by one until it suits its neighbours."""
        while True:
            scenes: list[int] = []
            sounding: list[int] = []
            for _ in range(100 * self.batch_size):
                scene = int(rng.integers(len(self.scenes.classes)))
                members = self.scenes.classes[scene]
                name = int(rng.choice(members[members >= 0]))
                is_last = len(scenes) == self.batch_size - 1
                neighbours = [-1, *([0] if is_last else [])] if scenes else []
                suits = all(
                    name not in self.scenes.classes[scenes[i]] and sounding[i] not in members
                    for i in neighbours
                )
                if suits and scene not in scenes:
                    scenes.append(scene)
                    sounding.append(name)
                if len(scenes) == self.batch_size:
                    return np.array(scenes), np.array(sounding)


class PretextBatches(SyntheticBatches):
    """Batches of the pretext recipe (see `Pretext`)."""

    def __init__(self, *args: object, num_groups: int, num_clips: int, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.num_groups, self.num_clips = num_groups, num_clips

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, 0, step))
        size = self.scenes.spec.num_scenes_per_group
        groups = rng.choice(self.scenes.spec.num_groups, self.num_groups, replace=False)
        scenes = (groups[:, None] * size + np.arange(size)).ravel()
        images, index = self.scenes.images[scenes], self.scenes.index[scenes]
        flip = rng.random((len(scenes), 2)) < 0.5
        images[flip], index[flip] = images[flip][:, :, ::-1], index[flip][:, :, ::-1]
        clips, words = zip(*[self.draw_words(rng) for _ in range(self.num_clips)], strict=True)
        return {
            "view_a": to_pixels(images[:, 0]),
            "view_b": to_pixels(images[:, 1]),
            "index_a": torch.from_numpy(index[:, 0].astype(np.int64)),
            "index_b": torch.from_numpy(index[:, 1].astype(np.int64)),
            "group": torch.arange(self.num_groups).repeat_interleave(size),
            "words_audio": torch.from_numpy(np.stack(clips)),
            "words": torch.from_numpy(np.stack(words)),
        }

    def draw_words(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Speech, three times in four under some sound, and which word each token belongs to."""
        word = int(rng.integers(len(CLASSES)))
        clip, span = self.draw_speech(CLASSES[word], rng)
        if rng.random() < 0.75:
            sound = self.draw_sound(CLASSES[rng.integers(len(CLASSES))], rng)
            clip = mix(sound, clip, float(rng.uniform(-12.0, 6.0)))[0]
        token_s = self.token_samples / SAMPLE_RATE_HZ
        centres = (np.arange(self.num_samples // self.token_samples) + 0.5) * token_s
        words = np.where((centres >= span[0]) & (centres <= span[1]), 1 + word, 0)
        return self.with_noise(clip, rng), words.astype(np.int64)


def to_pixels(images: np.ndarray) -> Tensor:
    """(b,H,W,3) to (b,3,H,W) uint8, channels last in memory; recipes scale it to [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
