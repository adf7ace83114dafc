"""The reproduction of paper 002: its runs, one that is really done, and its page."""

import json
import re

import numpy as np
import pytest

from av_grounding.benchmarking.reproduction import regions
from av_grounding.benchmarking.reproduction.kept import reproduce_from
from av_grounding.benchmarking.reproduction.regions import (
    COLUMNS,
    lines,
    list_runs,
    recall_of,
    regions_of,
)
from av_grounding.benchmarking.reproduction.runs import Budget
from av_grounding.evaluation.benchmark import GroundingSample, Target
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.prediction import HeadGrids
from av_grounding.evaluation.scoring.rows import GroundingJob
from av_grounding.regions import Regions
from tests.helpers.small_bundle import save_small_bundle
from tests.training.recipes.test_sss import needs_speech

TINY = (
    "num_scenes=6", "short_side_px=64", "model.image_aligner_options.width=16",
    "model.image_aligner_options.depth=1", "data.num_scene_groups=1",
    "data.num_sounds_per_class=1", "data.num_calibration_samples=2", "loop.num_workers=0",
    "loop.tensorboard=false", "loop.checkpoint_every=1",
)  # fmt: skip
BUDGET = Budget(
    steps=2, batch_size=4, num_samples=5, seeds=(1,), ablation_seeds=(1,), settings=TINY
)


def test_runs_are_one_seed_of_everything_first(tmp_path):
    runs = list_runs(Budget(steps=30, seeds=(4, 5), ablation_seeds=(4,)), tmp_path)
    assert [run.seed for run in runs] == [4] * 13 + [5] * 4
    assert len({run.name for run in runs}) == len(runs)
    assert all(re.fullmatch(r"[a-z0-9-]+", run.name) for run in runs)
    by_group = {run.group: run.config for run in runs}
    assert all(config.start == str(tmp_path) for config in by_group.values())
    assert by_group["MSA"].recipe.mixing == "msa"
    assert by_group["MICL"].recipe.mixing == "none"
    assert by_group["MICL on mixtures"].recipe.mixing == "naive"
    assert by_group["MSA, 8 masks"].model.proposals_options == {"num_regions": 8}
    crops = {name: by_group[f"MSA, {name} views"].model for name in ("local", "global", "both")}
    weights = {name: model.local_weight for name, model in crops.items()}
    assert weights == {"local": 1.0, "global": 0.0, "both": 0.6}
    assert {model.views for model in crops.values()} == {"crops"}
    # Runs that differ in the objective or the number of pictures share a bank; every other kind
    # has its own.
    banks = {group: regions_of(config, tmp_path) for group, config in by_group.items()}
    fewer = {f"MSA, {num} pictures": num for num in (400, 800)}
    assert {group: by_group[group].num_scenes for group in fewer} == fewer
    assert len({banks[name] for name in ("MSA", "MICL", "MICL on mixtures", *fewer)}) == 1
    assert len(set(banks.values())) == len(banks) - 4


def test_recall_counts_things_that_a_region_covers_by_half():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :4], masks[1, 4:, 4:] = True, True
    found = Regions(masks, np.zeros(2, np.float32), np.ones(2, np.float32))

    def job(truth, of_head):
        target = Target(head="sound", class_name="bell", load_mask=PackedMask.of(truth))
        sample = GroundingSample(
            id="a", load_image=lambda: None, load_clip=None, targets=(target,)
        )
        return GroundingJob(sample, HeadGrids({}, regions=of_head))

    half = np.zeros((16, 16), bool)
    half[:8] = True
    lower = np.zeros((16, 16), bool)
    lower[8:] = True  # the best region has half of it
    heard = {"sound": found}
    result = recall_of([job(half, heard), job(lower, heard), job(half, {})])
    assert result["best_iou"] == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    assert result["recall"] == pytest.approx(2 / 3)


def test_the_page_tells_objective_from_mixtures():
    def result(group, miou):
        of_protocol = {"miou": miou, "f": 0.5}
        single = {name: of_protocol for name in regions.PROTOCOL_NAMES}
        return {
            "group": group, "multi": single,
            "single": {**single, "proposals": {"recall": 0.9, "best_iou": 0.7}},
        }  # fmt: skip

    results = [result("MSA", 0.6), result("MSA", 0.62), result("MICL", 0.5), result("MICL", 0.5),
               result("MICL on mixtures", 0.61), result("MICL on mixtures", 0.61)]  # fmt: skip
    text = "\n".join(lines(results, BUDGET, 15))
    assert "6 of 15 runs: 2 steps of 4 pictures" in text
    row = "| MSA | 61.0 ± 1.4 | 61.0 ± 1.4 | 50.0 ± 0.0 |"
    assert row in text
    assert "- MSA above MICL (table 3), multi: reproduced, difference +11.0" in text
    assert "MSA above MICL on mixtures, multi: **undecided**" in text
    assert "32 masks above 16, single: not run yet." in text


@pytest.mark.slow
@needs_speech
def test_runs_are_trained_measured_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(regions, "COMPARED", regions.COMPARED[2:4])
    monkeypatch.setattr(regions, "ABLATIONS", regions.ABLATIONS[-1:])
    start = save_small_bundle(tmp_path / "start")
    page = tmp_path / "docs/regions.md"
    args = (BUDGET, start, tmp_path / "data", tmp_path / "runs", page)
    reproduce_from(regions, *args, lambda *_: None)
    results = {path: json.loads(path.read_text()) for path in tmp_path.rglob("result.json")}
    assert len(results) == 3
    for result in results.values():
        for name, way, metric in COLUMNS.values():
            assert 0.0 <= result[name][way][metric] <= 1.0
    banks = {path.name for path in (tmp_path / "data/regions-of").iterdir()}
    assert banks == {"classical-16", "grid-100", "classical-16-crops-0.6"}
    text = page.read_text()
    assert "3 of 3 runs" in text
    assert "| MSA, both views |" in text
    stamps = {path: path.stat().st_mtime_ns for path in results}
    page.write_text(f"{text}\n<!-- notes -->\nMine.\n")
    reproduce_from(regions, *args, lambda *_: None)
    assert {path: path.stat().st_mtime_ns for path in results} == stamps
    assert page.read_text().endswith("Mine.\n")
