"""Settings that change while the stream runs, with the shipped bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from av_grounding.backends import load_backend
from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.synthetic.sounds import synthesize_sound
from av_grounding.transports.topics.live_stream import LiveStream

BUNDLE = Path(__file__).parents[3] / "models" / "synthetic-small"
START_NS = 1_700_000_000_000_000_000
SECOND_NS = 1_000_000_000
IMAGE = np.random.default_rng(3).integers(0, 255, (120, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def backend():
    return load_backend(BUNDLE, "torch", "cpu")


@pytest.fixture(scope="module")
def waveform():
    return synthesize_sound("dog", 5, 1.0)[:16_000]


def hear(stream, waveform, start_ns=START_NS):
    for start in range(0, len(waveform), 1600):
        stamp_ns = start_ns + start * 62_500
        stream.push_audio(waveform[start : start + 1600], stamp_ns, 16_000)


def test_it_answers_as_the_stream_does(backend, waveform):
    live, plain = LiveStream(backend, StreamingConfig()), GroundingStream(backend)
    for stream in (live, plain):
        hear(stream, waveform)
    ours = live.push_frame(IMAGE, START_NS + SECOND_NS, "optical")
    theirs = plain.push_frame(IMAGE, START_NS + SECOND_NS, "optical")
    np.testing.assert_array_equal(ours.sound, theirs.sound)
    assert ours.sound.any()
    assert ours.frame_id == "optical"
    assert live.stats == plain.stats
    assert live.grounding_s.percentile(50) > 0.0


def test_a_gate_takes_effect_without_forgetting(backend, waveform):
    stream = LiveStream(backend, StreamingConfig())
    hear(stream, waveform)
    stream.request(replace(stream.config, gate_dbfs=0.0))
    assert not stream.push_frame(IMAGE, START_NS + SECOND_NS).sound.any()
    stream.request(replace(stream.config, gate_dbfs=-50.0))
    assert stream.push_frame(IMAGE, START_NS + SECOND_NS).sound.any()


@pytest.mark.parametrize("change", [{"hangover_s": 0.5}, {"recency_s": 5.0}, {"hop_s": 0.1}])
def test_what_is_built_in_starts_over_and_goes_on_counting(backend, waveform, change):
    stream = LiveStream(backend, StreamingConfig())
    hear(stream, waveform)
    stream.push_frame(IMAGE, START_NS + SECOND_NS)
    num_chunks = stream.stats["num_audio_chunks"]
    stream.request(replace(stream.config, **change))
    assert not stream.push_frame(IMAGE, START_NS + SECOND_NS).sound.any()
    for name, value in change.items():
        assert getattr(stream.config, name) == value
    hear(stream, waveform, START_NS + SECOND_NS)
    assert stream.push_frame(IMAGE, START_NS + 2 * SECOND_NS).sound.any()
    assert stream.stats["num_audio_chunks"] == 2 * num_chunks
    assert stream.stats["num_frames"] == 3


def test_a_reset_forgets_all_sound(backend, waveform):
    stream = LiveStream(backend, StreamingConfig())
    hear(stream, waveform)
    stream.request_reset()
    assert stream.num_resets == 0
    assert not stream.push_frame(IMAGE, START_NS + SECOND_NS).sound.any()
    assert stream.num_resets == 1
    # Earlier stamps are welcome afterwards.
    hear(stream, waveform, START_NS - 100 * SECOND_NS)
    assert stream.push_frame(IMAGE, START_NS - 99 * SECOND_NS).sound.any()


def test_the_listener_of_voice_marks_survives_a_new_stream(backend, waveform):
    marks = []
    stream = LiveStream(backend, StreamingConfig())
    stream.on_voice = marks.append
    stream.request(replace(stream.config, hangover_s=0.5))
    hear(stream, waveform)
    assert marks
