"""One picture and one clip: the same tokens as the stream, pooled over the whole clip."""

import numpy as np
import pytest

from av_grounding.audio import resample
from av_grounding.config.streaming import StreamingConfig
from av_grounding.image import ResizeTransform
from av_grounding.streaming.offline import ground_clip
from tests.helpers import signals
from tests.helpers.reference import slot_tokens, utterance_of, voice_marks
from tests.helpers.tiny_backend import TinyBackend

IMAGE = signals.picture()
CONFIG = StreamingConfig()
CLIP = signals.scene()


def long_way(backend, waveform, *, span_s=None, power):
    """Both maps from the full similarity volume of every window that hears the clip."""
    hop = round(backend.spec.hop_s * 16_000)
    num_hops = -(-(waveform.size + round(backend.spec.context_s * 16_000)) // hop)
    padded = np.pad(waveform, (0, num_hops * hop - waveform.size))
    voiced, audible = voice_marks(padded[: -(-waveform.size // 320) * 320], CONFIG)
    vectors, weights = slot_tokens(backend, padded, padded.size, CONFIG)
    utterances = utterance_of(voiced, CONFIG)
    placement = ResizeTransform.fit(*IMAGE.shape[:2], backend.spec.short_side_px, 8)
    image_tokens = backend.encode_image(placement.apply(IMAGE))
    sums, totals = [0.0, 0.0], [0.0, 0.0]
    for slot, vector in vectors.items():
        centre = slot * 640 + 320
        if slot * 640 >= waveform.size:
            continue
        volume = backend.similarity(image_tokens, vector[:, None].astype(np.float32))[:, 0]
        trust = min(1.0, weights[slot])
        is_audible = any(audible[2 * slot : 2 * slot + 2])
        logits = backend.spec.head("speech").calibration.scale * volume[1]
        if span_s is None:
            said = trust * any(start <= centre < stop for start, stop in utterances)
        else:
            said = float(span_s[0] <= centre / 16_000 < span_s[1])
        for head, weight in enumerate(
            (trust * is_audible, said * (logits.max() - logits.mean()) ** power)
        ):
            sums[head] += weight * volume[head]
            totals[head] += weight
    return [
        head.calibration(mean / total).reshape(backend.grid(image_tokens))
        for head, mean, total in zip(backend.spec.heads, sums, totals, strict=True)
    ]


@pytest.mark.parametrize(
    ("arguments", "power", "span_s"),
    [
        ({}, 2.0, None),
        ({"use_salience": False}, 0.0, None),
        ({"word_span_s": (0.9, 1.2)}, 0.0, (0.9, 1.2)),
    ],
)
@pytest.mark.parametrize("duration_s", [4.4, 2.6, 2.57])
def test_clip_equals_the_long_way_round(arguments, power, span_s, duration_s):
    # The shorter clips end in the middle of a sound, one of them at the end of a hop.
    clip = CLIP[: round(duration_s * 16_000)]
    backend = TinyBackend(salience_power=2.0)
    answer = ground_clip(backend, IMAGE, clip, 16_000, CONFIG, **arguments)
    sound, speech = long_way(backend, clip, span_s=span_s, power=power)
    np.testing.assert_allclose(answer.sound, sound, atol=1e-5)
    np.testing.assert_allclose(answer.speech, speech, atol=1e-5)
    assert answer.image_size == IMAGE.shape[:2]
    assert answer.score("speech") == answer.speech.max()


def test_salience_and_oracle_change_the_answer():
    backend = TinyBackend(salience_power=2.0)
    salient = ground_clip(backend, IMAGE, CLIP, 16_000)
    plain = ground_clip(backend, IMAGE, CLIP, 16_000, use_salience=False)
    oracle = ground_clip(backend, IMAGE, CLIP, 16_000, word_span_s=(0.9, 1.0))
    assert np.abs(salient.speech - plain.speech).max() > 1e-3
    assert np.abs(oracle.speech - plain.speech).max() > 1e-3
    assert salient.sound.tobytes() == plain.sound.tobytes() == oracle.sound.tobytes()


def test_any_rate_and_channel_count_is_heard():
    at_16 = ground_clip(TinyBackend(), IMAGE, CLIP, 16_000)
    clip_48 = resample(CLIP, 16_000, 48_000)
    stereo = np.round(np.stack([clip_48, clip_48], axis=1) * 32_767).astype(np.int16)
    at_48 = ground_clip(TinyBackend(), IMAGE, stereo, 48_000)
    np.testing.assert_allclose(at_48.sound, at_16.sound, atol=0.03)
    np.testing.assert_allclose(at_48.speech, at_16.speech, atol=0.03)


@pytest.mark.parametrize("num_samples", [1, 100, 700, 5_000, 16_000])
def test_clips_of_any_length(num_samples):
    clip = signals.hiss(1.0)[-num_samples:]
    clip[-1] = 0.5
    answer = ground_clip(TinyBackend(), IMAGE, clip, 16_000)
    assert answer.sound.shape == (4, 5)
    assert answer.sound.any()
    assert not answer.speech.any()


def test_silence_is_zero():
    answer = ground_clip(TinyBackend(), IMAGE, signals.silence(1.5), 16_000)
    assert not answer.sound.any()
    assert not answer.speech.any()


def test_a_sparser_hop_hears_nearly_the_same_with_fewer_windows():
    dense, sparse = TinyBackend(), TinyBackend()
    at_every_hop = ground_clip(dense, IMAGE, CLIP, 16_000)
    at_few = ground_clip(sparse, IMAGE, CLIP, 16_000, hop_s=0.8)
    np.testing.assert_allclose(at_few.sound, at_every_hop.sound, atol=0.05)
    assert sparse.num_windows < dense.num_windows / 3


def test_the_shortest_span_takes_the_nearest_token():
    answer = ground_clip(TinyBackend(), IMAGE, CLIP, 16_000, word_span_s=(1.0001, 1.0002))
    longer = ground_clip(TinyBackend(), IMAGE, CLIP, 16_000, word_span_s=(1.0, 1.04))
    assert answer.speech.tobytes() == longer.speech.tobytes()


@pytest.mark.parametrize("span_s", [(5.0, 6.0), (0.5, 0.5), (-1.0, 0.5)])
def test_a_span_outside_of_the_clip_is_refused(span_s):
    with pytest.raises(ValueError, match="begins within the clip"):
        ground_clip(TinyBackend(), IMAGE, CLIP, 16_000, word_span_s=span_s)


def test_an_empty_clip_is_refused():
    with pytest.raises(ValueError, match="holds no samples"):
        ground_clip(TinyBackend(), IMAGE, np.zeros(0, np.float32), 16_000)
