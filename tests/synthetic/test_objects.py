"""Drawn objects: deterministic, varied, well fitted to their sprite."""

import cv2
import numpy as np
import pytest

from av_grounding.synthetic.objects import CLASSES, ObjectInstance, draw_object, draw_premultiplied


def coverage(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two silhouettes."""
    first, second = first[..., 3] >= 128, second[..., 3] >= 128
    return float((first & second).sum() / (first | second).sum())


def test_classes_are_the_agreed_ones_in_order():
    assert (
        *("dog", "cat", "bird", "cow", "frog", "bee", "car", "train", "airplane", "boat", "bell"),
        *("clock", "drum", "guitar", "piano", "phone", "kettle", "baby"),
    ) == CLASSES


@pytest.mark.parametrize("class_name", CLASSES)
def test_sprite_fills_its_square(class_name):
    for seed in range(6):
        sprite = draw_object(ObjectInstance(class_name, seed), 64, angle_deg=7.0)
        assert sprite.shape == (64, 64, 4)
        assert sprite.dtype == np.uint8
        solid = sprite[..., 3] >= 128
        assert 0.08 < solid.mean() < 0.9
        rows, columns = np.nonzero(solid.any(axis=1))[0], np.nonzero(solid.any(axis=0))[0]
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 56 <= extent <= 64
        # An object drawn in one flat colour, or as noise, would tell nothing but its silhouette.
        assert 3 < len(np.unique(sprite[solid][:, :3] // 32, axis=0)) < 200
        edge = (sprite[..., 3] > 0) & (sprite[..., 3] < 255)
        assert edge.any()


@pytest.mark.parametrize("class_name", CLASSES)
def test_same_seed_same_bytes_other_seed_other_individual(class_name):
    sprites = [draw_object(ObjectInstance(class_name, seed), 48) for seed in range(8)]
    for seed, sprite in enumerate(sprites):
        again = draw_object(ObjectInstance(class_name, seed), 48)
        np.testing.assert_array_equal(sprite, again)
    silhouettes = {(sprite[..., 3] >= 128).tobytes() for sprite in sprites}
    assert len(silhouettes) == 8
    colours = [sprite[sprite[..., 3] >= 128][:, :3].mean(axis=0) for sprite in sprites]
    assert np.std(colours, axis=0).mean() > 8


def test_individuals_of_a_class_are_more_alike_than_classes():
    """Shape identifies the class: the nearest silhouette among other individuals agrees."""
    instances = [ObjectInstance(name, seed) for name in CLASSES for seed in range(8)]
    sprites = [draw_object(instance, 40) for instance in instances]
    num_right = 0
    for index, instance in enumerate(instances):
        scores = [coverage(sprites[index], other) for other in sprites]
        scores[index] = -1.0
        num_right += instances[int(np.argmax(scores))].class_name == instance.class_name
    assert num_right / len(instances) > 0.85


def test_colour_does_not_identify_the_class():
    """The nearest mean colour seldom belongs to the same class."""
    instances = [ObjectInstance(name, seed) for name in CLASSES for seed in range(12)]
    sprites = [draw_object(instance, 32) for instance in instances]
    means = np.array([sprite[sprite[..., 3] >= 128][:, :3].mean(axis=0) for sprite in sprites])
    distance = np.linalg.norm(means[:, None] - means[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    same = [instances[i].class_name == instances[j].class_name for i, j in enumerate(nearest)]
    assert np.mean(same) < 0.3


def test_flip_mirrors_and_angle_turns():
    instance = ObjectInstance("dog", 3)
    plain = draw_object(instance, 80)
    assert coverage(draw_object(instance, 80, flip=True), plain[:, ::-1]) > 0.93
    assert coverage(draw_object(instance, 80, flip=True), plain) < 0.9
    # A quarter turn clockwise takes the top row to the right column.
    assert coverage(draw_object(instance, 80, angle_deg=90.0), np.rot90(plain, -1)) > 0.93


def test_size_only_scales():
    instance = ObjectInstance("kettle", 11)
    small, large = draw_object(instance, 40), draw_object(instance, 160)
    shrunk = cv2.resize(large, (40, 40), interpolation=cv2.INTER_AREA)
    assert coverage(small, shrunk) > 0.9


def test_colour_is_not_premultiplied():
    """Alpha times the straight colour gives the premultiplied sprite, also at faint edges."""
    instance = ObjectInstance("clock", 2)
    straight, premultiplied = draw_object(instance, 64), draw_premultiplied(instance, 64)
    np.testing.assert_array_equal(straight[..., 3], premultiplied[..., 3])
    product = straight[..., :3] * (straight[..., 3:] / 255.0)
    np.testing.assert_allclose(product, premultiplied[..., :3], atol=1.0)
    faint = (straight[..., 3] > 40) & (straight[..., 3] < 140)
    assert faint.sum() > 20


def test_unknown_class_names_the_nearest():
    with pytest.raises(ValueError, match=r"got class 'kettel', expected one of dog, .*'kettle'"):
        ObjectInstance("kettel", 0)


def test_negative_seed_and_tiny_size_are_refused():
    with pytest.raises(ValueError, match="got seed -1, expected 0 or more"):
        ObjectInstance("dog", -1)
    with pytest.raises(ValueError, match="got size_px 2, expected 4 or more"):
        draw_object(ObjectInstance("dog", 1), 2)
