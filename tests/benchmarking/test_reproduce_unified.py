"""The reproduction of paper 003: its runs, its oracles, one run that is really done, its page."""

import json

import numpy as np
import pytest

from av_grounding.benchmarking.reproduction import unified
from av_grounding.benchmarking.reproduction.kept import write_kept_page
from av_grounding.benchmarking.reproduction.runs import Budget
from av_grounding.benchmarking.reproduction.unified import (
    ABLATIONS,
    COMPARED,
    list_unified_runs,
    oracle_estimates,
    reproduce_unified,
)
from av_grounding.benchmarking.reproduction.unified_page import (
    ALL,
    COLUMNS,
    LITERAL,
    claims,
    lines,
)
from av_grounding.evaluation.metrics.separation import separation_scores
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.training.configuration import OneAvmRun
from tests.training.recipes.test_oneavm import needs_speech

TINY = (
    "short_side_px=64", "model.image_options.dim=16", "model.audio_options.dim=16",
    "model.audio_options.num_mels=32", "model.audio_options.widths=(4,4,8,8)",
    "model.head_dim=8", "model.embedding_dim=8", "data.num_scene_groups=4",
    "data.num_sounds_per_class=1", "data.pretext_groups=2", "data.pretext_clips=2",
    "loop.num_workers=0", "loop.tensorboard=false", "loop.checkpoint_every=1",
    "pretext.num_workers=0", "pretext.tensorboard=false",
)  # fmt: skip
BUDGET = Budget(
    steps=2, pretext_steps=1, batch_size=4, num_samples=2, seeds=(1,), ablation_seeds=(1,),
    settings=TINY,
)  # fmt: skip
SCORES = {"sdr": 9.0, "sir": 14.0, "sar": 11.0}


def result(group, seed=1, **changes):
    """A result whose numbers are 0.5 or 5 dB, but for `changes` of columns in their units."""
    made = {"group": group, "seed": seed, "separation": {"mixture": {"sdr": 0.1}}}
    for name, (benchmark, row, metric, scale) in COLUMNS.items():
        value = changes.get(name, 50.0 if scale == 100.0 else 5.0)
        made.setdefault(benchmark, {}).setdefault(row, {})[metric] = value / scale
    return made


def test_runs_are_one_seed_of_everything_first():
    runs = list_unified_runs(Budget(steps=30, seeds=(4, 5), ablation_seeds=(4,)))
    assert [run.seed for run in runs] == [4] * 9 + [5] * 3
    assert len({run.name for run in runs}) == len(runs)
    recipes = {run.group: run.config.recipe for run in runs}
    weights = {
        group: (one.weight_correspondence, one.weight_separation, one.weight_alignment)
        for group, one in recipes.items()
    }
    assert weights["CL"] == (1.0, 0.0, 0.0)
    assert weights["MAS"] == weights["MAS, literal"] == (0.0, 1.0, 0.0)
    assert weights["CL + MVA"] == (1.0, 0.0, 1.0)
    assert weights[ALL] == weights[LITERAL] == (1.0, 1.0, 1.0)
    literal = {group for group, one in recipes.items() if one.mask_target == "literal"}
    assert literal == {"MAS, literal", LITERAL}
    assert all(run.config.aligners.steps == 0 for run in runs)
    assert set(weights) == {*COMPARED, *ABLATIONS}


def test_the_oracles_masks_are_the_targets():
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    is_first = np.arange(32_000) < 16_000
    clips = [noise * is_first, noise * ~is_first]
    model = SeparatingEncoder(OneAvmRun().model)
    dominant, literal = (
        oracle_estimates(model, [one.astype("f")[:-77] for one in clips], target)
        for target in ("dominant", "literal")
    )
    assert dominant.shape == literal.shape == (2, 32_000 - 77)
    references = np.stack(clips)[:, :-77]
    assert separation_scores(references, dominant).sdr.min() > 20.0
    # Where one source sounds alone it cannot exceed the mixture: the formula leaves nothing of it.
    assert np.square(literal).mean() < 0.05 * np.square(dominant).mean()


def test_the_page_says_what_holds(tmp_path):
    results = [
        result("CL", **{"solo: cIoU@0.3": 40.0, "trio": 10.0, "IR": 30.0}),
        result("MAS", SDR=4.0),
        result(ALL, **{"SDR": 8.0, "SIR": 12.0, "with the other picture": -3.0, "IR": 20.0}),
        result(LITERAL, SDR=2.0, SIR=11.0),
    ]
    page = tmp_path / "docs/page.md"
    oracles = {"dominant": SCORES, "literal": SCORES}
    write_kept_page(page, lines(results, oracles, BUDGET, 12, (*COMPARED, *ABLATIONS)))
    text = page.read_text()
    assert "4 of 12 runs: 2 steps of 4 pictures each" in text
    assert "| oracle, literal | 9.0 | 14.0 | 11.0 |" in text
    assert "| learned, dominant | 8.0 | 12.0 | 5.0 |" in text
    assert f"- {ALL} above CL (table 5c, IR): **not reproduced**, difference -10.0" in text
    assert "(table 6): reproduced, difference +30.0" in text
    assert "SDR 3 dB above the mixture: reproduced, difference +4.9" in text
    assert "dominant above literal, SDR: reproduced, difference +6.0" in text
    assert "from SDR to SIR than dominant: reproduced, difference +5.0" in text
    assert "CL + MAS above MAS (table 5b, SDR): not run yet." in text
    assert all(len(row.split("|")) == len(COLUMNS) + 3
               for row in text.splitlines() if row.startswith("| CL "))  # fmt: skip
    page.write_text(f"{text}\n<!-- notes -->\nMine.\n")
    write_kept_page(page, lines(results[:1], oracles, BUDGET, 12, COMPARED))
    assert page.read_text().endswith("Mine.\n")
    assert "1 of 12 runs" in page.read_text()
    assert all(not high or not low for name, high, low in claims([]))


@pytest.mark.slow
@needs_speech
def test_a_run_is_trained_measured_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(unified, "COMPARED", ("MAS",))
    monkeypatch.setattr(unified, "ABLATIONS", (LITERAL,))
    page, out = tmp_path / "page.md", tmp_path / "runs"
    args = (BUDGET, tmp_path / "data", out, page, lambda *_: None)
    reproduce_unified(*args)
    kept = sorted(out.rglob("result.json"))
    assert [file.parent.name for file in kept] == ["cl+mas+mva-literal-1", "mas-1"]
    for file in kept:
        one = json.loads(file.read_text())
        for name, row, metric, scale in COLUMNS.values():
            value = one[name][row][metric]
            assert np.isfinite(value)
            assert scale == 1.0 or 0.0 <= value <= 1.0
    oracles = json.loads((out / "oracles.json").read_text())["oracles"]
    assert oracles["dominant"]["sdr"] > oracles["literal"]["sdr"] + 5.0
    assert "2 of 2 runs: 2 steps of 4 pictures each" in page.read_text()
    stamps = [file.stat().st_mtime_ns for file in (*kept, out / "oracles.json")]
    reproduce_unified(*args)
    assert [file.stat().st_mtime_ns for file in (*kept, out / "oracles.json")] == stamps
