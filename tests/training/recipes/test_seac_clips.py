"""`train seac` on clips: the paper's preset with tiny networks of the true kinds, and the small
one with the backbones of another bundle."""

import json
import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from transformers import Owlv2Config, Owlv2ForObjectDetection

from av_grounding.cli import main
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.region_model import PROPOSALS
from av_grounding.modeling.vggish import VggishBackbone
from av_grounding.training import runs
from av_grounding.training.configuration import SeacRun
from av_grounding.training.data import region_bank
from av_grounding.training.data.region_bank import RegionBank
from av_grounding.training.data.region_batches import ClipRegions, middle
from av_grounding.training.paper_configuration import SeacPaperRun, SeacPretrained
from av_grounding.training.settings import override
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.small_regions import disc_and_square
from tests.helpers.tiny_clip import VISION, save_tiny_clip
from tests.modeling.test_sam import DETECTOR, SAM

NUM_CLIPS = 6
ALIGNER = {"width": 16, "depth": 1, "num_attention_heads": 2, "dropout": 0.0}
LOOP = {"steps": 2, "num_workers": 0, "tensorboard": False, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number in range(NUM_CLIPS):
        image, _ = disc_and_square(60 + 10 * number, 96)
        assert cv2.imwrite(str(folder / f"clip{number}.png"), image[..., ::-1])
        wave = rng.integers(-9000, 9000, 40_000, dtype=np.int16)
        wavfile.write(folder / f"clip{number}.wav", 16_000, wave)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """As they are released: CLIP and OWLv2 with their text sides, SAM, and VGGish's file."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "vocab_size": 8}  # fmt: skip
    detector = Owlv2ForObjectDetection(Owlv2Config(vision_config=DETECTOR, text_config=text))
    detector.save_pretrained(folder / "detector")
    PROPOSALS["sam"](prompts="points", **SAM).segmenter.save_pretrained(folder / "segmenter")
    torch.save(VggishBackbone(width=8).state_dict(), folder / "vggish.pth")
    return SeacPretrained(
        image=str(save_tiny_clip(folder / "clip")),
        audio=str(folder / "vggish.pth"),
        segmenter=str(folder / "segmenter"),
        detector=str(folder / "detector"),
    )


def tiny_paper_run(weights):
    run = SeacPaperRun(name="tiny", window_s=2.0, short_side_px=64, pretrained=weights)
    model = replace(
        run.model, image_options=VISION, audio_options={"width": 8}, crop_px=32, head_dim=8,
        image_aligner_options=ALIGNER,
        proposals_options={"num_regions": 4, "mask_px": 32, **SAM, "detector_options": DETECTOR},
    )  # fmt: skip
    return replace(
        run, model=model, views_per_clip=2, data=replace(run.data, batch_size=4),
        loop=replace(run.loop, **LOOP),
    )  # fmt: skip


def test_the_papers_chain_from_clips_to_named_regions(data, weights, tmp_path, caplog):
    stages = []
    with caplog.at_level(logging.WARNING):
        bundle = runs.run(
            tiny_paper_run(weights), data, tmp_path / "run", lambda *row: stages.append(row[0])
        )
    assert list(dict.fromkeys(stages)) == ["weights", "regions", "association"]
    # Every clip is one of training here, so no calibration.
    assert "no calibration" in caplog.text
    config = json.loads((bundle / "config.json").read_text())
    assert config["spec"]["token_spacing_s"] == 0.96
    assert config["spec"]["num_tokens"] == 2
    model = load_bundle(bundle).model
    whole = torch.load(weights.audio, weights_only=True)
    torch.testing.assert_close(
        model.audio_backbone.state_dict()["embeddings.4.bias"], whole["embeddings.4.bias"],
        atol=1e-3, rtol=1e-3,
    )  # fmt: skip
    bank = RegionBank.open(data / "regions", NUM_CLIPS)
    assert bank.num_regions.shape == (NUM_CLIPS, 2)
    assert 1 <= bank.num_regions.min() <= bank.num_regions.max() <= 4

    (tmp_path / "names.txt").write_text("disc\nsquare\n")
    rows = [
        "--model",
        str(bundle),
        "--names",
        str(tmp_path / "names.txt"),
        "--clip",
        weights.image,
    ]
    named = tmp_path / "named"
    assert main(["classes", *rows, "--out", str(named), "--quiet"]) == 0
    image, _ = disc_and_square(90, 120)
    wave = np.random.default_rng(1).normal(0, 0.1, 48_000).astype(np.float32)
    answer = Grounder.load(named, backend="torch").ground(image, wave, 16_000)
    regions = answer.heads["sound"].regions
    assert len(regions.masks) == len(regions.labels) >= 1
    assert set(regions.labels) <= {"disc", "square"}

    # A second run of the same pictures and parts segments nothing.
    def refuse(*_):
        raise AssertionError("segmented again")

    again = replace(tiny_paper_run(weights), name="again")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("av_grounding.modeling.region_model.RegionModel.propose", refuse)
        runs.run(again, data, tmp_path / "again", lambda *_: None)


def test_the_small_run_takes_the_backbones_of_a_bundle(data, tmp_path):
    run = SeacRun(start=str(save_small_bundle(tmp_path / "start")), short_side_px=64)
    run = replace(
        run,
        model=replace(
            run.model, image_aligner_options=ALIGNER,
            proposals_options={"num_regions": 4, "mask_px": 32},
        ),
        data=replace(run.data, batch_size=4),
        loop=replace(run.loop, **LOOP, warmup_steps=0),
    )  # fmt: skip
    bundle = runs.run(run, data, tmp_path / "run", lambda *_: None)
    loaded = load_bundle(bundle)
    start = load_bundle(tmp_path / "start").model
    for ours, theirs in zip(
        loaded.model.image_backbone.parameters(), start.image_backbone.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert loaded.model.num_classes is None
    assert "things" not in loaded.info


def test_a_damaged_clip_is_left_out_and_said(data, tmp_path, caplog):
    for path in data.glob("clip*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "clip3.png").write_bytes(b"no picture")
    run = SeacRun(start=str(save_small_bundle(tmp_path.parent / "start")), short_side_px=64)
    model = replace(run.model, image_aligner_options=ALIGNER, proposals="grid",
                    proposals_options={"num_regions": 4})  # fmt: skip
    run = replace(run, model=model, data=replace(run.data, batch_size=5),
                  loop=replace(run.loop, **LOOP, warmup_steps=0))  # fmt: skip
    with caplog.at_level(logging.WARNING):
        runs.run(run, tmp_path, tmp_path.parent / "damaged", lambda *_: None)
    assert caplog.text.count("left out: ") == 1
    assert "clip3" in caplog.text


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        (["pretrained.audio="], OSError, "VGGish is on no hub; expected the file"),
        (["pretrained.image=/no/where"], OSError, "weights '/no/where' are not to be had"),
        (["model.crop_px=224"], ValueError, "crop_px is 224; expected 32"),
        (["model.audio_backbone=conv", "model.audio_options={}"], ValueError,
         "backbones are 'clip' and 'conv'; expected clip and vggish"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said_before_anything_is_segmented(
    changes, error, match, data, weights, tmp_path
):
    config = override(tiny_paper_run(weights), changes)
    with pytest.raises(error, match=match):
        runs.run(config, data, tmp_path / "run", lambda *_: None)


def test_the_papers_preset_needs_clips(weights, tmp_path):
    with pytest.raises(ValueError, match="holds no clips; --preset paper trains on real data"):
        runs.run(tiny_paper_run(weights), tmp_path, tmp_path / "run", lambda *_: None)


def test_a_batch_names_its_clips_by_number_alone(data, weights, tmp_path):
    from av_grounding.training.data.open import open_clips

    clips = open_clips(data, "train", 16_000, 2.0)["sound"]
    rows = ClipRegions(clips, data / "regions", 3, batch_size=4, num_samples=32_000)
    one, two = (
        rows[7],
        ClipRegions(clips, data / "regions", 3, batch_size=4, num_samples=32_000)[7],
    )
    assert one["sound"].shape == (4, 32_000)
    for name in one:
        torch.testing.assert_close(one[name], two[name])
    assert not torch.equal(one["sound"], rows[8]["sound"])
    assert region_bank.read_index(data / "regions")["views"] == 2


def test_the_middle_of_a_clip():
    assert middle(np.arange(7, dtype=np.float32), 3).tolist() == [2, 3, 4]
    assert middle(np.arange(2, dtype=np.float32), 4).tolist() == [0, 1, 0, 0]
