"""The values that cross room boundaries and the contracts between rooms.

Everything here is NumPy and standard library, so that a reader of this file knows what flows
through the component without knowing any driver, model runtime or transport.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NewType, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from av_grounding.identification import SourcesSpec, source_maps
from av_grounding.regions import Regions

ImageTokens = NewType("ImageTokens", object)
"""What a backend's `encode_image` returns: opaque, it stays on the backend's device."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A camera image, (H, W, 3) uint8 RGB, stamped with its capture time in nanoseconds."""

    image: UInt8[np.ndarray, "H W 3"]
    stamp_ns: int
    frame_id: str = "camera"


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """A frame that nobody has decoded yet, so that one which is replaced costs nothing.

    `decode` gives the frame, or None where it cannot be read, which the source has said. It is
    called at most once, by the thread that runs the model.
    """

    stamp_ns: int
    decode: Callable[[], Frame | None]
    arrived_s: float | None = None
    """Monotonic seconds at which it came; None: as the source gave it."""


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """What an audio driver delivers: (s,) or (s, channels) samples, any rate.

    `stamp_ns` is the capture time of the first sample. Floating-point samples lie in [-1, 1];
    integer samples are scaled by their type's full range where they enter `av_grounding.audio`.
    """

    samples: np.ndarray
    stamp_ns: int
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class VoiceMarks:
    """What was heard lately, for whoever shows it: consecutive marks of `frame_s` seconds each.

    `stamp_ns` is the start of the first. `level_dbfs` and `is_voiced` (judged speech, and over the
    gate) have one entry per mark; `utterances` are the latest as (start, stop) stamps in
    nanoseconds, oldest first, of which the last may go on.
    """

    stamp_ns: int
    frame_s: float
    level_dbfs: Float32[np.ndarray, " n"]
    is_voiced: Bool[np.ndarray, " n"]
    utterances: tuple[tuple[int, int], ...] = ()


MAX_LOGIT = 30.0
"""Logits lie within this on both sides: there a float32 sigmoid is 0 and 1 to seven digits."""


def sigmoid(logits: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The probability of each logit."""
    return (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)


@dataclass(frozen=True)
class HeadAnswer:
    """What one head says of one frame: m maps on one grid, none where nothing was heard.

    `logits` are calibrated: the published value is their sigmoid, and 0.5 means "as likely as
    not". `labels` name what each map shows, where the model knows; `audio` is the sound that
    belongs to each map, where the model separates it.
    """

    logits: Float32[np.ndarray, "m h w"]
    labels: tuple[str, ...] = ()
    audio: tuple[AudioChunk, ...] = ()
    ids: tuple[int, ...] = ()
    """Of each map's source, 1 to `max_sources`: the same from frame to frame while the source
    stays. A stream gives them to models of several sources."""
    max_sources: int = 0
    """Sources that the model tells apart at most; 0: it does not number its maps."""
    regions: Regions | None = None
    """What the maps are painted of, where the model answers for regions."""

    def __post_init__(self) -> None:
        for name, values in (("labels", self.labels), ("audio", self.audio), ("ids", self.ids)):
            if values and len(values) != len(self.logits):
                raise ValueError(
                    f"{len(values)} {name} for {len(self.logits)} maps: expected one each or none"
                )

    @cached_property
    def heatmap(self) -> Float32[np.ndarray, "h w"]:
        """All maps in one, their largest value in each cell, in [0, 1]; zeros: nothing heard."""
        if not len(self.logits):
            return np.zeros(self.logits.shape[1:], np.float32)
        return sigmoid(self.logits.max(axis=0))

    @property
    def heatmaps(self) -> Float32[np.ndarray, "m h w"]:
        """Each map by itself, in [0, 1]."""
        return sigmoid(self.logits)

    @property
    def source_heatmaps(self) -> Float32[np.ndarray, "n h w"]:
        """Of the sources 1 to `max_sources`, in [0, 1]; zeros for one that is not there."""
        maps = np.zeros((self.max_sources, *self.logits.shape[1:]), np.float32)
        for number, heatmap in zip(self.ids, self.heatmaps, strict=bool(self.max_sources)):
            maps[number - 1] = heatmap
        return maps

    @property
    def names(self) -> tuple[str, ...]:
        """What each map shows: its label, or its source's number, where there is either."""
        return self.labels or tuple(f"source {number}" for number in self.ids)

    @cached_property
    def score(self) -> float:
        """The evidence behind the answer: its largest value, in [0, 1]."""
        return float(self.heatmap.max())


@dataclass(frozen=True, slots=True)
class Grounding:
    """The answer to one frame: every head that the model has, and no other.

    `stamp_ns` and `frame_id` are the frame's own, `image_size` its (H, W) in pixels.
    """

    heads: Mapping[str, HeadAnswer]
    stamp_ns: int
    frame_id: str = "camera"
    image_size: tuple[int, int] = (0, 0)
    heard_ns: int | None = None
    """Where a frame was answered again: when the newest sound was captured that this answer may
    know. None: its first answer, for which `stamp_ns` says so."""

    def __getitem__(self, head: str) -> HeadAnswer:
        """A head's answer; KeyError names those that there are."""
        if head not in self.heads:
            raise KeyError(f"no head {head!r}: this model has {', '.join(self.heads)}")
        return self.heads[head]

    def heatmap(self, head: str) -> Float32[np.ndarray, "h w"]:
        """A head's heatmap in [0, 1]: 0.5 means "as likely as not", zeros "nothing heard"."""
        return self[head].heatmap

    def score(self, head: str) -> float:
        """The evidence behind a head's heatmap: its largest value, in [0, 1]."""
        return self[head].score

    @property
    def sound(self) -> Float32[np.ndarray, "h w"]:
        """`heatmap("sound")`."""
        return self.heatmap("sound")

    @property
    def speech(self) -> Float32[np.ndarray, "h w"]:
        """`heatmap("speech")`."""
        return self.heatmap("speech")


@dataclass(frozen=True, slots=True)
class HeadCalibration:
    """Turns a head's similarity into a probability: sigmoid(scale * similarity + bias)."""

    scale: float = 1.0
    bias: float = 0.0

    def logits(self, similarity: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
        """The calibrated logits, within `MAX_LOGIT`."""
        logits = np.clip(self.scale * similarity + self.bias, -MAX_LOGIT, MAX_LOGIT)
        return logits.astype(np.float32, copy=False)

    def __call__(self, similarity: Float[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
        return sigmoid(self.logits(similarity))


Listens = Literal["recent", "utterance"]
Compares = Literal["inner", "cosine"]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """One head of a model: its name, what it listens to, and what its similarity means.

    `listens`: "recent" pools all that was audible lately, "utterance" the current or last
    utterance, whose tokens are weighted by how peaked their own maps are (salience).
    """

    name: str
    listens: Listens = "recent"
    calibration: HeadCalibration = HeadCalibration()
    min_token_norm: float = 0.0
    """Evidence floor: tokens whose vector is shorter than this say nothing (weight 0)."""
    salience_power: float = 1.0
    """Exponent on a token's salience; 0 gives the plain time mean of the papers."""
    norm_order: int = 2
    """What `min_token_norm` bounds: 2, the Euclidean norm; 1, the sum of magnitudes. Of
    tokens that are posteriors times an evidence the sum is the evidence, however many things share
    the posterior; the Euclidean norm of two that sound at once is .7 of it."""

    def __post_init__(self) -> None:
        if self.listens not in get_args(Listens):
            raise ValueError(
                f"head {self.name!r} listens to {self.listens!r}; expected one of "
                f"{', '.join(get_args(Listens))}"
            )


@dataclass(frozen=True, slots=True)
class SeparationSpec:
    """Of a model that separates: its masks lie on the frames and bins of this `audio.Stft`."""

    stft_window: int
    """Samples in a frame, at the model's rate."""
    stft_hop: int
    """Samples from frame to frame."""
    crop_px: int = 0
    """A place is shown to the image encoder alone (`image.cut_out`), its short side about so many
    pixels; 0: its cells of the whole picture tell what lies there. Of 120 instruments in scenes a
    classifier of photographs named all right alone, and 64 % by cells."""


@dataclass(frozen=True)
class ModelSpec:
    """What the streaming core must know of a model; read from the bundle's config.json.

    A window of `window_s` seconds at `sample_rate_hz` yields `num_tokens` audio tokens of equal
    stride. Images are resized so that their short side is about `short_side_px` and both sides
    are multiples of `patch_px` (see `av_grounding.image.ResizeTransform`).
    """

    heads: tuple[HeadSpec, ...]
    sample_rate_hz: int
    window_s: float
    hop_s: float
    num_tokens: int
    short_side_px: int
    patch_px: int
    context_s: float = 0.0
    """Sound on both sides of a token that the audio encoder looks at, in seconds."""
    token_spacing_s: float = 0.0
    """From token to token, in seconds, where the tokens do not fill the window; 0: they do."""
    token_offset_s: float | None = None
    """From a window's beginning to the moment that its first token stands for, in seconds; None:
    half a stride. A model with one token a window says here how far back that token lies."""
    separation: SeparationSpec | None = None
    """None: this model does not separate."""
    compares: Compares = "inner"
    """What a similarity is: the inner product with the pooled sound, or its cosine, for models
    that were trained with pooled vectors of unit length."""
    sources: SourcesSpec | None = None
    """How the sound heads tell several sources apart; None: one map a head."""

    def __post_init__(self) -> None:
        if self.compares not in get_args(Compares):
            raise ValueError(
                f"compares is {self.compares!r}; expected one of {', '.join(get_args(Compares))}"
            )

    def with_sources(self, num: int) -> ModelSpec:
        """So many maps for every frame; 0 infers how many. ValueError where the model has one."""
        if self.sources is None:
            raise ValueError(
                "this model gives one map a head: expected a bundle of several sources, such as "
                "models/synthetic-sources"
            )
        return replace(self, sources=replace(self.sources, num_sources=num))

    @property
    def num_window_samples(self) -> int:
        return round(self.window_s * self.sample_rate_hz)

    @property
    def token_stride_s(self) -> float:
        return self.token_spacing_s or self.window_s / self.num_tokens

    @property
    def first_token_s(self) -> float:
        """From a window's beginning to its first token's centre, in seconds."""
        half = 0.5 * self.token_stride_s
        return half if self.token_offset_s is None else self.token_offset_s

    @property
    def max_sources(self) -> int:
        """How many sources it tells apart at most; 0: one map a head."""
        return 0 if self.sources is None else self.sources.max_sources

    @property
    def head_names(self) -> tuple[str, ...]:
        return tuple(head.name for head in self.heads)

    def head(self, name: str) -> HeadSpec:
        """A head by its name; KeyError names those that there are."""
        for head in self.heads:
            if head.name == name:
                return head
        raise KeyError(f"no head {name!r}: this model has {', '.join(self.head_names)}")

    def with_heads(self, **changes: Mapping[str, Any]) -> ModelSpec:
        """Other values for some fields of some heads: `with_heads(salience_power={"speech": 0})`.

        Each keyword is a field of `HeadSpec`, its value a mapping from heads to that field.
        """
        heads = tuple(
            replace(
                head,
                **{name: of[head.name] for name, of in changes.items() if head.name in of},
            )
            for head in self.heads
        )
        return replace(self, heads=heads)


@runtime_checkable
class Source(Protocol):
    """Iterates frames, decoded or not, or audio chunks, in capture order.

    `close` may be called from any thread.
    """

    def __iter__(self) -> Iterator[Frame | EncodedFrame | AudioChunk]: ...

    def close(self) -> None: ...


@runtime_checkable
class Sink(Protocol):
    """Takes every published `Grounding` with the frame it answers."""

    def write(self, frame: Frame, grounding: Grounding) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class Stream(Protocol):
    """Sound and frames in, answers out: the streaming core, or a wrapper that has all it has.

    Wrappers (a recorder, a stopwatch, a box for other threads' requests) hold a stream and pass
    every call on, so that any number of them can stand around one another.
    """

    backend: Backend
    config: Any
    """The `StreamingConfig` in force."""
    is_idle: bool
    """Nobody wants answers: sound is kept, and encoded only once a frame asks for it."""
    on_voice: Callable[[VoiceMarks], None] | None
    """Told once per hop what was marked since; runs in the thread that pushes audio."""

    @property
    def stats(self) -> dict[str, Any]:
        """Counters and measurements so far."""
        ...

    def push_audio(self, samples: np.ndarray, stamp_ns: int, sample_rate_hz: int) -> None:
        """Take in a chunk, (s,) or (s, channels), whose first sample was captured at the stamp."""
        ...

    def push_frame(self, image: np.ndarray, stamp_ns: int, frame_id: str = "camera") -> Grounding:
        """The answer to one (H, W, 3) uint8 RGB image."""
        ...

    def look(self, image: np.ndarray) -> None:
        """Encode an image ahead, in one thread beside the one that pushes; `push_frame` of this
        very array then answers at once."""
        ...

    def answer_again(self) -> Grounding | None:
        """The last frame's answer to the sound that came since; None: nothing new was heard."""
        ...

    def separate(self, place: Any, *, lookahead_s: float = ...) -> float:
        """Keep the sound of a place, "peak" or x, y in pixels, from now on; None stops.

        Returns the latency in seconds.
        """
        ...

    def separated(self) -> AudioChunk | None:
        """That sound, as far as it is done since the last call; None: nothing is."""
        ...

    def end_sound(self) -> None:
        """No sound follows: `separated` gives the rest of what is being separated."""
        ...

    def reset(self) -> None:
        """Forget all sound and every stamp."""
        ...

    def hear_apart(self) -> None:
        """Encode sound in a thread of its own; frames get the newest tokens that are finished."""
        ...

    def finish(self, timeout_s: float | None = None) -> None:
        """Wait for the window that is being encoded apart, if any."""
        ...


@runtime_checkable
class AudioStream(Protocol):
    """The windows of one stream of sound, whose encoder keeps what one shares with the next."""

    def encode(
        self, waveform: Float32[np.ndarray, " s"], num_new: int
    ) -> Float32[np.ndarray, "k c t"]:
        """As `Backend.encode_audio` up to 1e-5; `num_new` samples came since the last window."""
        ...

    def reset(self) -> None:
        """Forget the last window."""
        ...


class Backend(ABC):
    """One way to run a bundle. NumPy in and out; image tokens stay opaque in between.

    A model is a set of image positions r (cells of a grid, or regions), each with a vector a
    head, and tokens of sound in time. `similarity` is linear in the queries, so the core pools
    over time first and a similarity volume is never built. Everything up to the calibrated logit
    happens on r; `paint` comes last, since a sigmoid commutes with a maximum.
    """

    name: str
    spec: ModelSpec
    reason: str = ""
    """Why this backend was taken, for reports; written by `load_backend`."""

    @abstractmethod
    def encode_image(self, image: UInt8[np.ndarray, "H W 3"]) -> ImageTokens:
        """`image` already has the model's input size (see `ResizeTransform.apply`)."""

    @abstractmethod
    def encode_audio(self, waveform: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, "k c t"]:
        """`waveform` is one whole window: mono, at `spec.sample_rate_hz`."""

    @abstractmethod
    def similarity(
        self, tokens: ImageTokens, queries: Float32[np.ndarray, "k n c"]
    ) -> Float32[np.ndarray, "k n r"]:
        """Of n audio vectors a head with every cell or region; linear in the queries."""

    @abstractmethod
    def grid(self, tokens: ImageTokens) -> tuple[int, int]:
        """(h, w) of what `paint` gives."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Runtime facts for reports: backend, device, precision, versions."""

    def with_spec(self, spec: ModelSpec) -> Backend:
        """The same loaded model under another spec, such as another calibration."""
        other = copy(self)
        other.spec = spec
        return other

    def paint(
        self, tokens: ImageTokens, values: Float32[np.ndarray, "k n r"]
    ) -> Float32[np.ndarray, "k n h w"]:
        """Values of cells or regions as pictures: cells as they lie; of regions that cover a
        pixel the largest, and -`MAX_LOGIT` where none does."""
        return values.reshape(*values.shape[:2], *self.grid(tokens))

    def maps(
        self,
        tokens: ImageTokens,
        head: str,
        query: Float32[np.ndarray, " c"],
        similarity: Float32[np.ndarray, " r"],
    ) -> Float32[np.ndarray, "m r"]:
        """The maps of one head for its pooled query, whose similarity is known already.

        One map, the similarity; a model of several sources gives one each, by what the cells
        under it look like.
        """
        if self.spec.sources is None:
            return similarity[None]
        # Similarity is linear in the queries: those of the axes are the image's own features.
        axes = np.tile(np.eye(len(query), dtype=np.float32), (len(self.spec.heads), 1, 1))
        features = self.similarity(tokens, axes)[self.spec.head_names.index(head)]
        return source_maps(features, similarity, self.spec.sources.counted(query))

    def labels(
        self, tokens: ImageTokens, head: str, maps: Float32[np.ndarray, "m r"]
    ) -> tuple[str, ...]:
        """What each map shows; none where the model has no names."""
        return ()

    def regions(self, tokens: ImageTokens, logits: Float32[np.ndarray, " r"]) -> Regions | None:
        """The regions that these calibrated logits belong to; None for a model of cells."""
        return None

    def embed(
        self, image: UInt8[np.ndarray, "H W 3"], window: Float32[np.ndarray, " s"]
    ) -> tuple[Float32[np.ndarray, " e"], Float32[np.ndarray, " e"]] | None:
        """A picture and a whole window as unit vectors of one space, for recognition (003).

        None: this model has no vectors of wholes, or the backend does not compute them.
        """
        return None

    @property
    def separates(self) -> bool:
        """Whether `separation_masks` gives any."""
        return False

    def separation_masks(
        self,
        tokens: ImageTokens,
        window: Float32[np.ndarray, " s"],
        maps: Float32[np.ndarray, "m r"],
    ) -> Float32[np.ndarray, "m f t"] | None:
        """How much of each bin of a window's STFT belongs to each map, in [0, 1].

        `window` is one whole window; `maps` weigh cells or regions, at least 0. Bins and frames
        are those of `spec.separation`. None: this model does not separate.
        """
        return None

    def audio_stream(self) -> AudioStream | None:
        """A new stream; None where this model's windows share nothing that can be kept."""
        return None

    @property
    def max_audio_batch(self) -> int:
        """Windows in one call at most; 1 where more do not pay."""
        return 1

    def encode_audio_batch(
        self, waveforms: Float32[np.ndarray, "n s"]
    ) -> Float32[np.ndarray, "n k c t"]:
        """As `encode_audio` of each up to 1e-5; not the same bits for every n."""
        return np.stack([self.encode_audio(waveform) for waveform in waveforms])

    @property
    def num_parameters(self) -> int:
        """Of all encoders together: what is economical depends on it."""
        return 0

    def use_threads(self, num_threads: int) -> None:  # noqa: B027
        """Compute on so many CPU threads from now on; without effect on another device."""

    @property
    def sees_slowly(self) -> bool:
        """An image takes long beside the hop: a live run encodes images in a thread of their own,
        which `encode_image` must allow beside every other call."""
        return False

    @property
    def hears_slowly(self) -> bool:
        """A window takes long beside a frame: a live run encodes sound in a thread of its own."""
        return False
