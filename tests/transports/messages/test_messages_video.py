"""Compressed video as messages: a picture each, with its stamp; losses and what is no video."""

import numpy as np
import pytest

from av_grounding.transports.messages import MalformedMessage, VideoDecoder
from tests.helpers import coded, objects

START_NS, STEP_NS = 1_700_000_000_000_000_000, 100_000_000
NUM = 12


def messages_of(form="h264", codec="libx264", **options):
    packets = coded.video_packets([coded.grey(i) for i in range(NUM)], codec, **options)
    return [objects.video(p, form, START_NS + i * STEP_NS) for i, p in enumerate(packets)]


def decoded(messages):
    """(number, grey) by stamp of the pictures, and the kinds of what gave none."""
    decoder, pictures, kinds = VideoDecoder(), [], []
    for message in messages:
        try:
            frame = decoder.decode(message)
        except MalformedMessage as error:
            kinds.append(error.kind)
            continue
        assert frame.frame_id == "optical"
        assert frame.image.shape == (48, 64, 3)
        pictures.append(((frame.stamp_ns - START_NS) // STEP_NS, frame.image.mean()))
    return pictures, kinds


@pytest.mark.parametrize(
    ("form", "codec", "options"),
    [
        ("h264", "libx264", coded.FLAT),
        ("h265", "libx265", coded.FLAT),
        ("vp9", "libvpx-vp9", {"deadline": "realtime", "lag-in-frames": "0"}),
        ("av1", "libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1:lookahead=0"}),
    ],
)
def test_every_message_gives_its_picture_at_once(form, codec, options):
    pictures, kinds = decoded(messages_of(form, codec, options=options))
    assert kinds == []
    assert [number for number, _ in pictures] == list(range(NUM))
    np.testing.assert_allclose([grey for _, grey in pictures], 20 * np.arange(NUM), atol=2.5)


def test_pictures_begin_with_the_first_key_frame():
    pictures, kinds = decoded(messages_of()[2:])
    assert kinds == ["keyframe"] * 3
    assert [number for number, _ in pictures] == list(range(5, NUM))


def test_damage_costs_no_more_than_the_pictures_up_to_the_next_key_frame():
    messages = messages_of()
    messages[6].data[:] = messages[6].data[:1] * len(messages[6].data)
    pictures, kinds = decoded(messages)
    assert kinds == ["damaged"]
    messages[6].data[:] = messages[6].data[:0]
    assert decoded(messages)[1] == ["damaged"]
    right = [number for number, grey in pictures if abs(grey - 20 * number) < 2.5]
    assert set(right) >= {*range(6), 10, 11}
    assert 6 not in [number for number, _ in pictures]


def test_pictures_that_are_reordered_keep_their_stamps():
    messages = messages_of(options={"preset": "ultrafast", "bf": "2", "x264-params": "bframes=2"})
    order, _ = decoded(messages)
    assert len({number for number, _ in order}) == len(order)


@pytest.mark.parametrize("form", ["", "mjpeg", "x" * 500])
def test_a_format_that_is_not_read_is_named_with_those_that_are(form):
    with pytest.raises(MalformedMessage, match=r"video format .* h264, h265, vp9, av1") as caught:
        VideoDecoder().decode(objects.video(b"abc", form))
    assert caught.value.kind == "encoding"


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1", b"hello" * 100])
def test_what_is_no_video_waits_for_a_key_frame(data):
    decoder = VideoDecoder()
    with pytest.raises(MalformedMessage, match="no key frame came yet"):
        decoder.decode(objects.video(data))
