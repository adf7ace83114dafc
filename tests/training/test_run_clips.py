"""Real clips end to end: rendered samples, shards of them, training, a bundle that grounds."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from av_grounding import cli
from av_grounding.grounder import Grounder
from av_grounding.modeling.dual_encoder import ModelConfig
from av_grounding.synthetic import espeak_worker, speech
from av_grounding.synthetic.samples import write_samples
from av_grounding.training import runs
from av_grounding.training.configuration import DataConfig, DenseavRun, SssRun
from av_grounding.training.loop import checkpoint
from av_grounding.training.loop.loop import Interrupted, LoopConfig

pytestmark = pytest.mark.skipif(
    espeak_worker.find_library() is None, reason=f"needs espeak-ng: {speech.INSTALL_REMEDY}"
)
NUM_SAMPLES = 12
LOOP = LoopConfig(
    steps=4,
    seed=2,
    learning_rate=1e-2,
    warmup_steps=1,
    ema_decay=0.5,
    num_workers=0,
    checkpoint_every=1,
    log_every=1,
    validate_every=2,
    precision="fp32",
    tensorboard=False,
)
SETTINGS = {
    "name": "tiny",
    "short_side_px": 48,
    "model": ModelConfig(
        image_options={"dim": 16}, audio_options={"dim": 16, "num_mels": 32}, head_dim=8
    ),
    "data": DataConfig(batch_size=4, num_calibration_samples=2),
    "loop": LOOP,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_samples(folder, NUM_SAMPLES, 3, "train")
    return folder


@pytest.fixture(scope="module")
def shards(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "out"
    arguments = ["data", "shard", str(world), "--out", str(out), "--shard-size", "3"]
    assert cli.main([*arguments, "--validation", "0.3", "--workers", "1", "--quiet"]) == 0
    return out


def quiet(*_):
    pass


def test_training_on_shards_resumes_bit_for_bit_and_ships_the_best(shards, tmp_path):
    index = json.loads((shards / "shards.json").read_text())
    counts = index["report"]["num_clips"]
    assert sum(counts.values()) == 2 * NUM_SAMPLES
    assert counts["val sound"] == counts["val speech"] > 1
    config = SssRun(**SETTINGS)
    straight = runs.run(config, shards, tmp_path / "straight", quiet)

    def stop(stage, done, total, row):
        if (stage, done) == ("mix-and-separate", 2):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="step 2 of 4"):
        runs.run(config, shards, tmp_path / "two", stop)
    resumed = runs.run(config, shards, tmp_path / "two", quiet)
    files = [bundle / "model.safetensors" for bundle in (straight, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    run = tmp_path / "straight/sss"
    rows = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 3]
    best = checkpoint.read(run / "best.pt")
    assert best["value"] == pytest.approx(min(row["loss"] for row in rows))
    grounder = Grounder.load(straight)
    assert grounder.spec.head_names == ("sound", "speech")
    image = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)
    waveform = 0.1 * np.random.default_rng(1).standard_normal(48_000)
    assert grounder.ground(image, waveform, 16_000).sound.shape[0] > 1


def test_the_other_recipe_trains_straight_from_the_files(world, tmp_path, caplog):
    config = DenseavRun(**{**SETTINGS, "loop": replace(LOOP, steps=2)})
    bundle = runs.run(config, world, tmp_path / "run", quiet)
    info = json.loads((bundle / "config.json").read_text())["info"]
    assert info["recipe"] == "denseav"
    rows = (tmp_path / "run/denseav/log.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 1]
    assert "no validation split: the last weights ship" in caplog.text


def test_the_command_trains_on_shards_and_says_what_is_wrong(shards, tmp_path, capsys):
    arguments = ["train", "sss", "--data", str(shards), "--out", str(tmp_path / "run")]
    small = {
        "loop.steps": 1, "loop.num_workers": 0, "loop.tensorboard": False, "short_side_px": 48,
        "data.batch_size": 2, "data.num_calibration_samples": 2, "model.image_options.dim": 16,
        "model.audio_options.dim": 32,
    }  # fmt: skip
    settings = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    assert cli.main([*arguments, *settings, "--json"]) == 0
    bundle = json.loads(capsys.readouterr().out)["bundle"]
    assert Grounder.load(bundle).spec.head_names == ("sound", "speech")
    assert cli.main([*arguments, *settings, "--set", "loop.steps=5"]) == 2
    assert "loop.steps: 1 then, 5 now" in capsys.readouterr().err
    too_many = ["--set", "data.batch_size=64"]
    arguments[-1] = str(tmp_path / "other")
    assert cli.main([*arguments, *too_many]) == 2
    assert "clips for batches of 64: add clips or lower" in capsys.readouterr().err
