"""Colours over an image: where, how strong, and told apart without colour."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from av_grounding.drawing.overlay import MIN_LEGEND_PX, colorize, overlay, peak_px
from av_grounding.drawing.styles import KNOWN, RecordedAnswer
from av_grounding.types import HeadAnswer

HEIGHT, WIDTH = 120, 160
GREY = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def heatmaps(sound=None, speech=None, sound_score=None, speech_score=None):
    empty = np.zeros((12, 16), np.float32)
    sound = empty if sound is None else sound
    speech = empty if speech is None else speech
    return {
        "sound": RecordedAnswer(sound, float(sound.max()) if sound_score is None else sound_score),
        "speech": RecordedAnswer(
            speech, float(speech.max()) if speech_score is None else speech_score
        ),
    }


def cell(row: int, column: int, value: float, size: int = 1) -> np.ndarray:
    heatmap = np.zeros((12, 16), np.float32)
    heatmap[row : row + size, column : column + size] = value
    return heatmap


def below_legend(image: np.ndarray) -> np.ndarray:
    return image[40:].astype(int)


def test_empty_maps_leave_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    result = overlay(image, heatmaps())
    np.testing.assert_array_equal(below_legend(result), below_legend(image))
    tiny = image[: MIN_LEGEND_PX - 1]
    np.testing.assert_array_equal(overlay(tiny, heatmaps()), tiny)


def test_opacity_follows_the_absolute_value():
    changes = []
    for value in (0.1, 0.2, 0.4):
        heatmap = np.full((12, 16), value, np.float32)
        result = overlay(GREY, heatmaps(sound=heatmap), alpha=0.5)
        weak, strong = np.array([KNOWN["sound"].weak, KNOWN["sound"].strong], float)
        color = weak + (strong - weak) * value
        expected = 128 * (1 - 0.5 * value) + color * 0.5 * value
        np.testing.assert_allclose(below_legend(result)[30, 80], expected, atol=1)
        changes.append(np.abs(below_legend(result) - 128).mean())
    assert changes[1] > 1.5 * changes[0]  # a map alone in its frame is not stretched
    assert changes[2] > 1.5 * changes[1]


def test_heads_differ_in_hue_and_lightness():
    sound = overlay(GREY, heatmaps(sound=cell(6, 4, 0.45, 3)))
    speech = overlay(GREY, heatmaps(speech=cell(6, 4, 0.45, 3)))
    red, _, blue = sound[75, 55].astype(int) - 128
    assert red > 20 > -20 > blue
    red, _, blue = speech[75, 55].astype(int) - 128
    assert blue > 15 > -20 > red
    lightness = [np.dot(KNOWN[head].weak, (0.299, 0.587, 0.114)) for head in KNOWN]
    assert abs(lightness[0] - lightness[1]) > 40


def test_both_heads_in_one_place_keep_a_valid_mixture():
    both = overlay(GREY, heatmaps(cell(6, 4, 0.45, 4), cell(6, 4, 0.45, 4)))[80, 60].astype(int)
    sound = overlay(GREY, heatmaps(sound=cell(6, 4, 0.45, 4)))[80, 60].astype(int)
    speech = overlay(GREY, heatmaps(speech=cell(6, 4, 0.45, 4)))[80, 60].astype(int)
    assert speech[0] < both[0] < sound[0]
    assert sound[2] < both[2] < speech[2]


def test_colour_falls_on_the_map_and_nowhere_else():
    result = overlay(GREY, heatmaps(sound=cell(8, 10, 0.45)))
    changed = np.abs(below_legend(result) - 128).max(axis=2) > 2
    rows, columns = np.nonzero(changed)
    assert rows.mean() + 40 == pytest.approx(84.5, abs=1)
    assert columns.mean() == pytest.approx(104.5, abs=1)
    assert np.ptp(columns) < 21


def mark(head: str, score: float) -> np.ndarray:
    """What the mark adds: the same maps with and without a score that calls for it."""
    maps = {head: cell(7, 8, 0.49, 1)}
    with_mark = overlay(GREY, heatmaps(**maps, **{f"{head}_score": score}))
    without = overlay(GREY, heatmaps(**maps, **{f"{head}_score": 0.49}))
    return np.abs(below_legend(with_mark) - below_legend(without)).max(axis=2) > 10


def test_peaks_are_marked_by_shape_from_one_half_on():
    circle, diamond = mark("sound", 0.5), mark("speech", 0.5)
    for shape in (circle, diamond):
        rows, columns = np.nonzero(shape)
        assert rows.mean() + 40 == pytest.approx(74.5, abs=1.1)
        assert columns.mean() == pytest.approx(84.5, abs=1.1)
    assert not mark("sound", 0.499).any()

    def fills_box(shape: np.ndarray) -> float:
        rows, columns = np.nonzero(shape)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        filled = sum(np.ptp(columns[rows == row]) + 1 for row in np.unique(rows))
        return filled / box

    assert fills_box(circle) > fills_box(diamond) + 0.1


def test_outline_encloses_the_half_level_solid_for_sound_dashed_for_speech():
    blob = np.zeros((12, 16), np.float32)
    blob[5:10, 5:11] = 0.9
    colored = {head: overlay(GREY, heatmaps(**{head: blob})) for head in KNOWN}
    plain = {head: overlay(GREY, heatmaps(**{head: blob, f"{head}_score": 0.4})) for head in KNOWN}
    rim = [(row, 50) for row in range(60, 90)]
    share = {}
    for head in KNOWN:
        difference = np.abs(colored[head].astype(int) - plain[head].astype(int)).max(axis=2)
        share[head] = np.mean(
            [difference[row, column - 2 : column + 3].max() > 20 for row, column in rim]
        )
    assert share["sound"] == 1.0
    assert 0.2 < share["speech"] < 0.95


def test_every_map_has_its_own_outline_mark_and_label():
    """Two that overlap, and one that claims nothing."""
    image = np.full((240, 320, 3), 128, np.uint8)
    maps = [cell(4, 2, 0.9, 4), cell(4, 5, 0.7, 4), cell(9, 13, 0.4, 2)]
    logits = np.log(np.clip(maps, 1e-6, 1)) - np.log1p(-np.clip(maps, 1e-6, 0.999))
    plain = HeadAnswer(logits.astype(np.float32))
    named = HeadAnswer(plain.logits, ("dog", "cat", "clock"))
    drawn, told = (overlay(image, {"sound": a}, legend=False).astype(int) for a in (plain, named))
    black = drawn.max(axis=2) < 60
    # The edges inside the union of both: columns 5 and 6, at 100 and 120 pixels.
    assert black[100:140, 95:106].any(axis=1).mean() > 0.8
    assert black[100:140, 115:126].any(axis=1).mean() > 0.8
    assert not black[170:, 240:].any()
    assert cv2.absdiff(told[170:, 240:], drawn[170:, 240:]).max() == 0
    # Inside of each, not on its rim.
    for row, column in ((5, 3), (5, 6)):
        x, y = round((column + 0.5) * 20), round((row + 0.5) * 20)
        assert np.abs(told - drawn)[y - 9 : y + 9, x + 12 : x + 60].max() > 60
    # Whatever a label says and wherever it stands, the picture keeps its size.
    for text in ("", "x" * 500, "é\n€"):
        edge = HeadAnswer(plain.logits[:1, ::-1, ::-1].copy(), (text,))
        assert overlay(image, {"sound": edge}).shape == image.shape


def test_legend_shows_scores():
    first = overlay(GREY, heatmaps(sound_score=0.11))
    second = overlay(GREY, heatmaps(sound_score=0.47))
    difference = np.nonzero((first != second).any(axis=2))
    assert difference[0].size
    assert difference[0].max() < 40


def test_colorize_is_absolute_and_per_head():
    half = colorize(np.full((2, 3), 0.5, np.float32))
    full = colorize(np.array([[1.0, 0.0, np.nan]], np.float32))
    assert half.shape == (2, 3, 3)
    assert half.dtype == np.uint8
    np.testing.assert_array_equal(full[0, 0], KNOWN["sound"].strong)
    np.testing.assert_array_equal(full[0, 1:], 0)
    assert 0 < half.max() < full.max()
    speech = colorize(np.ones((1, 1), np.float32), "speech")[0, 0]
    np.testing.assert_array_equal(speech, KNOWN["speech"].strong)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (97, 3), (1080, 1920)])
def test_any_image_size(size):
    image = np.full((*size, 3), 90, np.uint8)
    result = overlay(image, heatmaps(cell(2, 3, 0.9), cell(8, 3, 0.8)))
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    assert (image == 90).all()  # the input is not drawn on


def test_peak_px_is_the_cell_centre():
    assert peak_px(cell(0, 0, 1.0), 120, 160) == (4, 4)
    assert peak_px(cell(11, 15, 1.0), 12, 16) == (15, 11)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"alpha 1\.5: expected 0"):
        overlay(GREY, heatmaps(), alpha=1.5)
