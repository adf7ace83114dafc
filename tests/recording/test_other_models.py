"""Regions, several sources and other heads, kept, drawn and shown like any other answer."""

import cv2
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


def test_the_page_is_told_every_head_and_every_map_with_its_label(answered):
    frame, grounding = answered
    picture = encode(Feed(grounding.heads).add_answer(frame, grounding, None))
    assert list(picture.header["heads"]) == list(grounding.heads)
    assert len(picture.blobs) == 1 + len(grounding.heads)
    for (head, told), blob in zip(picture.header["heads"].items(), picture.blobs[1:], strict=True):
        cells = np.frombuffer(blob, np.uint8).reshape(-1, told["h"], told["w"])
        np.testing.assert_array_equal(cells, np.rint(255 * grounding[head].heatmaps))
        labels = [of_map["label"] for of_map in told["maps"] if of_map["label"] is not None]
        assert labels == list(grounding[head].labels)
        assert len(told["maps"]) == len(cells)


def test_an_overlay_colours_what_each_head_found_and_nothing_else(answered):
    frame, grounding = answered
    drawn = overlay(frame.image, grounding.heads, legend=False)
    assert drawn.shape == frame.image.shape
    assert np.abs(drawn.astype(int) - frame.image).max() > 20
    silent = {head: type(a)(a.logits[:0]) for head, a in grounding.heads.items()}
    np.testing.assert_array_equal(overlay(frame.image, silent, legend=False), frame.image)


# Machado et al. 2009, for a complete deficiency, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.mark.parametrize("vision", VISION)
def test_the_colours_of_all_heads_stay_apart_for_everybody(vision):
    rgb = np.array([style.strong for style in (*KNOWN.values(), *OTHERS)], np.float32) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(encoded.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0]
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    assert apart[~np.eye(len(lab), dtype=bool)].min() > 18


def test_heads_keep_their_looks_and_strangers_get_different_ones():
    styles = styles_of(["wind", "sound", "music", "speech"])
    assert styles["sound"] is KNOWN["sound"]
    assert (styles["wind"], styles["music"]) == OTHERS[:2]
    assert len({(style.mark, style.is_dashed) for style in styles.values()}) == 4
    told = describe_heads({"music": 0.4})
    assert [(head["name"], head["threshold"], head["mark"]) for head in told] == [
        ("music", 0.4, "square"),
    ]  # fmt: skip
