"""One image and one clip, grounded with the stream's own windows, tokens and gates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32

from av_grounding.audio import StatefulResampler, check_sample_rate, resample, to_clean_mono
from av_grounding.config.streaming import StreamingConfig
from av_grounding.image import ResizeTransform, check_image, cut_out
from av_grounding.streaming.hearing import Hearing
from av_grounding.streaming.listening import listen_to_clip
from av_grounding.streaming.places import (
    at_box,
    at_mask,
    at_peak,
    at_point,
    box_area,
    mask_area,
    peak_area,
    point_area,
    seen_alone,
)
from av_grounding.streaming.pooling import Queries, answer
from av_grounding.streaming.separation import MaskedSound, check_backend, mask_of, stft_of
from av_grounding.types import Backend, Grounding, HeadAnswer, ImageTokens


def ground_clip(
    backend: Backend,
    image: np.ndarray,
    waveform: np.ndarray,
    sample_rate_hz: int,
    config: StreamingConfig | None = None,
    *,
    word_span_s: tuple[float, float] | None = None,
    use_salience: bool = True,
    hop_s: float | None = None,
) -> Grounding:
    """Where in one image the sound of a whole clip comes from, and what its words refer to.

    The clip is heard as a stream would hear it, with silence before and after: windows end at
    multiples of the hop, until the last token has its context. All audible tokens count alike
    (no recency) and, for speech, those of all utterances. `image` is (H, W, 3) uint8 RGB,
    `waveform` (s,) or (s, channels) of any sample type.

    `word_span_s`: (start, end) of the word in the clip, instead of voice activity and salience:
    the oracle that evaluation compares with. `use_salience=False`: the plain time mean.
    `hop_s`: another step between windows; up to the window minus twice the context, every token
    is still heard with its context once.
    """
    image = check_image(image)
    queries, num_channels = hear_clip(
        backend, waveform, sample_rate_hz, config, word_span_s=word_span_s, hop_s=hop_s
    )
    spec = backend.spec
    height, width = image.shape[:2]
    placement = ResizeTransform.fit(height, width, spec.short_side_px, spec.patch_px)
    tokens = backend.encode_image(placement.apply(image))
    if word_span_s is not None or not use_salience:
        spec = spec.with_heads(salience_power=dict.fromkeys(spec.head_names, 0.0))
    heads = answer(backend.with_spec(spec), tokens, queries, num_channels)
    return Grounding(heads, stamp_ns=0, image_size=(height, width))


def hear_clip(
    backend: Backend,
    waveform: np.ndarray,
    sample_rate_hz: int,
    config: StreamingConfig | None = None,
    *,
    word_span_s: tuple[float, float] | None = None,
    hop_s: float | None = None,
) -> tuple[Queries, int]:
    """What every head listens to in a clip, whatever the picture, and the vectors' length c.

    Arguments as for `ground_clip`.
    """
    config = StreamingConfig() if config is None else config
    spec = backend.spec
    rate_hz = check_sample_rate(sample_rate_hz)
    samples, _, _ = to_clean_mono(waveform)
    if samples.size == 0:
        raise ValueError("the clip holds no samples: expected at least one; check its duration")
    resampler = StatefulResampler(rate_hz, spec.sample_rate_hz)
    heard = np.concatenate([resampler.push(samples), resampler.flush()])
    word_span = _to_samples(word_span_s, heard.size, spec.sample_rate_hz)

    hop_s = hop_s or config.hop_s or spec.hop_s
    hop = round(hop_s * spec.sample_rate_hz)
    num_hops = math.ceil((heard.size + spec.context_s * spec.sample_rate_hz) / hop)
    padded = np.zeros(num_hops * hop, np.float32)
    padded[: heard.size] = heard
    history_s = padded.size / spec.sample_rate_hz + hop_s
    hearing = Hearing(backend, config, hop_s=hop_s, history_s=history_s)
    hearing.push(padded, is_clip=True)
    hearing.advance(padded.size)
    queries = listen_to_clip(hearing, spec, config, heard.size, word_span)
    return queries, hearing.num_channels


@dataclass(frozen=True)
class Separated:
    """The sound of a place and the rest of the clip; together they are the clip, in mono."""

    separated: Float32[np.ndarray, " s"]
    residual: Float32[np.ndarray, " s"]
    sample_rate_hz: int
    """The clip's own."""
    place: Float32[np.ndarray, "h w"]
    """How much each cell counted, at most 1; each pixel, where a model looks at a place alone."""
    grounding: Grounding | None = None
    """The heatmaps, where the place was taken from them."""

    def as_answer(self) -> HeadAnswer:
        """The place as a head's answer, to be drawn like one."""
        chance = np.clip(self.place, 1e-6, 1.0 - 1e-6)[None]
        return HeadAnswer(np.log(chance / (1.0 - chance)).astype(np.float32))


def separate_clip(
    backend: Backend,
    image: np.ndarray,
    waveform: np.ndarray,
    sample_rate_hz: int,
    config: StreamingConfig | None = None,
    *,
    point: tuple[float, float] | None = None,
    box: tuple[float, float, float, float] | None = None,
    mask: np.ndarray | None = None,
    hop_s: float | None = None,
) -> Separated:
    """The sound of one place of one image out of a whole clip (see `Grounder.separate`)."""
    config, spec = StreamingConfig() if config is None else config, backend.spec
    check_backend(backend)
    stft = stft_of(spec)
    if sum(place is not None for place in (point, box, mask)) > 1:
        raise ValueError("several places at once: expected a point, a box or a mask, or none")
    image, rate_hz = check_image(image), check_sample_rate(sample_rate_hz)
    mono, _, _ = to_clean_mono(waveform)
    if mono.size == 0:
        raise ValueError("the clip holds no samples: expected at least one; check its duration")
    size, is_alone, grounding = image.shape[:2], spec.separation.crop_px > 0, None
    is_peak = point is None and box is None and mask is None
    if is_peak or not is_alone:
        placement = ResizeTransform.fit(*size, spec.short_side_px, spec.patch_px)
        tokens = backend.encode_image(placement.apply(image))
    if point is not None:
        cells, pixels = partial(at_point, *point), partial(point_area, *point)
    elif box is not None:
        cells, pixels = partial(at_box, *box), partial(box_area, *box)
    elif mask is not None:
        cells, pixels = partial(at_mask, mask), partial(mask_area, mask)
    else:
        queries, num_channels = hear_clip(backend, mono, rate_hz, config, hop_s=hop_s)
        heads = answer(backend, tokens, queries, num_channels)
        grounding = Grounding(heads, stamp_ns=0, image_size=size)
        sound, scale = grounding["sound"], spec.head("sound").calibration.scale
        cells, pixels = (lambda *_: at_peak(sound, scale)), partial(peak_area, sound)
    if is_alone:
        place = np.zeros(size, np.float32)
        place[pixels(size)] = 1.0
        tokens, weights = seen_alone(backend, cut_out(image, place > 0))
    else:
        grid = backend.grid(tokens)
        weights = cells(size, grid)
        place = (weights / weights.max()).reshape(grid)
    heard = resample(mono, rate_hz, spec.sample_rate_hz)
    hop = round((hop_s or config.hop_s or spec.hop_s) * spec.sample_rate_hz)
    hop = max(hop // stft.hop, 1) * stft.hop
    masked = mask_sound(backend, tokens, heard, weights, hop, config.min_context_weight)
    back = resample(masked, spec.sample_rate_hz, rate_hz)
    separated = np.zeros_like(mono)
    separated[: back.size] = back[: mono.size]
    return Separated(separated, mono - separated, rate_hz, place, grounding)


def mask_sound(
    backend: Backend,
    tokens: ImageTokens,
    heard: Float32[np.ndarray, " s"],
    weights: Float32[np.ndarray, " r"],
    hop: int,
    min_context_weight: float = 0.1,
    lookahead_s: float | None = None,
) -> Float32[np.ndarray, " s"]:
    """What belongs to a place of a whole clip at the model's rate, masked as a stream would."""
    spec = backend.spec
    masked = MaskedSound(spec, hop, lookahead_s=lookahead_s, min_context_weight=min_context_weight)
    num_window = spec.num_window_samples
    # Silence behind the clip, so that its last samples are heard with their context.
    num_hops = math.ceil((heard.size + spec.context_s * spec.sample_rate_hz) / hop)
    padded = np.zeros(num_window + num_hops * hop, np.float32)
    padded[num_window : num_window + heard.size] = heard
    pieces = []
    for number in range(1, num_hops + 1):
        window = padded[number * hop : number * hop + num_window]
        mask = mask_of(backend, tokens, window, weights)
        num_behind = max(0, number * hop - heard.size)
        pieces.append(masked.add_window(window, mask, num_behind)[1])
    pieces.append(masked.finish()[1])
    return np.concatenate(pieces)[: heard.size]


def _to_samples(
    word_span_s: tuple[float, float] | None, num_samples: int, sample_rate_hz: int
) -> tuple[int, int] | None:
    if word_span_s is None:
        return None
    start_s, end_s = word_span_s
    if not 0.0 <= start_s < end_s or start_s * sample_rate_hz >= num_samples:
        raise ValueError(
            f"word span {start_s} to {end_s} s: expected an interval that begins within the clip "
            f"of {num_samples / sample_rate_hz:.2f} s"
        )
    return round(start_s * sample_rate_hz), round(end_s * sample_rate_hz)
