"""Equations 4 and 5 of paper 002 on regions' scores, and not on the pixels they are painted to."""

import numpy as np
import pytest

from av_grounding.evaluation.benchmark import GroundingSample, SemanticSample, Target
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.prediction import GrounderPredictor, HeadGrids
from av_grounding.evaluation.protocols import PROTOCOLS
from av_grounding.evaluation.scoring.heads import relative
from av_grounding.evaluation.scoring.localisation import score
from av_grounding.evaluation.scoring.rows import GroundingJob
from av_grounding.evaluation.scoring.video import (
    score_classes,
    score_mask,
    summarise_classes,
    summarise_masks,
)
from av_grounding.regions import Regions, box_map

MASKS = np.zeros((3, 8, 8), bool)
MASKS[0, :4, :4], MASKS[1, 4:, :], MASKS[2, :4, 4:6] = True, True, True
LOGITS = np.array([0.6, 0.2, 0.5], np.float32)
REGIONS = Regions(MASKS, LOGITS, np.ones(3, np.float32), ("dog", "bell", "dog"))


def grids(gated=()):
    picture = np.full((1, 8, 8), -30.0, np.float32)
    for mask, logit in zip(MASKS, LOGITS, strict=True):
        picture[0, mask] = logit
    regions = {} if gated else {"sound": REGIONS}
    return HeadGrids({"sound": picture}, gated=gated, regions=regions)


def test_a_map_is_relative_to_the_regions():
    picture = relative(grids(), "sound")
    assert picture[0, 0] == 1.0
    assert picture[0, 4] == pytest.approx(0.75)
    assert picture[4:].max() == 0.0
    assert picture[0, 7] == 0.0
    assert relative(grids(gated=("sound",)), "sound").max() == 0.0


def test_each_protocol_has_its_own_threshold():
    truth = MASKS[0] | MASKS[2]
    sample = GroundingSample(
        id="a", load_image=lambda: None, load_clip=None,
        targets=(Target(head="sound", class_name="dog", load_mask=PackedMask.of(truth)),),
    )  # fmt: skip
    names = ("per_video", "seac_0.5", "seac_0.9")
    protocols = [PROTOCOLS[name] for name in names]
    scored = score_mask(GroundingJob(sample, grids()), protocols)
    found = {one.name: summarise_masks([scored], one)["model"]["miou"] for one in protocols}
    assert found["seac_0.5"] == pytest.approx(1.0, abs=1e-6)
    assert found["seac_0.9"] == pytest.approx(16 / 24, abs=1e-6)
    # Calibrated, all three regions lie above 0.5.
    assert found["per_video"] == pytest.approx(24 / 56, abs=1e-6)


def test_a_region_is_called_by_its_name_where_it_sounds():
    named = GrounderPredictor._classify_regions(grids(), ["bell", "dog"])
    assert named.region_classes == (1, 0, 1)
    assert named.logits["classes"].shape == (2, 8, 8)
    assert named.logits["classes"][1, 0, 4] == pytest.approx(0.5)
    truth = np.zeros((8, 8), np.int64)
    truth[:4, :4] = 2
    sample = SemanticSample(
        id="a", load_image=lambda: None, load_clip=None, load_class_map=lambda: truth
    )
    job = GroundingJob(sample, named, num_classes=3)
    scored = score_classes(job, [PROTOCOLS["seac"]])
    result, _per_class = summarise_classes(
        [scored], PROTOCOLS["seac"], ("background", "bell", "dog")
    )
    assert result["model"]["miou_present"] == pytest.approx(1.0)
    cells = score_classes(
        GroundingJob(sample, HeadGrids({"sound": grids().logits["sound"],
                                        "classes": np.zeros((2, 8, 8), np.float32)}),
                     num_classes=3), [PROTOCOLS["seac"]],
    )  # fmt: skip
    with pytest.raises(ValueError, match="named regions, of which this model has none"):
        summarise_classes([cells], PROTOCOLS["seac"], ("background", "bell", "dog"))
    gated = GrounderPredictor._classify_regions(grids(gated=("sound",)), ["bell", "dog"])
    assert gated.region_classes == ()


def test_boxes_are_painted_with_relative_scores():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, [0, 3], [0, 3]] = True  # two corners of a box of 4 by 4
    masks[1, 2:8, 2:8] = True
    picture = box_map(masks, np.array([3.0, -1.0]), 16, 24)
    expected = np.zeros((16, 24), np.float32)
    expected[:8, :12] = 1.0
    np.testing.assert_array_equal(picture, expected)


def test_boxes_have_a_protocol_whose_confidence_is_the_score_before():
    ring = np.zeros((8, 8), bool)
    ring[1:7, 1:7] = True
    ring[2:6, 2:6] = False
    wall = np.zeros((8, 8), bool)
    wall[:, 7] = True
    logits = np.array([0.9, -0.9], np.float32)
    picture = np.where(ring, logits[0], np.where(wall, logits[1], -30.0)).astype(np.float32)
    found = Regions(np.stack([ring, wall]), logits, np.ones(2, np.float32))
    box = np.zeros((8, 8), bool)
    box[1:7, 1:7] = True
    sample = GroundingSample(
        id="a", load_image=lambda: None, load_clip=None,
        targets=(Target(head="sound", class_name="bell", load_mask=PackedMask.of(box)),),
    )  # fmt: skip
    protocols = [PROTOCOLS[name] for name in ("abs0.5", "seac_boxes")]

    def scores(answer):
        return score(GroundingJob(sample, answer), protocols).row["protocols"]

    regions = scores(HeadGrids({"sound": picture[None]}, regions={"sound": found}))
    assert regions["seac_boxes"]["model"]["iou"] == pytest.approx([1.0])
    assert regions["abs0.5"]["model"]["iou"][0] < 0.8
    assert regions["seac_boxes"]["model"]["confidence"] == pytest.approx(0.711, abs=1e-3)
    # A model of cells has its own map, from its least to its largest value.
    cells = scores(HeadGrids({"sound": np.where(box, 5.0, 4.0).astype(np.float32)[None]}))
    assert cells["seac_boxes"]["model"]["iou"] == pytest.approx([1.0])
    silent = scores(HeadGrids({"sound": picture[None]}, gated=("sound",)))
    assert silent["seac_boxes"]["model"]["iou"] == [0.0]
