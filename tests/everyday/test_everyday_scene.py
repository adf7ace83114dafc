"""Scenes of cut-outs: where they may lie, what is visible of them, and how they blend."""

import numpy as np
import pytest

from av_grounding.everyday.scene import (
    HEIGHT_PX,
    MAX_COVERED,
    SIZE_PX,
    WIDTH_PX,
    PlacedCutOut,
    arrange,
    compose,
)


def cut_out(height, width, colour):
    picture = np.full((height, width, 4), 255, np.uint8)
    picture[..., :3] = colour
    return picture


GREY = np.full((HEIGHT_PX, WIDTH_PX, 3), 100, np.uint8)
SHAPES = ((90, 60), (300, 310), (20, 200))


@pytest.mark.parametrize("seed", range(20))
def test_things_are_drawn_inside_the_picture_and_hardly_cover_one_another(seed):
    pictures = [cut_out(*shape, 0) for shape in SHAPES]
    placed = arrange(pictures, np.random.default_rng(seed))
    scene = compose(GREY, placed)
    for (x0, y0, x1, y1), mask, shape in zip(scene.boxes, scene.masks, SHAPES, strict=True):
        height, width = y1 - y0, x1 - x0
        area = height * width
        assert SIZE_PX[0] - 1 <= max(height, width) <= SIZE_PX[1] + 1
        assert height / width == pytest.approx(shape[0] / shape[1], rel=0.1)
        assert min(x0, y0) > 0
        assert x1 < WIDTH_PX
        assert y1 < HEIGHT_PX
        assert area * (1 - 2 * MAX_COVERED) <= mask.sum() <= area
    assert scene.masks.sum(axis=0).max() == 1


def placed_at(picture, px, left, top, *, is_flipped=False):
    return PlacedCutOut.scaled(picture, px, is_flipped=is_flipped).at(left, top)


def test_a_thing_in_front_hides_what_is_behind_it():
    red, blue = (cut_out(100, 100, colour) for colour in ((255, 0, 0), (0, 0, 255)))
    scene = compose(GREY, [placed_at(red, 100, 50, 50), placed_at(blue, 100, 100, 50)])
    assert scene.masks[0].sum() == 100 * 50
    assert scene.masks[1].sum() == 100 * 100
    assert (scene.image[scene.masks[0]] == (255, 0, 0)).all()
    assert (scene.image[scene.masks[1]] == (0, 0, 255)).all()
    assert (scene.image[~scene.masks.any(axis=0)] == 100).all()
    assert scene.boxes == ((50, 50, 150, 150), (100, 50, 200, 150))
    assert (GREY == 100).all()


def test_what_lies_hidden_around_a_thing_does_not_bleed_into_its_outline():
    picture = cut_out(100, 100, (0, 255, 0))
    picture[:, :50] = (255, 0, 0, 0)
    scene = compose(GREY, [placed_at(picture, 70, 200, 200)])
    assert scene.image[..., 0].max() == 100
    assert scene.masks[0].sum() == pytest.approx(35 * 70, rel=0.03)


def test_a_mirrored_thing_is_mirrored():
    picture = cut_out(40, 40, (0, 0, 0))
    picture[:, 20:, :3] = 255
    scene = compose(GREY, [placed_at(picture, 40, 10, 10, is_flipped=True)])
    assert scene.image[30, 20, 0] == 255
    assert scene.image[30, 40, 0] == 0


def test_a_thing_moves_by_fractions_of_a_pixel_and_not_out_of_the_picture():
    white = cut_out(20, 20, 255)
    scene = compose(GREY, [placed_at(white, 20, 100.5, 100)])
    row = scene.image[110, 98:124, 0].astype(float)
    assert row.sum() - 100 * len(row) == pytest.approx(20 * 155, abs=2)
    assert 100 < row[2] < 255
    for left, top in ((-50, 10), (10, -50), (900, 10), (10, 900)):
        assert compose(GREY, [placed_at(white, 20, left, top)]).masks.sum() == 400
