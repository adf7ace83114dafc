"""The reproduction of paper 004: its runs, one that is really done, and its page."""

import json
from dataclasses import replace

import numpy as np
import pytest

from av_grounding.benchmarking.reproduction import sources
from av_grounding.benchmarking.reproduction.kept import reproduce_from
from av_grounding.benchmarking.reproduction.runs import Budget
from av_grounding.benchmarking.reproduction.sources import (
    COLUMNS,
    SwappedClips,
    list_runs,
)
from av_grounding.cli import main
from av_grounding.evaluation.benchmark import AudioClip
from av_grounding.evaluation.prediction import GrounderPredictor, HeadGrids
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training.configuration import OasslRun
from av_grounding.training.data.stage_batches import StageBatches
from av_grounding.training.settings import override
from av_grounding.training.sources_run import build_banks
from tests.helpers.small_bundle import save_small_bundle
from tests.training.recipes.test_oassl import RUN
from tests.training.recipes.test_sss import needs_speech

TINY = (
    "short_side_px=64", "model.image_options.dim=16", "model.audio_options.dim=16",
    "model.audio_options.num_mels=32", "model.audio_options.widths=(8,16,16)", "model.head_dim=8",
    "data.num_stages=12", "data.num_sounds_per_class=1", "data.num_calibration_samples=4",
    "data.num_counting_samples=8",
    "recipe.transport_grid=4", "recipe.transport_iterations=5", "loop.num_workers=0",
    "loop.tensorboard=false", "loop.checkpoint_every=1",
)  # fmt: skip
BUDGET = Budget(
    steps=2, batch_size=4, num_samples=2, seeds=(1,), ablation_seeds=(1,), settings=TINY
)


def test_runs_are_one_seed_of_everything_first(tmp_path):
    runs = list_runs(Budget(steps=30, seeds=(4, 5), ablation_seeds=(4,)), tmp_path)
    assert len(runs) == 2 * 5 + 4
    assert [run.seed for run in runs] == [4] * 9 + [5] * 5
    assert len({run.name for run in runs}) == len(runs)
    by_group = {run.group: run.config for run in runs}
    assert all(config.start == str(tmp_path) for config in by_group.values())
    assert all(config.recipe.weight_contrast == 1.0 for config in by_group.values())
    weights = {g: (c.recipe.weight_oca, c.recipe.weight_ori) for g, c in by_group.items()}
    assert weights["LVS"] == (0.0, 0.0)
    assert weights["LVS + ORI"] == (0.0, 0.1)
    assert weights["OCA"] == weights["OCA, τ 1"] == (1.0, 0.0)
    assert by_group["OCA + ORI, printed"].recipe.pairs == "printed"
    assert by_group["OCA, labels alone"].data.captions == "labels"


def test_another_samples_sound_is_heard_and_never_ones_own():
    heard = []

    class Listener(GrounderPredictor):
        def __init__(self):
            self.is_told_sources = True

        def ground(self, image, clip, *args, **told):
            heard.append((image, float(clip.waveform[0]), args, told))
            return HeadGrids({})

    swapped = SwappedClips(Listener())
    for number in range(3):
        clip = AudioClip(np.full(4, number, np.float32), 16_000)
        swapped.ground(f"image {number}", clip, None, num_sources=1)
    assert [row[:2] for row in heard] == [("image 0", 0.0), ("image 1", 0.0), ("image 2", 1.0)]
    assert heard[2][2:] == ((None,), {"num_sources": 1})


@needs_speech
def test_control_captions_say_less_or_what_is_not_there(tmp_path):
    build_banks(RUN, tmp_path, lambda *_: None)
    options = {"num_samples": 40_960, "token_samples": 1280, "batch_size": 4, "text_dim": 64}
    full, labels, shuffled = (
        StageBatches(tmp_path, 3, captions=kind, **options)[0]
        for kind in ("full", "labels", "shuffled")
    )
    assert not labels["background_valid"].any()
    assert (labels["foreground_valid"] == full["foreground_valid"]).all()
    assert not np.allclose(labels["foreground"], full["foreground"])
    assert np.allclose(shuffled["foreground"][1:], full["foreground"][:-1])
    assert (shuffled["heard"] == full["heard"]).all()
    with pytest.raises(ValueError, match="captions is 'none'; expected one of full, labels"):
        StageBatches(tmp_path, 3, captions="none", **options)


@needs_speech
def test_partners_sound_where_another_is_still_and_silent(tmp_path):
    build_banks(replace(RUN, data=replace(RUN.data, num_stages=60)), tmp_path, lambda *_: None)
    options = {"num_samples": 40_960, "token_samples": 1280, "batch_size": 8, "text_dim": 8}
    shares = {}
    for share in (0.0, 0.5):
        batches = StageBatches(tmp_path, 3, lookalike_share=share, **options)
        bank, found = batches.stages, 0
        for step in range(20):
            rows = batches.draw_rows(np.random.default_rng(step))
            assert len(set(rows)) == 8
            still = (bank.roles[rows] == 2) & ~bank.active[rows]
            silent = set(bank.classes[rows][still])
            sounding = [set(bank.classes[row, bank.roles[row] == 0]) for row in rows]
            found += sum(bool(one & silent) for one in sounding)
        shares[share] = found / 160
    assert shares[0.5] > 1.3 * shares[0.0]
    with pytest.raises(ValueError, match=r"lookalike_share is 0\.9; expected"):
        StageBatches(tmp_path, 3, lookalike_share=0.9, **options)


@pytest.mark.slow
@needs_speech
def test_a_run_is_trained_measured_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "COMPARED", sources.COMPARED[3:4])
    monkeypatch.setattr(sources, "ABLATIONS", ())
    start = tmp_path / "start"
    model = replace(override(OasslRun(), list(TINY)).model, heads=("sound", "speech"))
    spec = load_bundle(save_small_bundle(tmp_path / "small")).spec
    save_bundle(start, DualEncoder(model), spec, name="start")
    page = tmp_path / "docs/sources.md"
    args = (BUDGET, start, tmp_path / "data", tmp_path / "runs", page)
    reproduce_from(sources, *args, lambda *_: None)
    (result,) = [json.loads(p.read_text()) for p in tmp_path.rglob("result.json")]
    for name, way, metric in COLUMNS.values():
        assert 0.0 <= result[name][way][metric] <= 1.0
    text = page.read_text()
    assert "1 of 1 runs: 2 steps of 4 stages each" in text
    assert "| OCA + ORI, isolating |" in text
    assert "not run yet" in text
    stamp = (tmp_path / "runs/oca-+-ori-isolating-1/result.json").stat().st_mtime_ns
    page.write_text(f"{text}\n<!-- notes -->\nMine.\n")
    reproduce_from(sources, *args, lambda *_: None)
    assert (tmp_path / "runs/oca-+-ori-isolating-1/result.json").stat().st_mtime_ns == stamp
    assert page.read_text().endswith("Mine.\n")


def test_a_start_is_for_this_paper_alone(tmp_path, capsys):
    places = ("--data", str(tmp_path), "--out", str(tmp_path), "--page", str(tmp_path / "p.md"))
    assert main(["reproduce", "--start", str(tmp_path), *places]) == 2
    assert "--start is for --paper oassl" in capsys.readouterr().err
