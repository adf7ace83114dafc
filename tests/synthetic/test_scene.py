"""Scenes: deterministic per seed, exact masks and boxes, bounded layout, disjoint splits."""

import itertools
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.synthetic import background
from av_grounding.synthetic.objects import CLASSES, ObjectInstance
from av_grounding.synthetic.scene import (
    Placed,
    SceneSpec,
    instance_seed,
    render_scene,
    sample_scene,
)


def spec_of(seed: int, num_objects: int = 3, split: str = "train", aspect: float = 1.0):
    rng = np.random.default_rng(seed)
    names = [str(name) for name in rng.choice(CLASSES, num_objects, replace=False)]
    return sample_scene(rng, names, split, aspect=aspect), names


def test_same_seed_same_scene():
    (first, _), (second, _) = spec_of(5), spec_of(5)
    assert first == second
    one, two = render_scene(first, 96, 128), render_scene(second, 96, 128)
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.masks, two.masks)
    np.testing.assert_array_equal(one.boxes, two.boxes)
    assert spec_of(6)[0] != first


def test_each_seed_changes_only_its_part():
    spec, _ = spec_of(9)
    scene = render_scene(spec, 120, 120)
    for other in (replace(spec, background_seed=1), replace(spec, image_seed=1)):
        changed = render_scene(other, 120, 120)
        np.testing.assert_array_equal(changed.masks, scene.masks)
        assert (changed.image != scene.image).any(axis=-1).mean() > 0.3


def test_splits_draw_from_disjoint_ranges():
    seeds = {}
    for split in ("train", "val", "test"):
        rng = np.random.default_rng(0)
        drawn = [instance_seed(rng, split) for _ in range(2000)]
        for spec in (spec_of(k, split=split)[0] for k in range(50)):
            drawn += [placed.instance.seed for placed in spec.objects]
            drawn += [spec.background_seed, spec.image_seed]
        seeds[split] = (min(drawn), max(drawn))
        assert len(set(drawn)) > 2000
    ordered = sorted(seeds.values())
    assert all(low[1] < high[0] for low, high in itertools.pairwise(ordered))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_objects=st.integers(1, 4),
    aspect=st.sampled_from([1.0, 4 / 3, 16 / 9, 0.6]),
)
def test_layout_bounds(seed, num_objects, aspect):
    spec, names = spec_of(seed, num_objects, "val", aspect)
    assert sorted(placed.instance.class_name for placed in spec.objects) == sorted(names)
    width, height = max(aspect, 1.0), max(1.0 / aspect, 1.0)
    circles = []
    for placed in spec.objects:
        assert 0.22 <= placed.size <= (0.42 if num_objects < 4 else 0.32)
        assert abs(placed.angle_deg) <= 15
        x, y = placed.center[0] * width, placed.center[1] * height
        slack = 0.06 * placed.size
        assert placed.size / 2 - slack <= x <= width - placed.size / 2 + slack
        assert placed.size / 2 - slack <= y <= height - placed.size / 2 + slack
        circles.append((x, y, placed.size))
    for i, (x0, y0, size0) in enumerate(circles):
        for x1, y1, size1 in circles[:i]:
            depth = (size0 + size1) / 2 - math.hypot(x0 - x1, y0 - y1)
            assert depth <= 0.15 * min(size0, size1) + 1e-9


def test_order_sizes_and_poses_vary():
    rng = np.random.default_rng(1)
    specs = [sample_scene(rng, ["dog", "cat"], "train") for _ in range(60)]
    firsts = [spec.objects[0].instance.class_name for spec in specs]
    assert 10 < firsts.count("dog") < 50
    sizes = [spec.objects[0].size for spec in specs]
    assert min(sizes) < 0.28
    assert max(sizes) > 0.38
    assert {placed.flip for spec in specs for placed in spec.objects} == {True, False}
    centers = np.array([placed.center for spec in specs for placed in spec.objects])
    assert (centers.std(axis=0) > 0.15).all()


@pytest.mark.parametrize("size", [(96, 96), (90, 160), (160, 100)])
def test_masks_and_boxes(size):
    height, width = size
    for seed in range(12):
        spec, _ = spec_of(seed, 1 + seed % 4, aspect=width / height)
        scene = render_scene(spec, height, width)
        assert scene.image.shape == (height, width, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(spec.objects), height, width)
        assert scene.masks.sum(axis=0).max() == 1
        for placed, mask, box in zip(spec.objects, scene.masks, scene.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            np.testing.assert_array_equal(box, expected)
            extent = placed.size * min(height, width)
            assert 0.8 * extent <= max(box[2] - box[0], box[3] - box[1]) <= 1.05 * extent + 1
            center = ((box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height)
            np.testing.assert_allclose(center, placed.center, atol=0.06)


def test_objects_change_the_image_inside_their_masks_only():
    for seed in range(8):
        spec, _ = spec_of(seed)
        scene = render_scene(spec, 128, 128)
        empty = render_scene(replace(spec, objects=()), 128, 128)
        assert empty.masks.shape == (0, 128, 128)
        assert empty.boxes.shape == (0, 4)
        difference = np.abs(scene.image.astype(int) - empty.image).max(axis=-1)
        covered = scene.masks.any(axis=0)
        for mask in scene.masks:
            assert (difference[mask] > 6).mean() > 0.7
        # Lines thinner than half a pixel (a whisker) show but are in no mask; blur adds a pixel.
        inside = np.zeros((128, 128), dtype=bool)
        for placed in spec.objects:
            x, y, half = *(128 * c for c in placed.center), 64 * placed.size + 2
            rows, columns = np.ogrid[:128, :128]
            inside |= (abs(rows + 0.5 - y) <= half) & (abs(columns + 0.5 - x) <= half)
        assert difference[~inside].max() == 0
        near = cv2.dilate(covered.astype(np.uint8), np.ones((5, 5), dtype=np.uint8)) > 0
        assert (difference[~near] > 6).mean() < 0.003


def test_later_objects_occlude_earlier_ones():
    back = Placed(ObjectInstance("piano", 1), (0.5, 0.5), 0.4)
    front = Placed(ObjectInstance("clock", 2), (0.5, 0.5), 0.3)
    alone = render_scene(SceneSpec((back,), 3, 4), 100, 100)
    both = render_scene(SceneSpec((back, front), 3, 4), 100, 100)
    swapped = render_scene(SceneSpec((front, back), 3, 4), 100, 100)
    np.testing.assert_array_equal(both.masks[0], alone.masks[0] & ~both.masks[1])
    assert both.masks[1, 50, 50]
    assert not both.masks[0, 50, 50]
    assert swapped.masks[1, 50, 50]
    np.testing.assert_array_equal(swapped.masks[1], alone.masks[0])


def test_an_object_outside_the_image_has_an_empty_mask_and_box():
    away = Placed(ObjectInstance("bee", 1), (1.8, 0.5), 0.3)
    scene = render_scene(SceneSpec((away,), 3, 4), 64, 64)
    assert not scene.masks.any()
    np.testing.assert_array_equal(scene.boxes, np.zeros((1, 4)))


def test_backgrounds_differ():
    backgrounds = [background.draw_background(seed, 64, 96) for seed in range(30)]
    assert {image.shape for image in backgrounds} == {(64, 96, 3)}
    assert len({image.tobytes() for image in backgrounds}) == 30
    contrasts = [image.astype(float).std(axis=(0, 1)).max() for image in backgrounds]
    assert np.median(contrasts) > 8
    means = np.array([image.mean(axis=(0, 1)) for image in backgrounds])
    assert (means.std(axis=0) > 20).all()


def test_backgrounds_carry_clutter(monkeypatch):
    cluttered = [background.draw_background(seed, 96, 96) for seed in range(30)]
    monkeypatch.setattr(background, "_add_clutter", lambda image, rng: None)
    plain = [background.draw_background(seed, 96, 96) for seed in range(30)]
    shares = [
        (np.abs(one.astype(int) - other).max(axis=-1) > 8).mean()
        for one, other in zip(cluttered, plain, strict=True)
    ]
    assert 0.01 < np.median(shares) < 0.3
    assert max(shares) < 0.7


def test_mistakes_are_answered_in_one_line():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"got class 'dgo', expected one of .*did you mean 'dog'"):
        sample_scene(rng, ["dgo"], "train")
    with pytest.raises(ValueError, match="got 0 classes, expected 1 to 4"):
        sample_scene(rng, [], "train")
    with pytest.raises(ValueError, match="got 5 classes, expected 1 to 4"):
        sample_scene(rng, CLASSES[:5], "train")
    with pytest.raises(ValueError, match="got split 'dev', expected one of train, val, test"):
        sample_scene(rng, ["dog"], "dev")
    with pytest.raises(ValueError, match="got aspect 9"):
        sample_scene(rng, ["dog"], "train", aspect=9.0)
    with pytest.raises(ValueError, match="expected 16 or more a side"):
        render_scene(sample_scene(rng, ["dog"], "train"), 8, 64)
