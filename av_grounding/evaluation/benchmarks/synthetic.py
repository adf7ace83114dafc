"""Benchmarks of our worlds: every sample is drawn from a seed, when it is asked for.

They have the structure of the field's benchmarks and need no download. Objects, voices and sounds
are those of the test split, which training never sees. The synthetic world is drawn, the everyday
world is composed of photographs and recordings that are installed.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from av_grounding.evaluation.benchmark import (
    AudioClip,
    BenchmarkInfo,
    Head,
    Sample,
    SampleProblem,
    Target,
)
from av_grounding.evaluation.benchmarks.speaking import SpokenName
from av_grounding.evaluation.benchmarks.synthetic_list import KINDS, SAME_AS
from av_grounding.evaluation.benchmarks.table import factory
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.everyday.samples import EverydaySamples
from av_grounding.everyday.utterances import speaker_of
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.samples import Sample as WorldSample
from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.synthetic.scene import render_scene, sample_scene
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ

SPLIT = "test"
NUM_RECENT = 8
"""Drawn samples kept in memory; an older one is drawn again when its picture is asked for."""


@dataclass(frozen=True)
class Key:
    """What a benchmark of one of the worlds is drawn from."""

    name: str
    seed: int
    split: str = SPLIT
    ratio_db: float | None = None
    """Level of the sound over the speech in a mixture; None: drawn."""
    voices: str = "own"
    """The engine that says the drawn world's phrases."""

    @property
    def samples(self) -> SyntheticSamples | EverydaySamples:
        if self.name.startswith("everyday-"):
            return EverydaySamples(self.split, self.seed, ratio_db=self.ratio_db)
        return SyntheticSamples(
            self.split, self.seed, ratio_db=self.ratio_db, speak=speaker_of(self.voices)
        )

    def rng(self, index: int, purpose: int) -> np.random.Generator:
        """Random numbers of a sample; benchmarks share them where their notes say so."""
        family = SAME_AS.get(self.name, self.name)
        # SyntheticSamples itself uses purposes below 256.
        return self.samples.rng(index, purpose + (zlib.crc32(family.encode()) << 8))


@lru_cache(maxsize=NUM_RECENT)
def sample_of(key: Key, index: int) -> WorldSample:
    """A sample of the world, drawn once for all that is asked of it in a row."""
    return key.samples[index]


@lru_cache(maxsize=NUM_RECENT)
def absent_of(key: Key, index: int) -> dict[str, np.ndarray]:
    """See `absent` of the world's samples."""
    return key.samples.absent(index)


@dataclass(frozen=True)
class Drawn:
    """A sample, and the pictures and waveforms that its readers fetch by name."""

    sample: Sample
    arrays: Mapping[str, np.ndarray]


Draw = Callable[[Key, int], Drawn]
_recent: OrderedDict[tuple[Key, int], Drawn] = OrderedDict()


def drawn(key: Key, index: int) -> Drawn:
    """The sample, from memory where it was drawn a moment ago."""
    known = _recent.pop((key, index), None) or draw(key, index)
    return remember(key, index, known)


def draw(key: Key, index: int) -> Drawn:
    """The sample, drawn anew."""
    return factory(key.name)(key, index)


def remember(key: Key, index: int, item: Drawn) -> Drawn:
    """Keep a drawn sample at hand in place of the one unused for longest."""
    _recent[key, index] = item
    while len(_recent) > NUM_RECENT:
        _recent.popitem(last=False)
    return item


@dataclass(frozen=True)
class DrawnImage:
    """Reads a picture of a drawn sample."""

    key: Key
    index: int
    name: str = "image"

    def __call__(self) -> UInt8[np.ndarray, "H W 3"]:
        return drawn(self.key, self.index).arrays[self.name]


@dataclass(frozen=True)
class DrawnClip:
    """Reads a waveform of a drawn sample."""

    key: Key
    index: int
    name: str = "clip"

    def __call__(self) -> AudioClip:
        return AudioClip(drawn(self.key, self.index).arrays[self.name], SAMPLE_RATE_HZ)


class SceneByClass(NamedTuple):
    """A rendered scene by class name."""

    image: np.ndarray
    masks: dict[str, np.ndarray]
    boxes: dict[str, tuple[float, float, float, float]]

    def target(
        self, head: Head, name: str, word_span_s: tuple[float, float] | None = None
    ) -> Target:
        """One object of the scene to find."""
        return Target(
            head=head,
            class_name=name,
            load_mask=PackedMask.of(self.masks[name]),
            boxes=(self.boxes[name],),
            word_span_s=word_span_s,
        )

    def nothing(self, head: Head, name: str) -> Target:
        """Something that is not in the scene, or not heard."""
        empty = np.zeros(self.image.shape[:2], bool)
        return Target(head=head, class_name=name, load_mask=PackedMask.of(empty))


def view(key: Key, rng: np.random.Generator, names: list[str]) -> SceneByClass:
    """A new scene of these classes."""
    height, width = key.samples.image_px
    scene = render_scene(sample_scene(rng, names, key.split), height, width)
    classes = [placed.instance.class_name for placed in scene.spec.objects]
    size = np.array([width, height, width, height])
    boxes = {
        name: tuple((box / size).tolist()) for name, box in zip(classes, scene.boxes, strict=True)
    }
    return SceneByClass(scene.image, dict(zip(classes, scene.masks, strict=True)), boxes)


class SyntheticBenchmark:
    """A benchmark whose samples are drawn when they are asked for.

    Sample i depends on name and seed alone, not on `num`, `workers` or what was read before.
    With `workers`, processes draw the samples behind the one that was asked for.
    """

    def __init__(
        self,
        name: str,
        *,
        num: int | None = None,
        seed: int = 0,
        workers: int = 0,
        split: str = SPLIT,
        ratio_db: float | None = None,
        voices: str = "own",
    ) -> None:
        kind = KINDS[name]
        num = kind.num if num is None else num
        if kind.max_num is not None and num > kind.max_num:
            raise ValueError(
                f"got {num} samples, expected at most {kind.max_num} for {name}: {kind.notes}"
            )
        self.key = Key(name, seed, split, ratio_db, voices)
        world = "everyday" if name.startswith("everyday-") else "synthetic"
        assert self.key.samples is not None, "which says now what this world lacks"
        is_semantic = kind.task == "semantic"
        self.info = BenchmarkInfo(
            name=name,
            task=kind.task,
            heads=kind.heads,
            citation=f"av_grounding's {world} world, {split} split",
            num_expected=num,
            notes=f"{kind.notes} Seed {seed}.",
            class_names=("background", *CLASSES) if is_semantic else (),
        )
        self.problems: tuple[SampleProblem, ...] = ()
        self.load_prompt = SpokenName() if is_semantic else None
        self._num, self._workers = num, workers
        self._samples: dict[int, Sample] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._ahead: dict[int, Future[Drawn]] = {}

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._num:
            raise IndexError(f"sample {index} of {self._num}")
        if index not in self._samples:
            self._start(range(index, min(index + 2 * self._workers, self._num)))
            future = self._ahead.pop(index, None)
            if future is not None:
                remember(self.key, index, future.result())
            self._samples[index] = drawn(self.key, index).sample
        return self._samples[index]

    def _start(self, indices: range) -> None:
        if self._pool is None and self._workers > 0:
            # Not forked: the caller may hold threads, of torch for one.
            self._pool = ProcessPoolExecutor(self._workers, mp_context=get_context("spawn"))
        for index in indices:
            if self._pool and index not in self._samples and index not in self._ahead:
                self._ahead[index] = self._pool.submit(draw, self.key, index)

    def close(self) -> None:
        """Stop drawing ahead; samples can still be read."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool, self._ahead, self._workers = None, {}, 0

    def __getstate__(self) -> dict:
        # A worker process reads samples, and starts no workers of its own.
        return {**self.__dict__, "_pool": None, "_ahead": {}, "_workers": 0}
