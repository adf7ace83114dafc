"""The evidence floor of each head: how long a token's vector must be to say anything at all.

A head whose tokens carry evidence (see `AudioAligner`) is silent by short vectors: the speech
head outside the noun and under mere sound, the sound head under mere speech. A floor turns that
silence into exact zeros at run time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from av_grounding.synthetic.samples import SyntheticSamples
from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import Backend

logger = logging.getLogger(__name__)

KEPT = 0.98


def fit_floor(wanted: Float[np.ndarray, " n"], others: Float[np.ndarray, " m"]) -> float:
    """Half of what 98 % of the wanted clips reach, so that the edges of a word still count.

    Warns where most others reach it too: then the head does not tell them apart by evidence.
    """
    floor = 0.5 * float(np.quantile(wanted, 1.0 - KEPT))
    if (share := float((others >= floor).mean())) > 0.5:
        logger.warning("%.0f %% of what a head should not hear passes its floor", 100 * share)
    return floor


def reached_floor(wanted: Float[np.ndarray, " n"], others: Float[np.ndarray, " m"]) -> float:
    """What nine in ten of the wanted clips reach.

    For heads that learned apart, whose evidence overlaps with that of `others`: half of the wanted
    clips' lowest would let everything pass, and what tells both apart best would silence one in
    three (photographs, 40 validation scenes: sound mAP .43 against .49, as many maps dark).
    """
    return float(np.quantile(wanted, 0.1))


def evidence_floors(
    backend: Backend,
    num: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    samples: Any = None,
    fit: Callable[[np.ndarray, np.ndarray], float] = fit_floor,
) -> dict[str, float]:
    """Floors of the heads that there are from `num` samples of the validation split, by default
    the synthetic.

    Speech: the longest token within the noun of a mixture, against sound alone. Sound: the
    longest token of a sound alone, against speech alone.
    """
    spec = backend.spec
    samples = SyntheticSamples("val", seed) if samples is None else samples
    wanted: dict[str, list[float]] = {head: [] for head in spec.head_names}
    others: dict[str, list[float]] = {head: [] for head in spec.head_names}
    for index in range(num):
        sample = samples[index]
        start = window_around(sample.word_span_s, len(sample.mixture), spec.num_window_samples)
        window = slice(start, start + spec.num_window_samples)
        tokens = {
            track: backend.encode_audio(getattr(sample, track)[window])
            for track in ("mixture", "sound", "speech")
        }
        centre_s = (np.arange(spec.num_tokens) + 0.5) * spec.token_stride_s
        centre_s += start / spec.sample_rate_hz
        noun = (centre_s >= sample.word_span_s[0]) & (centre_s <= sample.word_span_s[1])
        for number, (head, order) in enumerate((one.name, one.norm_order) for one in spec.heads):
            kept = {
                track: np.linalg.norm(values[number], ord=order, axis=0)
                for track, values in tokens.items()
            }
            if head == "sound":
                wanted[head].append(float(kept["sound"].max()))
                others[head].append(float(kept["speech"].max()))
                continue
            if noun.any():
                wanted[head].append(float(kept["mixture"][noun].max()))
            others[head].append(float(kept["sound"].max()))
        if progress:
            progress(index + 1, num)
    return {head: fit(np.array(wanted[head]), np.array(others[head])) for head in wanted}


def window_around(span_s: tuple[float, float], num_samples: int, num_window: int) -> int:
    """First sample of the window around a time span, inside the clip."""
    middle = round(sum(span_s) / 2 * SAMPLE_RATE_HZ)
    return int(np.clip(middle - num_window // 2, 0, max(num_samples - num_window, 0)))
