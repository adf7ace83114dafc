"""Regions, several sources and other heads, kept, drawn and shown like any other answer."""

import numpy as np
import pytest

from av_grounding.drawing.overlay import overlay
from av_grounding.drawing.styles import KNOWN, OTHERS, styles_of
from av_grounding.recording.recorder import Recorder
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.types import Frame
from av_grounding.viewer.feed import Feed
from av_grounding.viewer.picture import encode
from av_grounding.viewer.viewer import describe_heads
from tests.helpers import signals
from tests.helpers.other_backends import RegionBackend, SourcesBackend
from tests.helpers.tiny_backend import TinyBackend

BACKENDS = {
    "regions": RegionBackend(),
    "sources": SourcesBackend(),
    "sound alone": TinyBackend(heads=("sound",)),
    "three heads": TinyBackend(heads=("sound", "speech", "music")),
}
IMAGE = signals.picture(192, 240)


@pytest.fixture(params=BACKENDS)
def answered(request):
    """A frame and its answer, by each backend."""
    stream = GroundingStream(BACKENDS[request.param])
    stream.push_audio(signals.vowel(1.5), 0, 16_000)
    return Frame(IMAGE, 1_500_000_000), stream.push_frame(IMAGE, 1_500_000_000)


def test_a_recording_has_a_key_for_each_head_and_no_other(answered, tmp_path):
    frame, grounding = answered
    recorder = Recorder(tmp_path, heads=tuple(grounding.heads))
    recorder.write(frame, grounding)
    recorder.close()
    with np.load(tmp_path / "heatmaps.npz") as saved:
        scores = {f"{head}_score" for head in grounding.heads}
        assert set(saved) == {"stamp_ns", *grounding.heads, *scores}
        for head in grounding.heads:
            np.testing.assert_array_equal(saved[head][0], grounding.heatmap(head))
            assert saved[f"{head}_score"][0] == np.float32(grounding.score(head))


def test_the_page_is_told_every_head_and_every_label(answered):
    frame, grounding = answered
    picture = encode(Feed().add_answer(frame, grounding, None))
    assert list(picture.header["heads"]) == list(grounding.heads)
    assert len(picture.blobs) == 1 + len(grounding.heads)
    for (head, told), blob in zip(
        picture.header["heads"].items(), picture.blobs[1:], strict=True
    ):
        cells = np.frombuffer(blob, np.uint8).reshape(told["h"], told["w"])
        np.testing.assert_array_equal(cells, np.rint(255 * grounding.heatmap(head)))
        labels = [label["text"] for label in told.get("labels", [])]
        assert labels == list(grounding[head].labels)


def test_an_overlay_colours_what_each_head_found_and_nothing_else(answered):
    frame, grounding = answered
    drawn = overlay(frame.image, grounding.heads, legend=False)
    assert drawn.shape == frame.image.shape
    assert np.abs(drawn.astype(int) - frame.image).max() > 20
    silent = {head: type(a)(a.logits[:0]) for head, a in grounding.heads.items()}
    np.testing.assert_array_equal(overlay(frame.image, silent, legend=False), frame.image)


def test_heads_keep_their_looks_and_strangers_get_different_ones():
    styles = styles_of(["wind", "sound", "music", "speech"])
    assert styles["sound"] is KNOWN["sound"]
    assert (styles["wind"], styles["music"]) == OTHERS[:2]
    assert len({(style.mark, style.is_dashed) for style in styles.values()}) == 4
    told = describe_heads({"music": 0.4})
    assert [(head["name"], head["threshold"], head["mark"]) for head in told] == [
        ("music", 0.4, "square"),
    ]  # fmt: skip
