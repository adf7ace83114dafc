"""Which head of a model answers sound, and which speech: found by listening, not by names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import StatefulResampler, check_sample_rate, to_clean_mono
from av_grounding.image import ResizeTransform
from av_grounding.types import Backend

KINDS = ("sound", "speech")
NUM_SYNTHETIC_TRIALS = 6
# Untrained heads answer both kinds within a few percent.
MARGIN = 0.1


@dataclass(frozen=True)
class Trial:
    """A picture, a sound of something in it, and words about something in it.

    Each clip is (samples, rate in Hz), with samples (s,) or (s, channels).
    """

    image: UInt8[np.ndarray, "H W 3"]
    sound: tuple[np.ndarray, int]
    speech: tuple[np.ndarray, int]


@dataclass(frozen=True)
class HeadCheck:
    """Mean response of every head to the clips of each kind, and what it answers more.

    An answer is a kind, or "both" where the responses differ by less than a tenth of the larger.
    `is_swapped` is None unless one head answers sound and another one speech.
    """

    responses: dict[str, dict[str, float]]
    answers: dict[str, str]
    is_swapped: bool | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_heads(
    backend: Backend, trials: Sequence[Trial], progress: Callable[[int], None] | None = None
) -> HeadCheck:
    """Play every trial's clips to every head, without the gates and voice marks of a stream.

    A response is the score of 000 eq. 5 and 6, maximum over space and mean over the clip's
    tokens, divided by the head's largest over all clips: heads may work on different scales. A
    head answers the kind with the larger mean response.
    """
    if not trials:
        raise ValueError("no trials; expected at least one")
    heads = backend.spec.head_names
    scores = np.zeros((len(heads), len(KINDS), len(trials)))
    for number, trial in enumerate(trials):
        spec = backend.spec
        placement = ResizeTransform.fit(*trial.image.shape[:2], spec.short_side_px, spec.patch_px)
        image_tokens = backend.encode_image(placement.apply(trial.image))
        for kind, name in enumerate(KINDS):
            tokens = _clip_tokens(backend, *getattr(trial, name))
            similarity = backend.similarity(image_tokens, tokens.transpose(0, 2, 1))
            scores[:, kind, number] = similarity.max(axis=2).mean(axis=1)
            if progress:
                progress(2 * number + kind + 1)
    largest = np.maximum(np.abs(scores).max(axis=(1, 2)), 1e-12)
    means = scores.mean(axis=2) / largest[:, None]
    responses = {
        head: dict(zip(KINDS, map(float, means[i]), strict=True)) for i, head in enumerate(heads)
    }
    answers = {head: _answer(of_head) for head, of_head in responses.items()}
    is_swapped = None
    if set(heads) == set(KINDS) == set(answers.values()):
        is_swapped = any(head != answer for head, answer in answers.items())
    return HeadCheck(responses, answers, is_swapped)


def _answer(responses: dict[str, float]) -> str:
    less, more = sorted(KINDS, key=responses.__getitem__)
    is_clear = responses[more] - responses[less] > MARGIN * abs(responses[more])
    return more if is_clear else "both"


def _clip_tokens(
    backend: Backend, samples: np.ndarray, sample_rate_hz: int
) -> Float32[np.ndarray, "k c t"]:
    """The tokens of a clip's first window: those that lie in the clip, not in the padding."""
    spec = backend.spec
    mono, _, _ = to_clean_mono(samples)
    if mono.size == 0:
        raise ValueError("a clip holds no samples: expected at least one; check its duration")
    resampler = StatefulResampler(check_sample_rate(sample_rate_hz), spec.sample_rate_hz)
    heard = np.concatenate([resampler.push(mono), resampler.flush()])[: spec.num_window_samples]
    window = np.zeros(spec.num_window_samples, np.float32)
    window[: heard.size] = heard
    num_heard = max(1, round(heard.size / spec.sample_rate_hz / spec.token_stride_s))
    return np.asarray(backend.encode_audio(window))[:, :, :num_heard]


def synthetic_trials(num: int = NUM_SYNTHETIC_TRIALS, seed: int = 0) -> list[Trial]:
    """Pictures, sounds and utterances of the synthetic world's validation split."""
    from av_grounding.synthetic.samples import SyntheticSamples
    from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ

    samples = SyntheticSamples("val", seed)
    drawn = (samples[index] for index in range(num))
    return [
        Trial(one.image, (one.sound, SAMPLE_RATE_HZ), (one.speech, SAMPLE_RATE_HZ))
        for one in drawn
    ]
