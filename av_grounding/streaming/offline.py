"""One image and one clip, grounded with the stream's own windows, tokens and gates."""

from __future__ import annotations

import math

import numpy as np

from av_grounding.audio import StatefulResampler, check_sample_rate, to_clean_mono
from av_grounding.config.streaming import StreamingConfig
from av_grounding.image import ResizeTransform, check_image
from av_grounding.streaming.hearing import Hearing
from av_grounding.streaming.listening import listen_to_clip
from av_grounding.streaming.pooling import answer
from av_grounding.types import Backend, Grounding


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
    config = StreamingConfig() if config is None else config
    spec = backend.spec
    image = check_image(image)
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

    height, width = image.shape[:2]
    placement = ResizeTransform.fit(height, width, spec.short_side_px, spec.patch_px)
    tokens = backend.encode_image(placement.apply(image))
    if word_span is not None or not use_salience:
        spec = spec.with_heads(salience_power=dict.fromkeys(spec.head_names, 0.0))
    queries = listen_to_clip(hearing, spec, config, heard.size, word_span)
    heads = answer(backend.with_spec(spec), tokens, queries, hearing.num_channels)
    return Grounding(heads, stamp_ns=0, image_size=(height, width))


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
