"""The contract between data and scoring: samples with ground truth, and what holds them.

A benchmark says what is asked and what is true; a protocol (`evaluation.protocols`) says how the
answer is scored; neither knows a model. Images, clips and masks are loaded when they are asked
for, so that walking over a benchmark costs no disk. Whatever is wrong with the data is listed in
`problems`; nothing is ever put in the place of a sample that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, UInt8

T = TypeVar("T")
Load = Callable[[], T]
"""Reads one thing. Raises OSError or ValueError, naming the file, where it cannot be read."""

Head = Literal["sound", "speech"]
HEADS: tuple[Head, ...] = get_args(Head)

Task = Literal[
    "prompted",
    "simultaneous",
    "localisation",
    "extended",
    "interactive",
    "multi_source",
    "segmentation",
    "semantic",
    "retrieval",
    "disentanglement",
    "separation",
    "recognition",
]
"""What a benchmark asks, and the sample type that it holds:

prompted          `GroundingSample`, one target: ADE20K speech or sound prompted (001)
simultaneous      `GroundingSample`, a sound and a speech target in one mixture: Extended IS3 (000)
localisation      `GroundingSample`, one target: VGG-SS, Flickr; score is IoU per sample
extended          the same plus samples whose `presence` is silent or off_screen
interactive       the same, two or more samples of one image share `group`: IS3
multi_source      `GroundingSample`, one target a source in one mixture: duets, trios
segmentation      `GroundingSample`, one target, one sample a frame, `video_id`: AVSBench S4, MS3
semantic          `SemanticSample`, one sample a frame, `video_id`: AVSS
retrieval         `PairSample`, N images against N clips: PlacesAudio, AudioSet
disentanglement   `PairSample`, clips of both kinds: `head` says which head should answer
separation        `SeparationSample`: MUSIC
recognition       `PairSample` with `class_name`: VGGSound-Music (003)
"""

Presence = Literal["sounding", "silent", "off_screen"]
"""Whether what is heard can be seen; "silent": nothing is heard."""

ProblemKind = Literal[
    "missing_file",
    "unreadable_file",
    "malformed_box",
    "empty_ground_truth",
    "malformed_row",
    "prediction_not_finite",
]


@dataclass(frozen=True, slots=True)
class AudioClip:
    """A waveform, (s,) or (s, channels), float in [-1, 1] or integer, at its file's own rate."""

    waveform: np.ndarray
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class SampleProblem:
    """One thing that is wrong with the data or with a prediction; it is counted and listed."""

    kind: ProblemKind
    sample_id: str
    detail: str
    """What exactly, for a reader: the path that is missing, the values of the box."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing to find in the image, and the head that should find it.

    `load_mask` gives (H, W) float32 in [0, 1] at the resolution at which the benchmark is scored
    (the field's 224x224, or the image's own): 1 on the object, 0 off it, in between only for a
    consensus of annotators (Flickr: 0.5 where one of two drew a box). All zeros where there is
    nothing to find. `boxes` are the annotated boxes as xyxy fractions of width and height, for
    display. `word_span_s` is when the word is spoken in the clip.
    """

    head: Head
    class_name: str
    load_mask: Load[Float32[np.ndarray, "H W"]]
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    word_span_s: tuple[float, float] | None = None
    tile: tuple[float, float] = (0.0, 1.0)
    """Left and right end of the picture that it is in, where several stand side by side."""


@dataclass(frozen=True, kw_only=True)
class GroundingSample:
    """An image and a clip, and where in the image each head should point.

    `load_clip` is None where there is no sound at all (a silent sample); a clip from elsewhere is
    loaded for an off-screen one. Then targets stay, with empty masks. `frame_s` is the frame's
    time in the clip, where the clip is longer than the moment of the frame (AVSBench); None
    where the picture stands for the whole clip.
    """

    id: str
    load_image: Load[UInt8[np.ndarray, "H W 3"]]
    load_clip: Load[AudioClip] | None
    targets: tuple[Target, ...]
    presence: Presence = "sounding"
    text: str = ""
    """What is said, if anything."""
    group: str = ""
    """Samples that are judged together: the image of an interactive pair."""
    video_id: str = ""
    frame_s: float | None = None
    load_twin: Load[Float32[np.ndarray, "H W"]] | None = None
    """Mask of what looks like a target and is silent, where the benchmark asks for that."""


@dataclass(frozen=True, kw_only=True)
class SemanticSample:
    """A frame and a clip with a class for each pixel: 0 is background, i is `class_names[i]`."""

    id: str
    load_image: Load[UInt8[np.ndarray, "H W 3"]]
    load_clip: Load[AudioClip] | None
    load_class_map: Load[Int[np.ndarray, "H W"]]
    video_id: str = ""
    frame_s: float | None = None
    is_padding: bool = False
    """A frame that stands in for one behind a shorter video's end; public code scores it."""


@dataclass(frozen=True, kw_only=True)
class PairSample:
    """An image and the clip that belongs to it; `head` is the one that should know it."""

    id: str
    load_image: Load[UInt8[np.ndarray, "H W 3"]]
    load_clip: Load[AudioClip]
    head: Head
    class_name: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class SeparationSource:
    """One source of a mixture: what it looks like and what it sounds like alone."""

    class_name: str
    load_image: Load[UInt8[np.ndarray, "H W 3"]]
    load_clip: Load[AudioClip]
    """As it is summed into the mixture, at the mixture's rate and length."""
    load_mask: Load[np.ndarray] | None = None
    """(H, W), above 0 on the source: for pictures that show other sources of the mixture too."""


@dataclass(frozen=True, kw_only=True)
class SeparationSample:
    """A mixture, the sum of its sources' clips."""

    id: str
    load_mixture: Load[AudioClip]
    sources: tuple[SeparationSource, ...]
    stratum: str = ""
    """A part of the set that is reported apart too."""


Sample = GroundingSample | SemanticSample | PairSample | SeparationSample

SAMPLE_TYPES: Mapping[Task, type] = {
    "prompted": GroundingSample,
    "simultaneous": GroundingSample,
    "localisation": GroundingSample,
    "extended": GroundingSample,
    "interactive": GroundingSample,
    "multi_source": GroundingSample,
    "segmentation": GroundingSample,
    "semantic": SemanticSample,
    "retrieval": PairSample,
    "disentanglement": PairSample,
    "separation": SeparationSample,
    "recognition": PairSample,
}


@dataclass(frozen=True, kw_only=True)
class BenchmarkInfo:
    """What a report says of a benchmark."""

    name: str
    """As typed after `av-grounding evaluate`: "vgg-ss", "synthetic-duet"."""
    task: Task
    heads: tuple[Head, ...]
    citation: str
    num_expected: int | None
    """Samples of the published list, or None where none is published."""
    notes: str = ""
    """Conventions a reader must know: which frame, which boxes, how they are rasterised."""
    class_names: tuple[str, ...] = field(default=())
    """Semantic benchmarks: the name of every class-map value, background first."""


@runtime_checkable
class Benchmark(Protocol):
    """Samples in a fixed order, indexable from 0, each the same whichever others are read.

    Samples with a missing file are not among them: they are in `problems`, which holds what was
    found when the benchmark was opened. A sample whose boxes are all malformed stays, with an
    empty mask. `load_prompt`, for semantic benchmarks, gives a clip that names a class, or is
    None.
    """

    info: BenchmarkInfo
    problems: tuple[SampleProblem, ...]
    load_prompt: Callable[[str], AudioClip] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class ListBenchmark:
    """A benchmark held as a tuple of samples; loaders need no class of their own."""

    info: BenchmarkInfo
    samples: tuple[Sample, ...]
    problems: tuple[SampleProblem, ...] = ()
    load_prompt: Callable[[str], AudioClip] | None = None

    def __post_init__(self) -> None:
        expected = SAMPLE_TYPES[self.info.task]
        for sample in self.samples:
            if not isinstance(sample, expected):
                raise ValueError(
                    f"{self.info.name}: got a {type(sample).__name__} ({sample.id}), expected "
                    f"{expected.__name__} for the task {self.info.task!r}"
                )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]
