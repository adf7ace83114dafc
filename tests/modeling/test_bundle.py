import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from av_grounding.files import sha256
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.types import HeadCalibration, HeadSpec, ModelSpec

SPEC = ModelSpec(
    heads=(
        HeadSpec("sound", calibration=HeadCalibration(9.0, -4.0)),
        HeadSpec("speech", "utterance", min_token_norm=0.2, salience_power=2.0),
    ),
    sample_rate_hz=16_000, window_s=2.56, hop_s=0.16, num_tokens=32, short_side_px=160,
    patch_px=16, context_s=0.7,
)  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    model = DualEncoder(ModelConfig(head_dim=8)).eval()
    return model, save_bundle(tmp_path / "b", model, SPEC, name="b", dtype=torch.float32)


def change_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_round_trip(bundle):
    model, directory = bundle
    loaded = load_bundle(directory)
    assert loaded.spec == SPEC
    assert loaded.model.config == model.config
    assert not loaded.model.training
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded.model.encode_image(pixels), model.encode_image(pixels))


def test_half_precision_on_disk_is_float32_in_memory(tmp_path):
    model = DualEncoder(ModelConfig(head_dim=8))
    directory = save_bundle(tmp_path, model, SPEC, name="half")
    assert (
        load_file(directory / "model.safetensors")["image_aligner.project.weight"].dtype
        == torch.float16
    )
    assert load_bundle(directory).model.image_aligner.project.weight.dtype == torch.float32


def test_keys_that_do_not_fit_are_listed(bundle):
    _, directory = bundle
    weights = directory / "model.safetensors"
    state = load_file(weights)
    state["stray"] = torch.zeros(1)
    state["audio_aligner.project.bias"] = torch.zeros(3)
    del state["image_aligner.project.bias"]
    save_file(state, weights)
    change_config(directory, weights={"sha256": sha256(weights), "dtype": "float32"})
    with pytest.raises(ValueError, match=r"missing image_aligner\.project\.bias") as caught:
        load_bundle(directory)
    assert "unexpected stray" in str(caught.value)
    assert "audio_aligner.project.bias is (3,), expected (16,)" in str(caught.value)


def test_a_damaged_or_truncated_weights_file_is_refused(bundle):
    _, directory = bundle
    weights = directory / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_bundle(directory)
    change_config(directory, weights={"sha256": sha256(weights), "dtype": "float32"})
    with pytest.raises(ValueError, match="no safetensors file"):
        load_bundle(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"model": {"heads": ["sound"], "depth": 3}}, "unknown model options depth"),
        ({"spec": {"heads": []}}, "spec does not fit"),
        ({"weights": {}}, "no sha256"),
        ({"name": 3}, "no valid 'name'"),
    ],
)
def test_a_config_that_is_not_ours_is_refused(bundle, changes, message):
    _, directory = bundle
    change_config(directory, **changes)
    with pytest.raises(ValueError, match=message):
        load_bundle(directory)


def test_missing_and_unreadable_configs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_bundle(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match="no JSON"):
        load_bundle(tmp_path)
