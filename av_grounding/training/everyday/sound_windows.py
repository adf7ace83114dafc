"""Windows of sound that teach the sound head: a recorded thing, under speech, noise or others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from av_grounding.everyday.recordings import OTHER, Recording
from av_grounding.training.data.spoken_nouns import in_a_room

ACTIVE_DB, SILENT_DB = -22.0, -40.0
"""Of a token's energy below the loudest token's: from here on the thing is heard; below the other
bound it is not. Between them nothing is asked."""
NOBODY, UNASKED = -1, -2


@dataclass(frozen=True)
class Window:
    """`waveform` (s,); `thing` (t,): the thing's number, NOBODY or UNASKED, a token each."""

    waveform: Float32[np.ndarray, " s"]
    thing: Int[np.ndarray, " t"]


class SoundWindows:
    """Window number n depends on the seed and on n alone; nouns are drawn alike often.

    `speech` are utterances at 16 kHz of any level. Things that have recordings of several origins
    are drawn from each origin alike often, so that no collection stands for a thing.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        speech: Sequence[Float32[np.ndarray, " s"]],
        nouns: Sequence[str],
        *,
        seed: int = 0,
        num_tokens: int = 14,
        token_samples: int = 3072,
    ) -> None:
        self.speech, self.seed = speech, seed
        self.num_tokens, self.token_samples = num_tokens, token_samples
        self.number = {noun: index for index, noun in enumerate(nouns)}
        by_noun: dict[str, dict[str, list[np.ndarray]]] = {}
        for one in recordings:
            by_noun.setdefault(one.noun, {}).setdefault(one.origin, []).append(one.waveform)
        self.others = [w for of in by_noun.pop(OTHER, {}).values() for w in of]
        self.by_noun: Mapping[str, dict[str, list[np.ndarray]]] = dict(sorted(by_noun.items()))
        if not self.by_noun or not self.others or not len(speech):
            raise ValueError(
                f"recordings of {len(self.by_noun)} things, {len(self.others)} of others and "
                f"{len(speech)} utterances; expected some of each"
            )

    @property
    def nouns(self) -> tuple[str, ...]:
        """Things that sound."""
        return tuple(self.by_noun)

    def __getitem__(self, index: int) -> Window:
        rng = np.random.default_rng((self.seed, index))
        num_samples = self.num_tokens * self.token_samples
        thing = np.full(self.num_tokens, NOBODY)
        mixture = np.zeros(num_samples, np.float32)
        if rng.random() < 0.75:
            noun = list(self.by_noun)[rng.integers(len(self.by_noun))]
            origins = list(self.by_noun[noun].values())
            sounds = origins[rng.integers(len(origins))]
            clip = self._placed(sounds[rng.integers(len(sounds))], rng)
            thing = self._heard(clip, self.number[noun])
            mixture += clip
        elif rng.random() < 0.5:
            mixture += self._placed(self.others[rng.integers(len(self.others))], rng)
        if rng.random() < 0.5:
            spoken = self._placed(self.speech[rng.integers(len(self.speech))], rng, speeds=1.05)
            mixture += 10 ** (rng.uniform(-8, 8) / 20) * spoken
        if rng.random() < 0.2:
            other = self._placed(self.others[rng.integers(len(self.others))], rng)
            mixture += 10 ** (rng.uniform(-20, -8) / 20) * other
        if rng.random() < 0.5:
            mixture = in_a_room(mixture[None], rng)[0, :num_samples].astype(np.float32)
        level = np.sqrt(np.mean(np.square(mixture))) + 1e-3
        hiss = rng.standard_normal(num_samples).astype(np.float32)
        return Window(mixture + level * 10 ** (-rng.uniform(18, 60) / 20) * hiss, thing)

    def _placed(
        self, sound: np.ndarray, rng: np.random.Generator, speeds: float = 1.2
    ) -> np.ndarray:
        """A stretch of a sound at unit power, slower or faster, anywhere in the window."""
        num_samples = self.num_tokens * self.token_samples
        speed = np.exp(rng.uniform(-1, 1) * np.log(speeds))
        begin = int(rng.integers(max(1, len(sound) - int(num_samples * speed))))
        part = sound[begin : begin + int(num_samples * speed) + 1].astype(np.float32)
        part = np.interp(np.arange(0, len(part) - 1, speed), np.arange(len(part)), part)
        part = part[:num_samples] / (np.sqrt(np.mean(np.square(part))) + 1e-6)
        placed = np.zeros(num_samples, np.float32)
        start = int(rng.integers(num_samples - len(part) + 1))
        if rng.random() < 0.3 and len(part) < num_samples // 3:
            part = np.resize(np.concatenate([part, np.zeros(len(part) // 3)]), num_samples - start)
        placed[start : start + len(part)] = part
        return placed

    def _heard(self, clip: np.ndarray, number: int) -> np.ndarray:
        power = np.square(clip).reshape(self.num_tokens, -1).mean(axis=1)
        level = 10 * np.log10(power / power.max() + 1e-9)
        heard = np.where(level > ACTIVE_DB, number, UNASKED)
        return np.where(level < SILENT_DB, NOBODY, heard)
