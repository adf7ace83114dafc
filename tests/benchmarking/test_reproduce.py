"""The reproduction: its runs, its measurements, its resuming, its page."""

import json

import numpy as np
import pytest

from av_grounding.benchmarking.reproduction import page as pages
from av_grounding.benchmarking.reproduction import reproduce as reproducing
from av_grounding.benchmarking.reproduction import runs as listed
from av_grounding.benchmarking.reproduction.measuring import retrieve, segment
from av_grounding.benchmarking.reproduction.runs import Budget, list_runs
from av_grounding.evaluation.benchmark import GroundingSample, Target
from av_grounding.evaluation.packed_mask import PackedMask
from av_grounding.evaluation.prediction import HeadGrids
from av_grounding.evaluation.scoring.rows import GroundingJob
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.training.configuration import DenseavRun, SssRun

needs_speech = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
TINY = (
    "short_side_px=32", "model.image_options.dim=16", "model.audio_options.dim=16",
    "model.audio_options.widths=(8,16,16)", "model.audio_options.num_mels=32",
    "model.head_dim=8", "data.num_scene_groups=2", "data.num_sounds_per_class=1",
    "data.num_utterances_per_class=1", "data.pretext_groups=1", "data.pretext_clips=2",
    "loop.precision=fp32", "pretext.precision=fp32", "loop.num_workers=0",
    "pretext.num_workers=0", "loop.tensorboard=false", "pretext.tensorboard=false",
    "loop.log_every=1", "recipe.cell_block=(2,2)",
)  # fmt: skip


def test_runs_are_one_seed_of_everything_first():
    runs = list_runs(Budget(steps=320, seeds=(4, 5), ablation_seeds=(4,)))
    assert len(runs) == 2 * 2 + 6
    assert [run.seed for run in runs] == [4] * 8 + [5] * 2
    assert len({run.name for run in runs}) == len(runs)
    by_group = {run.group: run.config for run in runs}
    assert isinstance(by_group["denseav"], DenseavRun)
    assert type(by_group["sss"]) is SssRun
    for config in by_group.values():
        assert config.loop.steps == 320
        assert config.recipe.sharpness_steps == 120
        assert config.pretext == by_group["sss"].pretext
    assert by_group["sss without L_cor"].recipe.weight_correspondence == 0.0
    assert by_group["sss without L_dis"].recipe.weight_disentanglement == 0.0
    assert by_group["denseav, SimPool"].recipe.aggregation == "simpool"
    with pytest.raises(ValueError, match=r"seeds are \(1, 1\)"):
        Budget(seeds=(1, 1))


def test_segmentation_takes_the_head_of_the_name_and_speech_its_word():
    """One sample: the sound head sees the left half, the speech head the right, in the word."""
    left = np.zeros((8, 8), bool)
    left[:, :4] = True
    targets = tuple(
        Target(head=head, class_name=name, load_mask=PackedMask.of(mask))
        for head, name, mask in (("sound", "dog", left), ("speech", "bell", ~left))
    )
    sample = GroundingSample(
        id="one", load_image=lambda: None, load_clip=lambda: None, targets=targets
    )
    right = np.where(left, -9.0, 9.0)[None].astype(np.float32)
    unsure = {"sound": -right, "speech": np.zeros_like(right)}
    timed = {"sound": np.full_like(right, 9.0), "speech": right}
    found = segment([GroundingJob(sample, HeadGrids(unsure), HeadGrids(timed))])
    for kind in ("sound", "speech"):
        assert found[kind]["own"] == {"mAP": 1.0, "miou": 1.0}
    # Over both heads the word lights the whole image where the sound head does.
    assert found["speech"]["total"]["mAP"] == pytest.approx(0.5, abs=0.01)
    assert found["sound"]["total"]["mAP"] == 1.0


def test_retrieval_by_own_opposite_and_both_heads():
    right, wrong = np.eye(3) * 2, np.eye(3)[[1, 2, 0]]
    partners = np.eye(3, dtype=bool)
    found = retrieve(1, [wrong, right], partners)
    assert found["own"] == found["total"] == {"i2a": 1.0, "a2i": 1.0}
    assert found["opposite"] == {"i2a": 0.0, "a2i": 0.0}
    # Another image that shows the class is as right.
    partners = partners | (wrong > 0)
    assert retrieve(1, [wrong, right], partners)["opposite"]["i2a"] == 1.0


@pytest.mark.parametrize(
    ("higher", "lower", "answer"),
    [
        ([60.0, 62.0], [50.0, 51.0], "reproduced, difference +10.5"),
        ([50.0, 51.0], [60.0, 62.0], "**not reproduced**, difference -10.5"),
        ([60.0, 50.0], [56.0, 53.0], "**undecided**"),
        ([60.0], [50.0], "one seed"),
        ([], [50.0], "not run yet"),
    ],
)
def test_a_verdict_weighs_the_difference_against_the_spread(higher, lower, answer):
    assert answer in pages.verdict("claim", higher, lower)


def test_what_did_not_learn_is_named():
    def result(group, recall):
        scores = {"total": {"i2a": recall, "a2i": recall}}
        clean = {kind: scores for kind in ("sound", "speech")}
        return {
            "group": group,
            "retrieval": {"clean": clean, "chance": {"sound": 0.16, "speech": 0.16}},
        }

    results = {"a": result("denseav", 0.8), "b": result("denseav, CLS token", 0.18)}
    assert pages.retrieval_over_chance(results, "denseav") == pytest.approx(5.0)
    assert pages.retrieval_over_chance(results, "denseav, SimPool") is None
    assert pages.retrieval_over_chance(results, "denseav, CLS token") < pages.NEAR_CHANCE


@needs_speech
@pytest.mark.slow
def test_a_tiny_reproduction_resumes_and_writes_its_page(tmp_path, monkeypatch):
    monkeypatch.setattr(listed, "ABLATIONS", listed.ABLATIONS[4:5])  # SimPool
    schedule = Budget(
        steps=2,
        pretext_steps=1,
        aligner_steps=1,
        batch_size=3,
        num_samples=4,
        seeds=(1, 2),
        settings=TINY,
    )
    args = (schedule, tmp_path / "data", tmp_path / "out", tmp_path / "docs" / "page.md")
    stages = []
    page = reproducing.reproduce(*args, lambda *row: stages.append(row[0]))
    trained = {"pretext", "aligners", "mix-and-separate", "head-max contrast"}
    assert {"scenes", "audio"} | trained <= set(stages)
    text = page.read_text()
    assert "5 of 5 runs: 2 steps of 3 images" in text
    assert "| denseav, SimPool |" in text
    result = json.loads((tmp_path / "out" / "sss-1" / "result.json").read_text())
    assert result["heads"] == ["sound", "speech"]
    own = result["segmentation"]["simultaneous"]["sound"]["own"]
    assert 0.0 < own["mAP"] < 1.0
    row = next(line for line in text.splitlines() if line.startswith("| sss |"))
    second = json.loads((tmp_path / "out" / "sss-2" / "result.json").read_text())
    maps = [one["segmentation"]["simultaneous"]["sound"]["own"]["mAP"] for one in (result, second)]
    assert row.split("|")[2].strip().startswith(f"{50 * sum(maps):.1f} ± ")

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(reproducing, "train_recipe", refuse)
    before = page.read_bytes()
    reproducing.reproduce(*args, lambda *_: None)
    assert page.read_bytes() == before
    noted = before + f"\n{pages.NOTES}\n\nSeen by hand.\n".encode()
    page.write_bytes(noted)
    reproducing.reproduce(*args, lambda *_: None)
    assert page.read_bytes() == noted
    # What was measured in another way is measured again, and other seeds are other runs.
    (tmp_path / "out" / "sss-2" / "result.json").write_text(json.dumps(second | {"protocol": 1}))
    with pytest.raises(AssertionError, match="trained again"):
        reproducing.reproduce(*args, lambda *_: None)
