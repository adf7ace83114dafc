"""DenseAV's model and its import, on checkpoints of the official layout with random weights."""

import argparse
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from av_grounding.files import sha256
from av_grounding.grounder import Grounder
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.denseav import denseav_config, num_tokens
from av_grounding.modeling.denseav_import import import_denseav
from av_grounding.modeling.denseav_layout import canonical, convert
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.types import HeadCalibration
from tests.helpers.denseav_checkpoint import (
    LORA_RANK,
    TINY,
    Geometry,
    official_state,
    write_lightning,
)


def load(tmp_path, state, name="denseav_2head.ckpt", num_heads=2, **options):
    """Import a state written as a checkpoint and load the bundle."""
    path = write_lightning(tmp_path / name, state, num_heads)
    out = tmp_path / f"bundle-{name}"
    import_denseav(str(path), out, config=TINY.config(), **options)
    return load_bundle(out)


@pytest.fixture(scope="module")
def state():
    return official_state()


@pytest.fixture(scope="module")
def bundle(state, tmp_path_factory):
    return load(tmp_path_factory.mktemp("denseav"), state, normalize_audio=False)


def noise(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(a, b):
    return float((a - b).norm() / b.norm())


def test_the_bundle_is_complete_and_in_eval_mode(bundle):
    spec, model = bundle.spec, bundle.model
    assert spec.head_names == model.heads == ("sound", "speech")
    assert (spec.window_s, spec.sample_rate_hz, spec.num_tokens) == (10.0, 16_000, 55)
    assert spec.token_stride_s == pytest.approx(0.18)
    assert not any(module.training for module in model.modules())
    assert bundle.info["heads_in_source"] == ["speech", "sound"]
    assert bundle.info["source"] == "denseav_2head.ckpt"
    assert all(not p.is_meta for p in [*model.parameters(), *model.buffers()])


def test_the_default_calibration_is_the_contrastive_probability(bundle, state):
    temperature = state["sim_cal.w"].exp().item()
    for head in bundle.spec.heads:
        calibration = head.calibration
        assert calibration.scale == pytest.approx(temperature)
        # A pair that is as similar as 79 negatives at zero together: as likely as not.
        assert calibration(np.log([79.0]) / temperature) == pytest.approx(0.5)


def test_image_tokens_equal_the_layout_read_by_hand(bundle, state):
    """An independent forward pass over the official tensors, LoRA not merged."""
    pixels = torch.rand(1, 3, 64, 88, generator=torch.Generator().manual_seed(1))
    prefix = "image_model.base_model.model.model."
    part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    weights = part["patch_embed.proj.weight"], part["patch_embed.proj.bias"]
    x = F.conv2d((pixels - mean) / std, *weights, stride=8).flatten(2).transpose(1, 2)
    grid = part["pos_embed"][:, 1:].reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=(8.1 / 8, 11.1 / 8), mode="bicubic")
    positions = torch.cat([part["pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    x = torch.cat([part["cls_token"], x], dim=1) + positions
    for i in range(TINY.image_depth):
        block = {
            k.removeprefix(f"blocks.{i}."): v
            for k, v in part.items()
            if k.startswith(f"blocks.{i}.")
        }
        x = block_by_hand(x, block, TINY.image_attention_heads)
    x = F.layer_norm(x, x.shape[-1:], part["norm.weight"], part["norm.bias"], eps=1e-4)
    x = x[:, 1:].transpose(1, 2).unflatten(2, (8, 11))
    norm = state["image_aligner.norm.norm.weight"], state["image_aligner.norm.norm.bias"]
    x = F.layer_norm(x.movedim(1, -1), x.shape[1:2], *norm, eps=1e-4).movedim(-1, 1)
    expected = F.conv2d(x, state["image_aligner.layer.weight"], state["image_aligner.layer.bias"])
    with torch.inference_mode():
        tokens = bundle.model.encode_image(pixels)
    assert tokens.shape == (1, 2, 12, 8, 11)
    # Ours is (sound, speech), the source's (speech, sound).
    assert relative(tokens[:, 1], expected[:, :12]) < 2e-6
    assert relative(tokens[:, 0], expected[:, 12:]) < 2e-6
    assert relative(tokens[:, 0], expected[:, :12]) > 0.5


def block_by_hand(x, block, num_attention_heads):
    dim = x.shape[-1]
    normed = F.layer_norm(x, (dim,), block["norm1.weight"], block["norm1.bias"], eps=1e-4)
    qkv = F.linear(normed, block["attn.qkv.weight"], block["attn.qkv.bias"])
    if "attn.qkv.lora_A.default.weight" in block:
        down = F.linear(normed, block["attn.qkv.lora_A.default.weight"])
        qkv = qkv + 32 / LORA_RANK * F.linear(down, block["attn.qkv.lora_B.default.weight"])
    b, n, _ = x.shape
    q, k, v = qkv.reshape(b, n, 3, num_attention_heads, -1).permute(2, 0, 3, 1, 4)
    weight = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
    mixed = (weight @ v).transpose(1, 2).reshape(b, n, dim)
    x = x + F.linear(mixed, block["attn.proj.weight"], block["attn.proj.bias"])
    normed = F.layer_norm(x, (dim,), block["norm2.weight"], block["norm2.bias"], eps=1e-4)
    hidden = F.gelu(F.linear(normed, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
    return x + F.linear(hidden, block["mlp.fc2.weight"], block["mlp.fc2.bias"])


def test_the_audio_aligner_equals_the_layout_read_by_hand(bundle, state):
    features = noise(2, TINY.audio_dim, 40)
    part = {
        k.removeprefix("audio_aligner.mod_list."): v
        for k, v in state.items()
        if k.startswith("audio_aligner.")
    }

    def norm(x):
        weights = part["1.norm.weight"], part["1.norm.bias"]
        return F.layer_norm(x, x.shape[-1:], *weights, eps=1e-4)

    x = norm(features.transpose(1, 2)).transpose(1, 2)[:, :, None]
    for layer in ("2", "3"):
        weights = part[f"{layer}.layer.weight"], part[f"{layer}.layer.bias"]
        x = F.conv2d(x, *weights, stride=(1, 3))
    clip = F.linear(norm(state["audio_cls"]), part["2.cls_layer.weight"], part["2.cls_layer.bias"])
    x = torch.cat([clip.expand(2, 1, -1), x[:, :, 0].transpose(1, 2)], dim=1)
    block = {k.removeprefix("4.block."): v for k, v in part.items() if k.startswith("4.")}
    expected = block_by_hand(x, block, 6)[:, 1:].transpose(1, 2)
    with torch.inference_mode():
        tokens = bundle.model.audio_aligner(features)
    assert tokens.shape == (2, 2, 12, 4)
    assert relative(tokens[:, 1], expected[:, :12]) < 2e-6
    assert relative(tokens[:, 0], expected[:, 12:]) < 2e-6


def test_hubert_is_built_as_released_and_takes_every_tensor(bundle, state):
    hubert = bundle.model.audio_backbone.hubert
    eps = {
        name: module.eps
        for name, module in hubert.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
    }
    # The convolutions' norms are not the configuration's.
    assert {e for name, e in eps.items() if "conv_layers" not in name} == {1e-4}
    assert {e for name, e in eps.items() if "conv_layers" in name} == {1e-5}
    assert hubert.config.do_stable_layer_norm
    ours = hubert.state_dict()
    theirs = {k: v for k, v in state.items() if k.startswith("audio_model.model.")}
    assert len(ours) == len(theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key.removeprefix("audio_model.model.")], value)


@pytest.mark.parametrize(
    ("num_samples", "num_frames", "num_tokens_"),
    [(16000, 49, 5), (160000, 499, 55), (164200, 512, 56), (320000, 999, 111)],
)
def test_the_token_count_of_the_released_sizes(bundle, num_samples, num_frames, num_tokens_):
    assert bundle.model.audio_backbone.num_frames(num_samples) == num_frames
    assert num_tokens(bundle.model, num_samples) == num_tokens_
    with torch.inference_mode():
        features = bundle.model.audio_features(noise(1, num_samples))
        assert features.shape[-1] == num_frames
        assert bundle.model.encode_audio(noise(1, num_samples)).shape == (1, 2, 12, num_tokens_)


def test_too_short_a_waveform_names_the_remedy(bundle):
    with torch.inference_mode():
        assert bundle.model.encode_audio(noise(1, 3200)).shape[-1] == 1
    with pytest.raises(ValueError, match="at least 3200: pad it"):
        bundle.model.encode_audio(noise(1, 3199))


@pytest.mark.parametrize(
    ("layout", "weight_norm"),
    [("peft_new", "new"), ("peft_old", "old"), ("peft_new", "old")],
)
def test_all_layouts_give_the_same_model(bundle, tmp_path, layout, weight_norm):
    other = load(tmp_path, official_state(layout=layout, weight_norm=weight_norm)).model
    for key, value in bundle.model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0, msg=key)


def test_merged_lora_equals_lora_beside_the_weights(tmp_path, state):
    merged = load(tmp_path, state).model
    bare = official_state(layout="no_lora")
    prefix = "image_model.base_model.model.model."
    for key, value in state.items():  # the same weights, without their LoRA
        if "lora" not in key:
            bare[key.replace(prefix, "image_model.model.")] = value
    plain = load(tmp_path, bare, name="denseav_2head_plain.ckpt").model
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = merged.encode_image(pixels)
        assert relative(plain.encode_image(pixels), expected) > 1e-2
        for i, block in enumerate(plain.image_backbone.blocks):
            down, up = (
                state[f"{prefix}blocks.{i}.attn.qkv.lora_{m}.default.weight"] for m in "AB"
            )
            block.attn.qkv.register_forward_hook(
                lambda _, args, y, down=down, up=up: y + 4 * (args[0] @ down.T @ up.T)
            )
        assert relative(plain.encode_image(pixels), expected) < 1e-6


@pytest.mark.parametrize(
    ("name", "heads", "variant"),
    [
        ("denseav_sound.ckpt", ("sound",), "sound"),
        ("denseav_language.ckpt", ("speech",), "language"),
    ],
)
def test_one_head_keeps_all_channels_in_place(bundle, tmp_path, state, name, heads, variant):
    one = load(tmp_path, state, name, num_heads=1, normalize_audio=False)
    assert one.spec.head_names == one.model.heads == heads
    assert one.info["variant"] == variant
    with torch.inference_mode():
        audio, image = noise(1, 16000), torch.rand(1, 3, 64, 64)
        both = bundle.model.encode_audio(audio), bundle.model.encode_image(image)
        single = one.model.encode_audio(audio), one.model.encode_image(image)
    for two, alone in zip(both, single, strict=True):
        swapped = torch.cat([two[:, 1], two[:, 0]], dim=1)
        assert relative(alone[:, 0], swapped) < 2e-6


def test_the_first_head_can_be_named(bundle, tmp_path, state):
    other = load(tmp_path, state, first_head="sound", normalize_audio=False)
    assert other.info["heads_in_source"] == ["sound", "speech"]
    audio = noise(1, 16000)
    with torch.inference_mode():
        ours, theirs = bundle.model.encode_audio(audio), other.model.encode_audio(audio)
    assert relative(theirs[:, 0], ours[:, 1]) < 2e-6


def test_train_mode_pools_the_image_and_eval_mode_does_not(bundle, tmp_path, state):
    model = load(tmp_path, state).model
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        fine = model.encode_image(pixels)
        coarse = model.train().encode_image(pixels)
    assert fine.shape == (2, 2, 12, 8, 8)
    assert coarse.shape == (2, 2, 12, 4, 4)
    torch.testing.assert_close(coarse[1, 1, 3, 2, 1], fine[1, 1, 3, 4:6, 2:4].mean())


def test_normalisation_is_a_switch_in_the_bundle(bundle, tmp_path, state):
    normalized = load(tmp_path, state)
    assert normalized.model.config.normalize_audio
    assert not bundle.model.config.normalize_audio
    audio = 0.03 * noise(1, 16000) + 0.2
    scaled = (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()
    with torch.inference_mode():
        expected = bundle.model.encode_audio(scaled)
        assert relative(normalized.model.encode_audio(audio), expected) < 1e-4
        assert relative(bundle.model.encode_audio(audio), expected) > 1e-2


def test_a_folder_of_safetensors_is_read_too(bundle, tmp_path, state):
    folder = tmp_path / "DenseAV-sound-language"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"sim_agg_heads": 2, "lr": 5e-5}))
    imported = import_denseav(str(folder), tmp_path / "out", config=TINY.config())
    assert imported.heads == ("sound", "speech")
    assert imported.sha256 == sha256(folder / "model.safetensors")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    for key, value in bundle.model.state_dict().items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=0)
    assert imported.sha256 in (tmp_path / "out" / "README.md").read_text()


def refused(tmp_path, state, match, **options):
    path = write_lightning(tmp_path / "denseav_2head.ckpt", state)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=match) as caught:
        import_denseav(str(path), out, config=TINY.config(), **options)
    assert not out.exists()
    return str(caught.value)


def test_every_key_is_accounted_for(tmp_path, state):
    prefix = "image_model.base_model.model.model."
    broken = dict(state)
    del broken["audio_cls"]
    del broken["image_aligner.cls_layer.bias"]
    del broken[f"{prefix}blocks.1.attn.qkv.lora_A.default.weight"]
    broken["stray.weight"] = torch.zeros(2)
    broken["audio_aligner.mod_list.2.layer.weight"] = torch.zeros(24, 32, 3)
    broken[f"{prefix}norm.bias"] = torch.zeros(47)
    message = refused(tmp_path, broken, "3 missing: audio_cls")
    assert "image_aligner.cls_layer.bias" in message
    assert "blocks.1.attn.qkv.lora_A.default.weight" in message
    assert "1 unexpected: stray.weight" in message
    assert "mod_list.2.layer.weight is (24, 32, 3), expected (24, 32, 1, 3)" in message
    assert f"{prefix}norm.bias is (47,), expected (48,)" in message


def test_no_single_key_may_be_missing(state):
    with torch.device("meta"):
        target = DualEncoder(TINY.config()).state_dict()
    for key in state:
        with pytest.raises(ValueError, match="1 missing"):
            convert({k: v for k, v in state.items() if k != key}, target, (1, 0))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, state, value):
    tensor = state["audio_cls"].clone()
    tensor[3] = value
    refused(tmp_path, state | {"audio_cls": tensor}, "1 not finite: audio_cls")


def test_a_tensor_under_two_names_is_refused(tmp_path, state):
    name = "image_model.model.cls_token"
    assert canonical(name) == canonical("image_model.base_model.model.model.cls_token")
    refused(tmp_path, state | {name: state["audio_cls"]}, f"1 unexpected: {name} .beside image_m")


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/av_grounding_was_here",)


def test_a_file_that_would_run_code_is_refused(tmp_path, state):
    path = write_lightning(tmp_path / "denseav_2head.ckpt", state, callbacks=Evil())
    with pytest.raises(ValueError, match=r"refused: reading it would run code, .*system besides"):
        import_denseav(str(path), tmp_path / "out", config=TINY.config())
    assert not (tmp_path / "out").exists()


def test_settings_in_a_namespace_are_read(tmp_path, state):
    settings = argparse.Namespace(sim_agg_heads=2, lr=5e-5)
    path = write_lightning(tmp_path / "some.ckpt", state, hyper_parameters=settings)
    imported = import_denseav(str(path), tmp_path / "out", config=TINY.config())
    assert imported.heads == ("sound", "speech")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"<html>404</html>", "damaged or no checkpoint"),
        (b"", "damaged or no checkpoint"),
        (b"PK\x03\x04 cut short", "damaged or no checkpoint"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content, match):
    path = tmp_path / "denseav_2head.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        import_denseav(str(path), tmp_path / "out")


def test_a_truncated_checkpoint_is_refused(tmp_path, state):
    path = write_lightning(tmp_path / "denseav_2head.ckpt", state)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        import_denseav(str(path), tmp_path / "out", config=TINY.config())


def test_other_mistakes_name_the_remedy(tmp_path, state, caplog):
    path = write_lightning(tmp_path / "some.ckpt", state, num_heads=None)
    out, config = tmp_path / "out", TINY.config()
    with pytest.raises(ValueError, match=r"does not say how many heads .* --variant"):
        import_denseav(str(path), out, config=config)
    with pytest.raises(FileNotFoundError, match="the variants are sound, language, sound_and"):
        import_denseav("musik", out)
    with pytest.raises(ValueError, match="expected a URL that begins with https"):
        import_denseav("ftp://host/denseav_2head.ckpt", out)
    with pytest.raises(ValueError, match=r"sha256 .* expected 00ff"):
        import_denseav(str(path), out, expected_sha256="00ff", config=config)
    with pytest.raises(ValueError, match="holds other files"):
        import_denseav(str(path), tmp_path, config=config)
    two = write_lightning(tmp_path / "denseav_2head.ckpt", state)
    with pytest.raises(ValueError, match="has 2 heads, but sound has 1"):
        import_denseav(str(two), out, variant="sound", config=config)
    assert not out.exists()
    one = write_lightning(tmp_path / "some.ckpt", state, num_heads=1)
    assert import_denseav(str(one), out, config=config).heads == ("sound",)
    assert "taken for the sound head" in caplog.text
    named = import_denseav(str(one), out, variant="language", config=config)
    assert named.heads == load_bundle(out).spec.head_names == ("speech",)


def test_the_library_grounds_with_one_head_and_with_two(bundle, tmp_path, state):
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    waveform = 0.1 * noise(8000).numpy()
    load(tmp_path, state, "denseav_sound.ckpt", num_heads=1)
    grounder = Grounder.load(tmp_path / "bundle-denseav_sound.ckpt", backend="torch")
    spec = grounder.spec.with_heads(calibration={"sound": HeadCalibration(0.01, 0.0)})
    grounding = grounder.with_spec(spec).ground(image, waveform, 16_000)
    assert set(grounding.heads) == {"sound"}
    assert grounding.sound.shape == (28, 37)
    assert grounding.sound.std() > 0


def test_the_released_geometry():
    """The sizes of the released model, without a value of it in memory."""
    with torch.device("meta"):
        model = DualEncoder(denseav_config())
        same = DualEncoder(Geometry().config())
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert shapes == {key: value.shape for key, value in same.state_dict().items()}
    # 341,346,817 less LoRA (12 x 8 x 1536), the unused image layer and the temperature.
    expected = 341_346_817 - 12 * 8 * (384 + 1152) - (384 * 384 + 384) - 1
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.config.head_dim == 192
    assert denseav_config(("sound",)).head_dim == 384


def test_options_of_later_versions_are_left_out_where_unused():
    assert not {"audio_aligner", "aligner_eps", "train_pool"} & set(ModelConfig().to_json())
    config = denseav_config()
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match="evidence with the strided audio aligner"):
        ModelConfig(audio_aligner="strided")
