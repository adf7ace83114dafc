"""The sound of a place as messages: only while wanted, and of the place that the settings name."""

from types import SimpleNamespace

import numpy as np
import pytest

from av_grounding.audio import NS_PER_S
from av_grounding.config import SeparationSettings, config_from_mapping
from av_grounding.config.streaming import StreamingConfig
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.transports.messages import decode_audio, decode_audio_info
from av_grounding.transports.topics.separated import AUDIO, INFO, SeparatedSound
from av_grounding.transports.topics.status_report import sync_report
from av_grounding.transports.topics.table import topics_of
from av_grounding.types import Frame
from tests.helpers.masking_backend import IMAGE, RATE_HZ, MaskingBackend, noise

CONFIG = StreamingConfig(silence_s=0.5)
PEAK = SeparationSettings()


@pytest.fixture
def stream():
    return GroundingStream(MaskingBackend(1.0), CONFIG)


def run(stream, separated, seconds, settings=PEAK, wanted=(AUDIO,), first=0.0):
    """(topic, fields) of a frame every 0.2 s."""
    sound, got = noise(seconds, seed=round(first)), []
    for number in range(round(seconds / 0.2)):
        piece = sound[round(0.2 * number * RATE_HZ) :][: round(0.2 * RATE_HZ)]
        stream.push_audio(piece, round((first + 0.2 * number) * NS_PER_S), RATE_HZ)
        frame = Frame(IMAGE, round((first + 0.2 * (number + 1)) * NS_PER_S), "eye")
        stream.push_frame(frame.image, frame.stamp_ns)
        got += separated.after(frame, settings, lambda name: name in wanted)
    return got


def test_what_nobody_wants_is_not_computed(stream):
    assert run(stream, SeparatedSound(stream), 2.0, wanted=()) == []
    assert stream.backend.asked == []
    assert "separation_latency_s" not in stream.stats


def test_the_messages_hold_the_sound(stream):
    got = run(stream, SeparatedSound(stream), 3.0, wanted=(AUDIO, INFO))
    assert {name for name, _ in got} == {AUDIO, INFO}
    infos = [fields for name, fields in got if name == INFO]
    audio = [fields for name, fields in got if name == AUDIO]
    assert infos[0]["sample_rate"] == RATE_HZ
    assert audio[0]["header"]["frame_id"] == "eye"
    layout = decode_audio_info(SimpleNamespace(**infos[0]))
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(**audio[1]["header"]["stamp"])),
        audio=SimpleNamespace(data=audio[1]["audio"]["data"]),
    )
    chunk = decode_audio(message, layout)
    start = round(chunk.stamp_ns / NS_PER_S * RATE_HZ)
    expected = noise(3.0)[start : start + len(chunk.samples)]
    np.testing.assert_allclose(chunk.samples / 32768.0, expected, atol=1e-4)
    report = sync_report(stream.stats, is_heard=True)
    assert report.values["separation_latency_s"] == pytest.approx(0.32 + 0.022 + 0.2)
    assert report.values["separation_drops"] == 0


def test_it_ends_with_the_last_subscriber_and_begins_anew(stream):
    separated = SeparatedSound(stream)
    run(stream, separated, 2.0)
    # The frame after which nobody listens comes behind its sound.
    assert run(stream, separated, 0.2, wanted=(), first=2.0) == []
    num_asked = len(stream.backend.asked)
    assert num_asked > 0
    assert run(stream, separated, 0.8, wanted=(), first=2.2) == []
    assert len(stream.backend.asked) == num_asked
    again = run(stream, separated, 2.0, first=3.0)
    assert again[0][1]["header"]["stamp"]["sec"] >= 3


def test_the_place_follows_the_settings(stream, caplog):
    separated = SeparatedSound(stream)
    run(stream, separated, 2.0, SeparationSettings(target="point", x_px=2.0, y_px=2.0))
    at_point = stream.backend.asked[-1][0]
    assert at_point.argmax() == 0
    assert set(at_point) == {0.0, 1.0}
    off = SeparationSettings(target="point", x_px=48.0, y_px=2.0)
    assert run(stream, separated, 1.0, off, first=2.0) == []
    assert [r.message for r in caplog.records if "48, 2 on images of 48x32" in r.message]
    assert sum("expected a point of the image" in r.message for r in caplog.records) == 1


def test_only_a_model_that_separates_has_the_topics():
    assert AUDIO not in topics_of(["sound", "speech"])
    names = topics_of(["sound", "speech"], separates=True)
    assert {AUDIO, INFO} < set(names)
    assert "speech/audio" not in names
    settings = config_from_mapping({"separation.target": "point", "separation.lookahead_ms": 80})
    assert settings.separation.lookahead_s == pytest.approx(0.08)
    with pytest.raises(ValueError, match=r"separation\.target"):
        config_from_mapping({"separation.target": "here"})
