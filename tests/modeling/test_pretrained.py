"""Pretrained backbones: networks of the true layouts, with random weights, from local files."""

import re

import pytest
import torch
from transformers import HubertConfig, HubertModel, ViTConfig, ViTModel

from av_grounding.modeling.pretrained import convert_dino, load_dino, load_hubert
from av_grounding.modeling.transformer_backbones import HubertBackbone
from av_grounding.modeling.vision_transformer import DinoBackbone

DINO = {"dim": 24, "depth": 2, "num_attention_heads": 3, "patch_px": 8, "image_px": 32}
HUBERT = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96,
        patch_size=8, image_size=32, layer_norm_eps=1e-6, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = ViTModel(config, add_pooling_layer=False).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def features_of(vit, pixels):
    with torch.no_grad():
        return vit(pixels).last_hidden_state[:, 1:].mT.unflatten(2, (4, 4))


def check(backbone, vit):
    pixels = torch.randn(2, 3, 32, 32)
    expected = features_of(vit, pixels)
    with torch.no_grad():
        torch.testing.assert_close(backbone.eval()(pixels), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.05


def test_a_local_folder_of_the_hub_gives_the_same_features(vit, tmp_path):
    vit.save_pretrained(tmp_path)
    backbone = DinoBackbone(**DINO)
    load_dino(backbone, tmp_path)
    check(backbone, vit)


def old_names(state):
    """The names that transformers 4 gave, and that the files on the hub have."""
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"^layers\.(\d+)", r"encoder.layer.\1", name)
        name = re.sub(r"attention\.(q|k|v)_proj", lambda m: "attention.attention." + {
            "q": "query", "k": "key", "v": "value"}[m[1]], name)  # fmt: skip
        name = name.replace("attention.o_proj", "attention.output.dense")
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        renamed[name] = tensor
    return renamed


def test_both_spellings_of_transformers_convert(vit):
    state = {k: v for k, v in vit.state_dict().items()}
    if any(name.startswith("layers.") for name in state):
        state = old_names(state)
    assert "encoder.layer.1.attention.attention.value.bias" in state
    state["pooler.dense.weight"] = torch.zeros(24, 24)
    backbone = DinoBackbone(**DINO)
    backbone.load_state_dict(convert_dino(state))
    check(backbone, vit)


def test_dinos_own_file_loads(vit, tmp_path):
    reference = DinoBackbone(**DINO)
    reference.load_state_dict(convert_dino(vit.state_dict()))
    own = {
        re.sub("^patch_embed", "patch_embed.proj", name): value
        for name, value in reference.state_dict().items()
    }
    torch.save(own, tmp_path / "dino.pth")
    backbone = DinoBackbone(**DINO)
    load_dino(backbone, tmp_path / "dino.pth")
    check(backbone, vit)


def test_true_sizes_have_the_true_names():
    """ViT-S/8 of the hub, without its values: every tensor has a place here and the reverse."""
    config = ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536,
        patch_size=8, image_size=224,
    )  # fmt: skip
    with torch.device("meta"):
        state, ours = ViTModel(config, add_pooling_layer=False).state_dict(), DinoBackbone()
    shapes = {name: value.shape for name, value in convert_dino(state).items()}
    assert shapes == {name: value.shape for name, value in ours.state_dict().items()}
    assert shapes["pos_embed"] == (1, 785, 384)
    assert shapes["blocks.11.attn.qkv.weight"] == (1152, 384)


def test_hubert_from_a_local_folder(tmp_path):
    torch.manual_seed(1)
    source = HubertModel(HubertConfig(**HUBERT)).eval()
    source.save_pretrained(tmp_path)
    backbone = HubertBackbone(**HUBERT).eval()
    waveform = torch.randn(2, 8000)
    with torch.no_grad():
        expected = source(waveform).last_hidden_state.mT
        assert not torch.allclose(backbone(waveform), expected, atol=1e-2)
        load_hubert(backbone, tmp_path)
        torch.testing.assert_close(backbone(waveform), expected, atol=1e-5, rtol=1e-5)


def test_another_network_is_refused_by_name(vit, tmp_path):
    vit.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"does not fit the model: missing blocks\.2\.attn\.proj"):
        load_dino(DinoBackbone(**{**DINO, "depth": 3}), tmp_path)
    with pytest.raises(ValueError, match=r"pos_embed is \(1, 17, 24\), expected \(1, 37, 24\)"):
        load_dino(DinoBackbone(**{**DINO, "image_px": 48}), tmp_path)


def test_without_the_hub_the_remedy_is_a_local_folder(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"'someone/dino' are not to be had.*pretrained\.image"):
        load_dino(DinoBackbone(**DINO), "someone/dino")
