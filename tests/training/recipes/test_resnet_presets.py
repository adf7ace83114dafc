"""`train oneavm|oassl --preset paper` on clips, with small encoders of the true kinds."""

import json
import os
import shutil
import signal

import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from transformers import BertConfig, BertModel, BertTokenizer

from av_grounding.cli import main
from av_grounding.grounder import Grounder
from av_grounding.modeling import text_encoder
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.resnet import build_resnet
from av_grounding.modeling.separator import SeparatingEncoder
from av_grounding.modeling.text_encoder import BertText
from av_grounding.training import runs
from av_grounding.training.data.batches import open_batches
from av_grounding.training.data.captioning import LabelCaptions, caption_shards
from av_grounding.training.data.folder import list_clips
from av_grounding.training.data.mixing import MixingConfig
from av_grounding.training.data.shard_writer import ShardConfig, write_shards
from av_grounding.training.loop.loop import Interrupted
from av_grounding.training.paper_configuration import OasslPaperRun, OneAvmPaperRun
from av_grounding.training.recipes.oneavm import OneAvm
from av_grounding.training.settings import override, run_to_json
from av_grounding.training.unified_run import build_model
from tests.helpers.make_clips import make_vggsound
from tests.helpers.small_resnets import SIZES, SMALL_SEPARATOR

NUM_CLIPS, CLIP_S = 10, 3.4


def sizes_of(side):
    return [f"model.{side}_options.{name}={value}" for name, value in SIZES.items()]


SMALL = [
    *sizes_of("image"), *sizes_of("audio"), "model.head_dim=8", "short_side_px=64",
    "loop.steps=2", "loop.num_workers=0", "loop.tensorboard=false", "loop.checkpoint_every=1",
    "loop.log_every=1", "data.batch_size=2", "data.num_calibration_samples=3",
]  # fmt: skip


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    build_resnet(3, **SIZES).save_pretrained(folder / "resnet")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "an", "image", "of", "dog"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    small = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertModel(small, add_pooling_layer=False).save_pretrained(folder / "bert")
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Sounds alone at 8 kHz: bands of noise that the brightness of their picture tells."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for number in range(NUM_CLIPS):
        image = rng.integers(20 * number + 40, size=(64, 80, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"clip{number}.png"), image)
        spectrum = np.fft.rfft(rng.standard_normal(round(CLIP_S * 8000)))
        spectrum[: len(spectrum) * number // NUM_CLIPS] = 0.0
        wave = np.fft.irfft(spectrum)
        wavfile.write(folder / f"clip{number}.wav", 8000, np.int16(8000 * wave / abs(wave).max()))
    return folder


@pytest.fixture(scope="module")
def shards(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "out"
    config = ShardConfig(
        sample_rate_hz=8000, short_side_px=64, num_frames=1, validation_fraction=0.4
    )
    write_shards(list_clips(clips), out, config)
    counts = json.loads((out / "shards.json").read_text())["report"]["num_clips"]
    assert counts["val sound"] >= 2
    assert counts["train sound"] >= 2
    return out


def check_separation(bundle, rate_hz):
    """At another rate than the model's the parts add up to the clip too; a place matters."""
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    rng = np.random.default_rng(1)
    image = rng.integers(256, size=(64, 96, 3), dtype=np.uint8)
    clip = (0.1 * rng.standard_normal(4 * rate_hz)).astype(np.float32)
    heard = grounder.separate(image, clip, rate_hz, point=(10, 10))
    assert heard.separated.shape == clip.shape
    np.testing.assert_allclose(heard.separated + heard.residual, clip, atol=1e-6)
    assert 0.0 < np.abs(heard.separated).mean() < np.abs(clip).mean()
    grounding = grounder.ground(image, clip, rate_hz)
    assert list(grounding.heads) == ["sound"]
    assert grounding.heatmap("sound").shape == (2, 3)
    return grounder


def test_papers_003_model_trains_resumes_and_separates(shards, weights, tmp_path):
    config = override(
        OneAvmPaperRun(),
        [*SMALL, "model.embedding_dim=8", f"pretrained.image={weights / 'resnet'}"],
    )
    stages = []
    straight = runs.run(config, shards, tmp_path / "one", lambda *row: stages.append(row[0]))
    assert list(dict.fromkeys(stages)) == ["weights", "unified", "calibration"]
    rows = (tmp_path / "one/oneavm/log.jsonl").read_text().splitlines()
    assert {"correspondence", "separation", "alignment"} <= set(json.loads(rows[0]))
    assert (tmp_path / "one/oneavm/best.pt").exists()

    def stop(stage, done, total, row):
        if (stage, done) == ("unified", 1):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="step 1 of 2"):
        runs.run(config, shards, tmp_path / "two", stop)
    resumed = runs.run(config, shards, tmp_path / "two", quiet)
    files = [bundle / "model.safetensors" for bundle in (straight, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()

    grounder = check_separation(straight, 16_000)
    spec = grounder.spec
    assert (spec.sample_rate_hz, spec.num_tokens, spec.compares) == (8000, 4, "cosine")
    info = json.loads((straight / "config.json").read_text())["info"]
    assert info["settings"]["recipe"]["mask_target"] == "dominant"
    assert info["reliability"]["sound"]["num_matching"] >= 2

    # 003 table 4: another run begins with it, and asks for no other weights.
    again = override(config, [f"start={straight}", "pretrained.image=/nowhere"])
    begun = build_model(again).state_dict()
    for name, value in load_bundle(straight).model.state_dict().items():
        assert torch.equal(value, begun[name]), name


def test_the_command_trains_paper_003_from_a_folder_of_files(clips, tmp_path, capsys, caplog):
    settings = [*SMALL, "model.embedding_dim=8", "pretrained.image="]
    arguments = [part for one in settings for part in ("--set", one)]
    out = tmp_path / "run"
    common = ("--preset", "paper", "--data", str(clips), "--out", str(out), "--json")
    assert main(["train", "oneavm", *common, *arguments]) == 0
    assert "no validation split: the last weights ship" in caplog.text
    bundle = json.loads(capsys.readouterr().out)["bundle"]
    calibration = load_bundle(bundle).spec.head("sound").calibration
    assert calibration.scale == pytest.approx(1 / 0.03, rel=1e-4)
    assert calibration.bias == pytest.approx(-np.log(127))
    parts = tmp_path / "parts"
    files = [str(clips / f"clip3.{suffix}") for suffix in ("png", "wav")]
    assert main(["separate", *files, "--model", bundle, "--out", str(parts), "--box",
                 "0,0,40,64", "--set", "backend=torch"]) == 0  # fmt: skip
    rate, separated = wavfile.read(parts / "separated.wav")
    residual = wavfile.read(parts / "residual.wav")[1]
    mixture = wavfile.read(files[1])[1] / 32768
    assert rate == 8000
    np.testing.assert_allclose(separated + residual, mixture, atol=1e-4)


def test_the_small_separator_trains_on_sounds_alone(clips, tmp_path):
    small = [
        "model.image_options.dim=16", "model.audio_options.dim=16", "model.head_dim=8",
        "model.audio_options.num_mels=32", "model.audio_options.widths=[4,4,8,8]",
        "model.separator_options.last_width=4", "short_side_px=48", "loop.steps=2",
        "loop.num_workers=0", "loop.tensorboard=false", "loop.log_every=1", "data.batch_size=4",
    ]  # fmt: skip
    arguments = [part for one in small for part in ("--set", one)]
    out = tmp_path / "run"
    common = ("--data", str(clips), "--out", str(out), "--quiet")
    assert main(["train", "oneavm", *common, *arguments]) == 0
    grounder = Grounder.load(out / "bundle", backend="torch", device="cpu")
    image = np.zeros((64, 96, 3), np.uint8)
    clip = (0.1 * np.random.default_rng(1).standard_normal(48_000)).astype(np.float32)
    heard = grounder.separate(image, clip, 16_000, point=(10, 10))
    np.testing.assert_allclose(heard.separated + heard.residual, clip, atol=1e-6)


def test_papers_004_model_trains_on_captioned_clips(weights, tmp_path):
    shards, source = tmp_path / "shards", make_vggsound(tmp_path / "source")
    write_shards(list_clips(source), shards, ShardConfig(num_frames=1, validation_fraction=0.0))
    caption_shards(shards, LabelCaptions())
    config = override(
        OasslPaperRun(),
        [*SMALL, f"pretrained.image={weights / 'resnet'}", f"data.text={weights / 'bert'}"],
    )
    bundle = runs.run(config, shards, tmp_path / "run", quiet)
    rows = (tmp_path / "run/oassl/log.jsonl").read_text().splitlines()
    assert {"oca_foreground", "oca_background", "ori"} <= set(json.loads(rows[0]))
    assert "contrast" not in json.loads(rows[0])
    grounder = Grounder.load(bundle, backend="torch", device="cpu")
    assert (grounder.spec.num_tokens, grounder.spec.max_sources) == (7, 4)
    image = np.random.default_rng(1).integers(256, size=(64, 96, 3), dtype=np.uint8)
    wave = 0.1 * np.random.default_rng(2).normal(size=70_000)
    two = grounder.with_spec(grounder.spec.with_sources(2))
    assert two.ground(image, wave, 16_000)["sound"].logits.shape == (2, 2, 3)
    again = override(config, [f"start={bundle}", "pretrained.image=/nowhere", "loop.steps=1"])
    begun = runs.run(again, shards, tmp_path / "two", quiet)
    assert load_bundle(begun).model.config == grounder.model.config


def test_every_parameter_learns_but_the_temperature():
    torch.manual_seed(0)
    config = OneAvmPaperRun().recipe
    recipe = OneAvm(SeparatingEncoder(SMALL_SEPARATOR), config).train()
    batch = {"pixels": torch.rand(3, 3, 64, 64), "audio": 0.1 * torch.randn(3, 25_600)}
    torch.stack(list(recipe(batch, 0).values())).sum().backward()
    missed = {name for name, one in recipe.named_parameters() if not one.grad.any()}
    assert missed == {"log_gamma"}
    assert float(recipe.gamma.detach()) == pytest.approx(1 / 0.03)


def test_captions_are_encoded_by_the_cls_token_in_batches(weights, monkeypatch):
    captions = ["an image of dog", "dog", "an image of an image", "dog"]
    whole = BertText(weights / "bert").encode(captions)
    assert whole.shape == (4, 16)
    assert np.array_equal(whole[1], whole[3])
    assert not np.allclose(whole[0], whole[1])
    model = BertModel.from_pretrained(weights / "bert", add_pooling_layer=False).eval()
    tokens = torch.tensor([[2, 8, 3]])  # [CLS] dog [SEP]
    with torch.inference_mode():
        expected = model(tokens).last_hidden_state[0, 0].numpy()
    np.testing.assert_allclose(whole[1], expected, atol=1e-5)
    monkeypatch.setattr(text_encoder, "BATCH_SIZE", 1)
    np.testing.assert_allclose(BertText(weights / "bert").encode(captions), whole, atol=1e-5)
    with pytest.raises(OSError, match="'/none' is not to be had"):
        BertText("/none").encode(["dog"])


def test_sounds_alone_come_whole_and_without_splices(clips):
    config = MixingConfig(sound="none", batch_size=4, clip_s=3.2)
    batches, held_out, _ = open_batches(
        clips, config, seed=1, layout="clips", image_px=64, sample_rate_hz=8000
    )
    assert held_out is None
    batch = batches[2]
    assert set(batch) == {"pixels", "audio"}
    assert batch["pixels"].shape == (4, 3, 64, 64)
    assert batch["audio"].shape == (4, 25_600)
    assert batch["audio"].std(dim=1).min() > 0.01
    again = open_batches(clips, config, seed=1, layout="clips", image_px=64, sample_rate_hz=8000)[
        0
    ][2]
    assert all((batch[name] == again[name]).all() for name in batch)


def test_papers_values():
    one, two = OneAvmPaperRun(), OasslPaperRun()
    for config, steps in ((one, 6392), (two, 112_500)):
        loop = config.loop
        assert (loop.steps, config.data.batch_size, config.short_side_px) == (steps, 128, 224)
        assert {loop.learning_rate_at(step) for step in (0, 1, steps // 2, steps)} == {1e-4}
        assert (loop.weight_decay, loop.ema_decay, loop.beta2) == (0.0, 0.0, 0.999)
        assert config.pretrained.image == "microsoft/resnet-18"
        json.dumps(run_to_json(config), allow_nan=False)
        # What a run states is read back as it was: infinity too.
        assert override(config, ["loop.clip_norm=inf"]) == config
    assert (one.window_s, one.model.sample_rate_hz, one.recipe.condition) == (3.2, 8000, "max")
    assert one.recipe.inverse_temperature_start == pytest.approx(1 / 0.03)
    assert (two.window_s, two.model.sample_rate_hz) == (3.0, 16_000)
    assert two.data.text == "google-bert/bert-base-uncased"
    assert (two.recipe.weight_oca, two.recipe.weight_ori, two.recipe.weight_contrast) == (
        1,
        0.1,
        0,
    )


@pytest.mark.parametrize("recipe", ["oneavm", "oassl"])
def test_what_is_missing_is_told_in_one_line(recipe, shards, tmp_path, capsys):
    arguments = ["train", recipe, "--preset", "paper", "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*arguments, "--data", str(tmp_path / "none")]) == 2
    assert "holds no clips; --preset paper trains on real data" in capsys.readouterr().err
    assert main([*arguments, "--data", str(shards), "--set", "pretrained.image=/none"]) == 2
    told = capsys.readouterr().err
    assert "weights '/none' are not to be had" in told
    assert told.count("\n") == 1


def test_speech_alone_is_no_material_for_paper_003(clips, tmp_path, capsys):
    shutil.copytree(clips, tmp_path / "data/speech")
    arguments = [part for one in [*SMALL, "pretrained.image="] for part in ("--set", one)]
    common = ("--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--quiet")
    assert main(["train", "oneavm", "--preset", "paper", *common, *arguments]) == 2
    assert "no sound clips for training; the recipe needs sound" in capsys.readouterr().err
