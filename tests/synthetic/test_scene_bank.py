"""The scene bank: whole groups, exact cells, two views of the same individuals, reuse."""

import json

import numpy as np
import pytest

from av_grounding.synthetic import scene_bank
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene import render_scene, sample_scene
from av_grounding.synthetic.scene_bank import CELL_PX, SceneBank, SceneBankSpec

SPEC = SceneBankSpec("train", num_groups=2, size_px=64, seed=3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("bank")


@pytest.fixture(scope="module")
def bank(directory):
    steps = []
    built = SceneBank.build(directory, SPEC, progress=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]
    return built


def test_every_group_holds_every_class_exactly_once(bank):
    assert bank.spec == SPEC
    assert bank.images.shape == (12, 2, 64, 64, 3)
    assert bank.index.shape == (12, 2, 16, 16)
    for group in np.split(bank.classes, SPEC.num_groups):
        present = group[group >= 0]
        assert sorted(present) == list(range(len(CLASSES)))
        assert set((group >= 0).sum(axis=1)) <= {2, 3, 4}
    assert not np.array_equal(*np.split(bank.classes, 2))


def test_cells_name_the_scenes_classes_and_no_others(bank):
    for index, classes in zip(bank.index, bank.classes, strict=True):
        wanted = {int(1 + number) for number in classes if number >= 0}
        for view in index:
            assert set(np.unique(view)) - {0} <= wanted
            assert (view == 0).any()
    # Objects are large enough to be seen by the centre of some cell nearly always.
    num_seen = sum(len(set(np.unique(view)) - {0}) for pair in bank.index for view in pair)
    assert num_seen >= 0.95 * 2 * (bank.classes >= 0).sum()


def test_a_second_build_reuses_the_files_and_another_seed_does_not(bank, directory, tmp_path):
    before = (directory / "images.npy").stat().st_mtime_ns
    again = SceneBank.build(directory, SPEC, progress=lambda *_: pytest.fail("rendered again"))
    assert (directory / "images.npy").stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.images, bank.images)
    group = scene_bank.render_group(SPEC, 1)
    np.testing.assert_array_equal(group[0], bank.images[6:])
    np.testing.assert_array_equal(group[1], bank.index[6:])
    np.testing.assert_array_equal(group[2], bank.classes[6:])
    other = scene_bank.render_group(SceneBankSpec("train", 2, 64, seed=4), 1)
    assert not np.array_equal(other[0], group[0])


def test_an_unfinished_bank_is_made_again(bank, directory):
    (directory / "bank.json").rename(directory / "bank.json.away")
    wrong = np.load(directory / "classes.npy")
    np.save(directory / "classes.npy", np.zeros_like(wrong))
    rebuilt = SceneBank.build(directory, SPEC)
    np.testing.assert_array_equal(rebuilt.classes, wrong)
    np.testing.assert_array_equal(rebuilt.images, bank.images)
    assert json.loads((directory / "bank.json").read_text())["seed"] == SPEC.seed


def test_both_views_show_the_same_individuals_elsewhere():
    rng = np.random.default_rng(0)
    names = ["dog", "bell", "car"]
    first = sample_scene(rng, names, "train")
    second = scene_bank.with_individuals(sample_scene(rng, names, "train"), first)
    individuals = {placed.instance for placed in first.objects}
    assert {placed.instance for placed in second.objects} == individuals
    assert second.background_seed != first.background_seed
    assert {p.center for p in first.objects}.isdisjoint(p.center for p in second.objects)


def test_cells_lie_on_the_objects_that_are_drawn():
    """Whatever size a view is drawn at, a cell says what stands at its centre."""
    scene = sample_scene(np.random.default_rng(5), ["cow", "kettle"], "train")
    size, seen_sizes = 96, set()
    centres = np.arange(size // CELL_PX) * CELL_PX + CELL_PX // 2
    for seed in range(16):
        image, index = scene_bank.render_view(scene, size, np.random.default_rng(seed))
        drawn_px = int(np.random.default_rng(seed).choice([size, size * 5 // 4, size * 7 // 4]))
        seen_sizes.add(drawn_px)
        assert image.shape == (size, size, 3)
        rendered = render_scene(scene, size, size)
        expected = np.zeros_like(index)
        for placed, mask in zip(rendered.spec.objects, rendered.masks, strict=True):
            number = 1 + CLASSES.index(placed.instance.class_name)
            expected[mask[np.ix_(centres, centres)]] = number
        # Drawn at another size, only cells on an outline may differ.
        assert (index != expected).mean() < 0.05
        if drawn_px == size:
            np.testing.assert_array_equal(index, expected)
    assert len(seen_sizes) == 3


@pytest.mark.parametrize("num", [4, 10])
def test_groups_that_cannot_hold_every_class_are_refused(num):
    with pytest.raises(ValueError, match=f"num_scenes_per_group is {num}; expected 5 to 9"):
        SceneBankSpec("train", 1, num_scenes_per_group=num)


@pytest.mark.parametrize("parts", [5, 6, 9])
def test_parts_have_two_to_four_members_and_lose_none(parts):
    order = np.arange(18)
    sizes = set()
    for seed in range(50):
        split = scene_bank.split_evenly(order, parts, np.random.default_rng(seed))
        assert len(split) == parts
        np.testing.assert_array_equal(np.concatenate(split), order)
        sizes |= {len(part) for part in split}
    assert sizes <= {2, 3, 4}
    assert parts != 6 or sizes == {2, 3, 4}
