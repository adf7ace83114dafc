"""What a model answers to a benchmark, by the clip as a whole or through the streaming core."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import NS_PER_S, resample, to_clean_mono
from av_grounding.evaluation.benchmark import AudioClip
from av_grounding.evaluation.windows import with_window
from av_grounding.grounder import Grounder, longest_hop_s
from av_grounding.image import ResizeTransform
from av_grounding.regions import Regions, painted
from av_grounding.streaming.hearing import Hearing
from av_grounding.streaming.listening import listen_to_clip
from av_grounding.streaming.places import NothingHeard
from av_grounding.streaming.pooling import AudioQuery, answer
from av_grounding.types import HeadAnswer, HeadCalibration, ModelSpec

GATED_LOGIT = -40.0
"""Where a head heard nothing: below anything that a head says."""
WORD_MARGIN_S = 0.2
"""DenseAV widens a word's timing by this much on both sides (001, released code)."""
STREAM_CHUNK_S = 0.02
STREAM_FRAME_S = 0.25
STREAM_TAIL_S = 1.0


@dataclass(frozen=True)
class HeadGrids:
    """Each head's maps on the model's grid, (m, h, w) logits: similarities up to an affine.

    sigmoid(logit) is the calibrated value. One map for a head that does not know how many
    sources there are. A head that heard nothing holds `GATED_LOGIT` and is named in `gated`.
    """

    logits: Mapping[str, Float32[np.ndarray, "m h w"]]
    gated: tuple[str, ...] = ()
    is_by_target: bool = False
    """Whether map i was made for target i, as by a model that is told the classes."""
    regions: Mapping[str, Regions] = field(default_factory=dict)
    """What a head's maps are painted of, where the model answers for regions and heard."""
    region_classes: tuple[int, ...] = ()
    """Of the sound head's regions, where classes were asked for: which of them; -1 for none."""

    def merged(self, head: str) -> Float32[np.ndarray, "h w"]:
        """All maps of a head in one, the largest value in each cell: for a single question."""
        return self.logits[head].max(axis=0)


@dataclass(frozen=True)
class PairFeatures:
    """One image and one clip in the shared space: inner products are similarities."""

    image: Float32[np.ndarray, "k c r"]
    tokens: Float32[np.ndarray, "k t c"]
    wholes: tuple[Float32[np.ndarray, " e"], Float32[np.ndarray, " e"]] | None = None
    """The picture and the clip's middle window as vectors of their own, where a model has them."""


@runtime_checkable
class Predictor(Protocol):
    """What the harness asks of a model. Maps alone are a must.

    Optional, looked up by name: `features(image, clip) -> PairFeatures` for retrieval,
    disentanglement and recognition; `classify(image, clip, prompts) -> HeadGrids` with heads
    "sound" and "classes" for semantic segmentation; `separate(images, mixture, masks) -> (k, s)`,
    masks None or, where a source has one, what marks it in its picture.
    """

    def ground(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        clip: AudioClip | None,
        word_span_s: tuple[float, float] | None = None,
        frame_s: float | None = None,
    ) -> HeadGrids: ...

    def describe(self) -> dict[str, Any]: ...


class Unbounded(HeadCalibration):
    """Logits beyond `MAX_LOGIT` too, where a 32-bit sigmoid would make strong answers equal."""

    def logits(self, similarity: np.ndarray) -> np.ndarray:
        return np.asarray(self.scale * similarity + self.bias, np.float32)


def unbounded(spec: ModelSpec) -> ModelSpec:
    """The same heads, whose logits have no bounds."""
    own = {head.name: head.calibration for head in spec.heads}
    return spec.with_heads(
        calibration={name: Unbounded(one.scale, one.bias) for name, one in own.items()}
    )


@dataclass(frozen=True)
class StreamingOptions:
    """How a clip is played to the stream; None leaves the bundle's own value."""

    window_s: float | None = None
    hop_s: float | None = None


class GrounderPredictor:
    """A `Grounder` as the harness wants it.

    Offline, a clip is heard as a whole, every audible token alike. With `streaming` it is played
    from silence in chunks of 20 ms while the picture stands before the camera at four frames a
    second; a head's map is the mean over the frames at which it was not gated. Where a sample
    names the frame's moment, only that frame counts.
    """

    def __init__(
        self,
        grounder: Grounder,
        streaming: StreamingOptions | None = None,
        *,
        word_margin_s: float = WORD_MARGIN_S,
        sources: str = "auto",
    ) -> None:
        """`sources`: "given" tells a model that tells sources apart how many there are."""
        self.streaming, self._word_margin_s = streaming, word_margin_s
        self.is_told_sources = sources == "given" and bool(grounder.spec.max_sources)
        backend = grounder.backend
        if streaming and streaming.window_s not in (None, backend.spec.window_s):
            if streaming.window_s < backend.spec.hop_s:
                raise ValueError(
                    f"got a window of {streaming.window_s} s, expected at least the hop of "
                    f"{backend.spec.hop_s} s"
                )
            backend = with_window(backend, streaming.window_s)
        self._backend = backend.with_spec(unbounded(backend.spec))
        config = grounder.config
        if streaming and streaming.hop_s:
            config = replace(config, hop_s=streaming.hop_s)
        self._grounder = Grounder(self._backend, config)
        self._prompts: dict[str, AudioQuery] = {}
        separates = backend.spec.separation is not None
        self.separate = self._separate if separates else None

    def describe(self) -> dict[str, Any]:
        spec = self._backend.spec
        way: dict[str, Any] = {"mode": "whole clip", "hop_s": longest_hop_s(spec)}
        if self.streaming:
            way = {
                "mode": "streaming",
                "hop_s": self._grounder.config.hop_s or spec.hop_s,
                "frame_step_s": STREAM_FRAME_S,
            }
        facts: dict[str, Any] = {"window_s": spec.window_s, "heads": spec.head_names}
        if spec.max_sources:
            facts["num_sources"] = "given" if self.is_told_sources else "inferred"
        return {**self._backend.describe(), **way, **facts}

    def ground(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        clip: AudioClip | None,
        word_span_s: tuple[float, float] | None = None,
        frame_s: float | None = None,
        num_sources: int = 0,
    ) -> HeadGrids:
        grounder = self._grounder
        if num_sources:
            num_sources = min(num_sources, grounder.spec.max_sources)
            grounder = grounder.with_spec(grounder.spec.with_sources(num_sources))
        if clip is None:
            clip = AudioClip(
                np.zeros(self._backend.spec.num_window_samples, np.float32),
                self._backend.spec.sample_rate_hz,
            )
        if self.streaming and word_span_s is None:
            return self._stream(grounder, image, clip, frame_s)
        if word_span_s is not None:
            start_s, stop_s = word_span_s
            word_span_s = (max(0.0, start_s - self._word_margin_s), stop_s + self._word_margin_s)
        grounding = grounder.ground(
            image, clip.waveform, clip.sample_rate_hz, word_span_s=word_span_s
        )
        return _grids({head: [one] for head, one in grounding.heads.items()})

    def _stream(
        self, grounder: Grounder, image: np.ndarray, clip: AudioClip, frame_s: float | None
    ) -> HeadGrids:
        stream = grounder.stream()
        chunk = max(1, round(STREAM_CHUNK_S * clip.sample_rate_hz))
        duration_s = len(clip.waveform) / clip.sample_rate_hz
        silence = np.zeros(
            (round(STREAM_TAIL_S * clip.sample_rate_hz), *clip.waveform.shape[1:]),
            clip.waveform.dtype,
        )
        waveform = np.concatenate([clip.waveform, silence])
        for start in range(0, len(waveform), chunk):
            stamp_ns = round(start / clip.sample_rate_hz * NS_PER_S)
            stream.push_audio(waveform[start : start + chunk], stamp_ns, clip.sample_rate_hz)
        moments = [frame_s] if frame_s is not None else _moments(duration_s)
        shown = [stream.push_frame(image, round(t * NS_PER_S)) for t in moments]
        heads = self._backend.spec.head_names
        return _grids({head: [one[head] for one in shown] for head in heads})

    def features(self, image: UInt8[np.ndarray, "H W 3"], clip: AudioClip) -> PairFeatures:
        """Image features by grounding the axes of the shared space; every token of the clip."""
        hearing, heard = self._hear(clip)
        slots = hearing.aggregator.read()
        is_in_clip = (slots.bounds[:-1] < heard) & (slots.trust > 0.0)
        num_heads, num_channels = len(self._backend.spec.heads), hearing.num_channels
        axes = np.tile(np.eye(num_channels, dtype=np.float32), (num_heads, 1, 1))
        image_features = self._backend.similarity(self._encode(image), axes)
        spec = self._backend.spec
        wholes = self._backend.embed(
            self._placed(image),
            middle_of(
                resample(
                    to_clean_mono(clip.waveform)[0], clip.sample_rate_hz, spec.sample_rate_hz
                ),
                spec.num_window_samples,
            ),
        )
        return PairFeatures(
            np.asarray(image_features, np.float32), slots.vectors[:, is_in_clip], wholes
        )

    def classify(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        clip: AudioClip | None,
        prompts: Mapping[str, Callable[[], AudioClip]],
    ) -> HeadGrids:
        """Zero-shot classes: the sound map, and one map a class.

        By their spoken names, or by what a model of regions calls each of them.
        """
        if getattr(self._backend, "names", ()):
            return self._classify_regions(self.ground(image, clip), list(prompts))
        missing = {"sound", "speech"} - set(self._backend.spec.head_names)
        if missing:
            raise ValueError(
                f"got a model without a head {' and '.join(sorted(missing))}, expected both: "
                "classes are told by their spoken names where there is sound"
            )
        tokens, maps = self._encode(image), []
        for name, load in prompts.items():
            if name not in self._prompts:
                hearing, heard = self._hear(load())
                queries = listen_to_clip(hearing, self._backend.spec, self._grounder.config, heard)
                if "speech" not in queries:
                    raise ValueError(f"the prompt of class {name!r} holds no speech that is heard")
                self._prompts[name] = queries["speech"]
            said = self._prompts[name]
            heads = answer(self._backend, tokens, {"speech": said}, said.vectors.shape[1])
            maps.append(heads["speech"].logits.max(axis=0))
        sound = self.ground(image, clip)
        return HeadGrids({"sound": sound.logits["sound"], "classes": np.stack(maps)}, sound.gated)

    def _separate(
        self,
        images: Sequence[UInt8[np.ndarray, "H W 3"]],
        mixture: AudioClip,
        masks: Sequence[np.ndarray | None] | None = None,
    ) -> Float32[np.ndarray, "k s"]:
        """What belongs to each picture: to its mask, or else to its own heatmap for the mixture.

        A picture whose heatmap is silent gets silence: that is the model's answer, and counted.
        """
        mono = to_clean_mono(mixture.waveform)[0]
        separated = []
        for image, mask in zip(images, masks or [None] * len(images), strict=True):
            try:
                one = self._grounder.separate(image, mono, mixture.sample_rate_hz, mask=mask)
                separated.append(one.separated)
            except NothingHeard:
                separated.append(np.zeros_like(mono))
        return np.stack(separated)

    @staticmethod
    def _classify_regions(grids: HeadGrids, names: list[str]) -> HeadGrids:
        (sound,) = grids.logits["sound"].max(axis=0, keepdims=True)
        maps = np.full((len(names), *sound.shape), GATED_LOGIT, np.float32)
        classes: tuple[int, ...] = ()
        if "sound" in grids.regions:
            regions = grids.regions["sound"]
            numbers = {name: number for number, name in enumerate(names)}
            classes = tuple(numbers.get(label, -1) for label in regions.labels)
            for number in set(classes) - {-1}:
                own = np.array(classes) == number
                maps[number] = painted(regions.masks[own], regions.logits[own], GATED_LOGIT)
        return replace(
            grids, logits={"sound": sound[None], "classes": maps}, region_classes=classes
        )

    def _encode(self, image: np.ndarray) -> Any:
        return self._backend.encode_image(self._placed(image))

    def _placed(self, image: np.ndarray) -> np.ndarray:
        spec = self._backend.spec
        placement = ResizeTransform.fit(*image.shape[:2], spec.short_side_px, spec.patch_px)
        return placement.apply(image)

    def _hear(self, clip: AudioClip) -> tuple[Hearing, int]:
        """The clip as `Grounder.ground` hears it, and its length at the model's rate."""
        spec = self._backend.spec
        mono, _, _ = to_clean_mono(clip.waveform)
        if mono.size == 0:
            raise ValueError("the clip holds no samples: expected at least one")
        heard = resample(mono, clip.sample_rate_hz, spec.sample_rate_hz)
        hop_s = longest_hop_s(spec)
        hop = round(hop_s * spec.sample_rate_hz)
        num_hops = math.ceil((heard.size + spec.context_s * spec.sample_rate_hz) / hop)
        padded = np.zeros(num_hops * hop, np.float32)
        padded[: heard.size] = heard
        hearing = Hearing(
            self._backend,
            self._grounder.config,
            hop_s=hop_s,
            history_s=padded.size / spec.sample_rate_hz + hop_s,
        )
        hearing.push(padded, is_clip=True)
        hearing.advance(padded.size)
        return hearing, heard.size


def middle_of(waveform: Float32[np.ndarray, " s"], num: int) -> Float32[np.ndarray, " n"]:
    """The middle `num` samples, of a shorter clip all with zeros around."""
    missing = max(0, num - len(waveform))
    padded = np.pad(waveform, (missing // 2, missing - missing // 2))
    start = (len(padded) - num) // 2
    return padded[start : start + num]


def _moments(duration_s: float) -> list[float]:
    """Four a second until one second after the clip, when its last words have been answered."""
    count = max(1, math.floor((duration_s + STREAM_TAIL_S) / STREAM_FRAME_S))
    return [STREAM_FRAME_S * (number + 1) for number in range(count)]


def _grids(answers: Mapping[str, list[HeadAnswer]]) -> HeadGrids:
    """The mean of each head's answers at which something was heard.

    Maps are averaged one by one where their number stays, else their maximum is.
    """
    logits, gated, regions = {}, [], {}
    for head, of_head in answers.items():
        known = [one.regions for one in of_head if one.regions is not None]
        if known:  # of one picture, so only their scores differ
            mean = np.mean([one.logits for one in known], axis=0, dtype=np.float32)
            regions[head] = replace(known[0], logits=mean)
        heard = [one.logits for one in of_head if len(one.logits)]
        if not heard:
            gated.append(head)
            logits[head] = np.full((1, *of_head[0].logits.shape[1:]), GATED_LOGIT, np.float32)
            continue
        if len({len(maps) for maps in heard}) > 1:
            heard = [maps.max(axis=0, keepdims=True) for maps in heard]
        logits[head] = np.mean(heard, axis=0, dtype=np.float32)
    return HeadGrids(logits, tuple(gated), regions=regions)
