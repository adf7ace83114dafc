"""`train --preset paper` end to end, on tiny backbones of the true kinds and a folder of clips."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from transformers import HubertConfig, HubertModel

from av_grounding.cli import main
from av_grounding.grounder import Grounder
from av_grounding.modeling.vision_transformer import DinoBackbone
from av_grounding.training import runs
from av_grounding.training.data.augmentation import AugmentationConfig
from av_grounding.training.data.mixing import MixingConfig
from av_grounding.training.loop.loop import LoopConfig
from av_grounding.training.paper_configuration import (
    DenseavPaperRun,
    PretrainedConfig,
    SssPaperRun,
)
from av_grounding.training.settings import override, run_to_json
from tests.training.recipes.test_recipes import PAPER

LOOP = LoopConfig(
    steps=2, learning_rate=1e-2, warmup_steps=1, ema_decay=0.0, num_workers=0, precision="fp32",
    tensorboard=False, log_every=1, weight_decay=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for kind in ("sound", "speech"):
        (folder / kind).mkdir()
        for number in range(6):
            image = rng.integers(256, size=(48, 64, 3), dtype=np.uint8)
            assert cv2.imwrite(str(folder / kind / f"clip{number}.png"), image)
            wave = rng.integers(-9000, 9000, 20_000, dtype=np.int16)
            wavfile.write(folder / kind / f"clip{number}.wav", 16_000, wave)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    dino = DinoBackbone(**PAPER.image_options).state_dict()
    torch.save(
        {name.replace("patch_embed.", "patch_embed.proj."): v for name, v in dino.items()},
        folder / "dino.pth",
    )
    large = {
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
        "apply_spec_augment": False,
    }
    HubertModel(HubertConfig(**PAPER.audio_options, **large)).save_pretrained(folder / "hubert")
    return PretrainedConfig(image=str(folder / "dino.pth"), audio=str(folder / "hubert"))


@pytest.mark.parametrize("kind", [SssPaperRun, DenseavPaperRun])
def test_a_paper_run_ends_in_a_bundle_that_grounds(kind, data, weights, tmp_path):
    config = replace(
        kind(name="tiny"), window_s=1.0, short_side_px=32, model=PAPER, pretrained=weights,
        data=MixingConfig(
            batch_size=2, clip_s=1.0, augmentation=AugmentationConfig(splice_s=(0.1, 0.3))
        ),
        aligners=LOOP, loop=LOOP,
    )  # fmt: skip
    stages = []
    bundle = runs.run(config, data, tmp_path / "run", lambda *row: stages.append(row[0]))
    assert list(dict.fromkeys(stages)) == ["weights", "aligners", config.stage]
    info = json.loads((bundle / "config.json").read_text())["info"]
    assert info["recipe"] == config.recipe_name
    assert info["settings"]["recipe"]["sharpness_end"] == "inf"

    grounder = Grounder.load(bundle, device="cpu")
    assert set(grounder.spec.head_names) == {"sound", "speech"}
    image = np.random.default_rng(1).integers(256, size=(32, 40, 3), dtype=np.uint8)
    heatmaps = grounder.ground(image, np.random.default_rng(2).normal(size=16_000) * 0.1, 16_000)
    assert heatmaps.sound.shape == (4, 5)
    assert np.isfinite(heatmaps.sound).all()

    # LoRA moved the image's attention and nothing else of DINO; HuBERT moved as a whole.
    start = runs.build_model(
        replace(config, pretrained=replace(weights, lora_rank=0)), lambda *_: None
    )
    before, after = start.state_dict(), grounder.model.state_dict()
    changed = {n for n in before if not torch.allclose(before[n], after[n], atol=2e-3, rtol=1e-2)}
    of_dino = {name for name in changed if name.startswith("image_backbone.")}
    assert of_dino <= {f"image_backbone.blocks.{i}.attn.qkv.weight" for i in range(2)}
    assert any(name.startswith("audio_backbone.hubert.encoder.layers.1.") for name in changed)
    assert "image_aligner.project.weight" in changed


def test_paper_settings_and_their_overrides():
    for kind, size in ((SssPaperRun, 8), (DenseavPaperRun, 10)):
        config = kind()
        assert config.data.batch_size == size
        assert (config.aligners.steps, config.loop.steps) == (3000, 800_000)
        assert config.pretrained.lora_rank == 8
        assert config.model.image_backbone, config.model.audio_backbone == ("dino", "hubert")
        json.dumps(run_to_json(config), allow_nan=False)
    changed = override(SssPaperRun(), ["pretrained.image=/w/dino", "recipe.sharpness_start=4.0"])
    assert changed.pretrained.image == "/w/dino"
    assert changed.recipe.sharpness_start == 4.0


def test_the_paper_preset_wants_clips(tmp_path, capsys):
    folders = ("--data", str(tmp_path / "none"), "--out", str(tmp_path / "run"))
    assert main(["train", "denseav", "--preset", "paper", *folders, "--quiet"]) == 2
    assert "holds no clips; --preset paper trains on real data" in capsys.readouterr().err
