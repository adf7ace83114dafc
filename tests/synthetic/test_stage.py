"""Stages: who sounds looks it, twins do not, and their bank."""

import numpy as np
import pytest

from av_grounding.synthetic.objects import CLASSES, ObjectInstance, draw_premultiplied
from av_grounding.synthetic.scene import render_scene
from av_grounding.synthetic.stage import draw_stage, lookalikes
from av_grounding.synthetic.stage_bank import ROLES, StageBank, StageBankSpec, render_stages


def stages(num, choose=None):
    options = {} if choose is None else {"choose": choose}
    return [draw_stage(np.random.default_rng(seed), "train", **options) for seed in range(num)]


def test_what_sounds_is_active_and_its_twin_is_not():
    drawn = stages(200)
    for stage in drawn:
        for actor, placed in zip(stage.actors, stage.scene.objects, strict=True):
            assert placed.instance.class_name == actor.class_name
            assert placed.is_active == actor.is_active
        sounding = [stage.actors[slot].class_name for slot in stage.slots("sounding")]
        assert len(set(sounding)) == len(sounding) in (1, 2, 3)
        assert all(stage.actors[slot].is_active for slot in stage.slots("sounding"))
        for slot in stage.slots("twin"):
            assert stage.actors[slot].class_name in sounding
            assert not stage.actors[slot].is_active
        for slot in stage.slots("bystander"):
            assert stage.actors[slot].class_name not in sounding
        assert 2 <= len(stage.actors) <= 4
    # Looking for what shakes is not enough: silent things do too.
    bystanders = [s.actors[slot] for s in drawn for slot in s.slots("bystander")]
    assert 0.2 < np.mean([actor.is_active for actor in bystanders]) < 0.5
    assert 0.45 < np.mean([bool(s.slots("twin")) for s in drawn]) < 0.75
    assert {len(s.slots("sounding")) for s in drawn} == {1, 2, 3}


def test_lookalikes_have_a_twin_and_an_active_bystander():
    for num in (1, 2):
        (stage,) = stages(1, lambda rng, num=num: lookalikes(num, rng))
        assert len(stage.slots("sounding")) == num
        (twin,), (bystander,) = stage.slots("twin"), stage.slots("bystander")
        assert not stage.actors[twin].is_active
        assert stage.actors[bystander].is_active
    with pytest.raises(ValueError, match="got 3 sounding objects, expected 1 to 2"):
        lookalikes(3, np.random.default_rng(0))


@pytest.mark.parametrize("name", CLASSES)
def test_shaking_can_be_seen_and_stays_in_place(name):
    instance = ObjectInstance(name, 3)
    still = draw_premultiplied(instance, 48)
    shaken = draw_premultiplied(instance, 48, is_active=True)
    change = np.abs(still.astype(int) - shaken.astype(int)).mean()
    other = draw_premultiplied(ObjectInstance(name, 4), 48)
    assert 1.5 < change < np.abs(still.astype(int) - other.astype(int)).mean() * 1.5
    inside, shaken_inside = still[..., 3] > 127, shaken[..., 3] > 127
    overlap = (inside & shaken_inside).sum() / (inside | shaken_inside).sum()
    assert overlap > 0.6


def test_a_scene_without_active_objects_is_drawn_as_before():
    (stage,) = stages(1)
    from dataclasses import replace

    still = replace(
        stage.scene,
        objects=tuple(replace(placed, is_active=False) for placed in stage.scene.objects),
    )
    assert not np.array_equal(
        render_scene(still, 96, 96).image, render_scene(stage.scene, 96, 96).image
    )


def test_the_bank_holds_its_stages_and_is_reused(tmp_path):
    spec = StageBankSpec("train", 60, size_px=64, seed=3)
    StageBank.build(tmp_path, spec, workers=1)
    bank = StageBank(tmp_path)
    assert bank.images.shape == (60, 64, 64, 3)
    images, classes, roles, active = render_stages(spec, 50)
    np.testing.assert_array_equal(bank.images[50:], images)
    np.testing.assert_array_equal(bank.classes[50:], classes)
    np.testing.assert_array_equal(bank.roles[50:], roles)
    np.testing.assert_array_equal(bank.active[50:], active)
    assert ((bank.classes < 0) == (bank.roles < 0)).all()
    assert bank.active[bank.roles == ROLES.index("sounding")].all()
    assert not bank.active[bank.roles == ROLES.index("twin")].any()
    before = (tmp_path / "images.npy").stat().st_mtime_ns
    StageBank.build(tmp_path, spec, progress=lambda *_: pytest.fail("rendered again"))
    assert (tmp_path / "images.npy").stat().st_mtime_ns == before
