"""Paper 004's recipe: gradients, what its captions do, and a run that ends in a bundle."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from av_grounding.cli import main
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.modeling.text_encoder import WordVectors
from av_grounding.training import runs
from av_grounding.training.configuration import OasslRun, StagesConfig
from av_grounding.training.data.captioned_batches import SIDES, CaptionedBatches
from av_grounding.training.data.captioning import LabelCaptions, caption_shards
from av_grounding.training.data.captions import read_captions
from av_grounding.training.data.folder import list_clips
from av_grounding.training.data.shard_writer import ShardConfig, write_shards
from av_grounding.training.data.stage_batches import (
    StageBatches,
    background_caption,
    foreground_caption,
)
from av_grounding.training.initial import start_from
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.recipes.oassl import OasslConfig, ObjectAware
from av_grounding.training.sources_run import build_banks
from tests.helpers.make_clips import color_of, make_vggsound
from tests.helpers.small_bundle import save_small_bundle
from tests.training.recipes.test_sss import needs_speech

MODEL = ModelConfig(
    image_options={"dim": 16}, audio_options={"dim": 16, "num_mels": 32}, head_dim=8,
    heads=("sound",),
)  # fmt: skip
B, D = 5, 12


def batch(num=B):
    generator = torch.Generator().manual_seed(1)
    return {
        "pixels": torch.randint(256, (num, 3, 64, 64), generator=generator, dtype=torch.uint8),
        "audio": 0.1 * torch.randn(num, 20_480, generator=generator),
        "foreground": torch.randn(num, 3, D, generator=generator),
        "foreground_valid": torch.arange(3) <= torch.arange(num)[:, None] % 3,
        "background": torch.randn(num, D, generator=generator),
        "background_valid": torch.arange(num) != 1,
        "heard": torch.arange(6) == torch.arange(num)[:, None] % 4,
    }


def recipe(**changes):
    torch.manual_seed(0)
    config = OasslConfig(transport_grid=4, transport_iterations=20, **changes)
    return ObjectAware(DualEncoder(MODEL), config, D).train()


def missed(one):
    torch.stack(list(one(batch(), step=0).values())).sum().backward()
    return {n for n, p in one.named_parameters() if p.grad is None or not p.grad.any()}


def test_the_papers_values_are_the_defaults():
    config = OasslConfig()
    assert (config.weight_oca, config.weight_ori, config.weight_contrast) == (1.0, 0.1, 0.0)
    thresholds = (config.positive_threshold, config.negative_threshold, config.mask_width)
    assert thresholds == (0.65, 0.4, 0.03)
    assert (config.false_negatives, config.false_negative_threshold) == ("visual", 0.7)
    assert (config.pairs, config.transport_iterations, config.temperature) == ("printed", 100, 1.0)


@pytest.mark.parametrize("pairs", ["printed", "isolating"])
@pytest.mark.parametrize("false_negatives", ["visual", "reference"])
def test_every_parameter_gets_a_gradient_from_the_papers_terms(pairs, false_negatives):
    one = recipe(pairs=pairs, false_negatives=false_negatives)
    assert missed(one) == set()
    assert set(one(batch(), 0)) == {"oca_foreground", "oca_background", "ori"}


def test_the_rows_of_the_ablation():
    assert set(recipe(weight_oca=0.0, weight_ori=0.0, weight_contrast=1.0)(batch(), 0)) == {
        "contrast"
    }
    assert set(recipe(weight_ori=0.0)(batch(), 0)) == {"oca_foreground", "oca_background"}
    terms = recipe(weight_contrast=1.0)(batch(), 0)
    assert set(terms) == {"oca_foreground", "oca_background", "ori", "contrast"}


def test_captions_mean_the_same_in_any_order_and_invalid_ones_nothing():
    one = recipe().eval()
    first, second = batch(), batch()
    # Clip 2 has three captions.
    second["foreground"][2] = first["foreground"][2].flip(0)
    second["foreground"][0, 1:] = 9.0
    second["background"][1] = 9.0
    for name, value in one(first, 0).items():
        torch.testing.assert_close(one(second, 0)[name], value, msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": "all"}, "pairs is 'all'; expected one of printed, isolating"),
        ({"false_negatives": "text"}, "false_negatives is 'text'; expected one of visual"),
        ({"temperature": 0.0}, "temperature is 0.0; expected above 0"),
        ({"weight_oca": 0.0, "weight_ori": 0.0}, "all weights are 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        OasslConfig(**changes)


def test_word_vectors_know_what_captions_share():
    words = WordVectors(256)
    bell, other, dog = words.encode(
        [foreground_caption("bell"), "The sounding BELL, an image", foreground_caption("dog")]
    )
    np.testing.assert_allclose(bell, other, atol=1e-6)
    assert np.linalg.norm(bell) == pytest.approx(1.0, abs=1e-6)
    assert bell @ dog == pytest.approx(0.5, abs=0.1)
    assert background_caption(["bell", "dog"]) == (
        "an image of a silent bell and an image of a silent dog and a patterned wall"
    )
    with pytest.raises(ValueError, match="names nothing"):
        words.encode(["an image of a"])


def test_a_model_begins_with_the_head_of_a_bundle_that_has_more(tmp_path):
    bundle = save_small_bundle(tmp_path / "start")
    source = load_bundle(bundle).model
    torch.manual_seed(7)
    model = DualEncoder(MODEL)
    start_from(model, bundle, whole=True)
    pixels, wave = torch.rand(1, 3, 64, 64), 0.1 * torch.randn(1, 20_480)
    for one in (model, source):
        one.eval()
    torch.testing.assert_close(model.encode_image(pixels), source.encode_image(pixels)[:, :1])
    torch.testing.assert_close(model.encode_audio(wave), source.encode_audio(wave)[:, :1])
    with pytest.raises(ValueError, match="holds other encoders than the run's settings"):
        start_from(DualEncoder(replace(MODEL, head_dim=4)), bundle, whole=True)
    with pytest.raises(ValueError, match="has no head music, it has sound, speech"):
        start_from(DualEncoder(replace(MODEL, heads=("music",))), bundle, whole=True)


RUN = OasslRun(
    name="tiny", short_side_px=64, model=MODEL,
    data=StagesConfig(
        num_stages=12, num_sounds_per_class=1, batch_size=4, num_calibration_samples=4,
        num_counting_samples=8,
    ),
    loop=LoopConfig(
        steps=4, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5, num_workers=0,
        checkpoint_every=1, log_every=1, precision="fp32", tensorboard=False, seed=2,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    build_banks(RUN, folder, lambda *_: None)
    return folder


@needs_speech
def test_batches_depend_on_seed_and_step_and_say_who_sounds(data):
    options = {"num_samples": 40_960, "token_samples": 1280, "batch_size": 4, "text_dim": 64}
    batches = StageBatches(data, 3, **options)
    first, again = batches[2], StageBatches(data, 3, **options)[2]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["audio"], batches[1]["audio"])
    assert torch.equal(first["heard"].sum(dim=1), first["foreground_valid"].sum(dim=1))
    assert first["foreground"].norm(dim=2)[first["foreground_valid"]].allclose(torch.ones(1))
    assert not first["foreground"][~first["foreground_valid"]].any()
    assert first["audio"].abs().max() <= 1.2
    assert first["audio"].std(dim=1).min() > 0.01
    one = ObjectAware(DualEncoder(MODEL), OasslConfig.synthetic(transport_grid=4), 64)
    assert missed_of(one, first) == set()


def missed_of(one, given):
    torch.stack(list(one.train()(given, step=0).values())).sum().backward()
    return {n for n, p in one.named_parameters() if p.grad is None or not p.grad.any()}


@needs_speech
def test_a_run_ends_in_a_bundle_that_tells_sources_apart(data, tmp_path):
    start = save_small_bundle(tmp_path / "start")
    config = replace(RUN, start=str(start))
    stages = []
    bundle = runs.run(config, data, tmp_path / "run", lambda *row: stages.append(row[0]))
    assert {"object-aware", "calibration"} <= set(stages)
    written = json.loads((bundle / "config.json").read_text())
    assert written["info"]["recipe"] == "oassl"
    assert written["spec"]["compares"] == "cosine"
    assert 0.0 <= written["info"]["num_sources_right"] <= 1.0
    assert not any("project_text" in name for name in load_bundle(bundle).model.state_dict())
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    assert grounder.spec.max_sources == 4
    image = np.random.default_rng(1).integers(256, size=(64, 80, 3), dtype=np.uint8)
    wave = 0.1 * np.random.default_rng(2).normal(size=40_000)
    for num in (1, 2, 3):
        given = grounder.with_spec(grounder.spec.with_sources(num))
        answer = given.ground(image, wave, 16_000)["sound"]
        assert answer.logits.shape == (num, 16, 20)
        peaks = answer.logits.max(axis=(1, 2))
        assert (np.diff(peaks) <= 0).all()
    with pytest.raises(ValueError, match="5 sources asked for; expected at most 4"):
        grounder.spec.with_sources(5)


def test_a_run_on_captioned_clips_ends_in_a_bundle(tmp_path, caplog):
    shards = tmp_path / "shards"
    config = ShardConfig(short_side_px=32, num_frames=2, validation_fraction=0.0)
    write_shards(list_clips(make_vggsound(tmp_path / "source")), shards, config)
    (tar,) = shards.rglob("*.tar")
    run = replace(
        RUN, data=StagesConfig(batch_size=2, text_dim=16), loop=replace(RUN.loop, steps=2)
    )
    with pytest.raises(FileNotFoundError, match="write it with av-grounding data caption"):
        runs.run(run, shards, tmp_path / "early", lambda *_: None)
    caption_shards(shards, LabelCaptions())
    rows = read_captions(tar)
    batches = CaptionedBatches(
        shards, "train", 1, WordVectors(16), batch_size=2, num_samples=9_000, image_px=64
    )
    one, again = batches[3], batches[3]
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert one["pixels"].shape == (2, 3, 64, 64)
    assert one["audio"].shape == (2, 9_000)
    assert not one["background_valid"].any()
    # Colour and label of a clip still belong together.
    for place in range(2):
        color = color_of(one["pixels"][place].permute(1, 2, 0).numpy())
        vector = one["foreground"][place, 0].numpy()
        (row,) = [
            row for row in rows
            if np.allclose(WordVectors(16).encode(row.caption.foreground)[0], vector)
        ]  # fmt: skip
        assert color_of(batches.clips.read(row.clip, np.random.default_rng(0)).image) == color
    bundle = runs.run(run, shards, tmp_path / "run", lambda *_: None)
    assert load_bundle(bundle).spec.max_sources == 4
    assert "no calibration" in caplog.text


def test_captions_that_name_a_side_are_not_mirrored():
    assert SIDES.search("an image of the LEFT dog")
    assert not SIDES.search("an image of a leftover, brightly lit")


@needs_speech
@pytest.mark.parametrize("preset", ["synthetic", "paper"])
def test_clips_that_are_no_shards_are_told_in_one_line(preset, tmp_path, capsys):
    (tmp_path / "clip.wav").write_bytes(b"")
    common = ("--data", str(tmp_path), "--out", str(tmp_path / "run"), "--quiet")
    if preset == "paper":
        common += ("--set", "pretrained.image=")
    assert main(["train", "oassl", "--preset", preset, *common]) == 2
    assert "no shards of sounds for train" in capsys.readouterr().err
