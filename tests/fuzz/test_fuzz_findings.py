"""What fuzzing found, one test each: the inputs that broke a parser once."""

import json
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from av_grounding import image_header as coded
from av_grounding.config import load_config
from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.bundle_checks import check_model
from av_grounding.modeling.denseav_import import (
    Checkpoint,
    find_variant,
    import_denseav,
    read_checkpoint,
)
from av_grounding.modeling.pretrained import load_dino
from av_grounding.modeling.tensor_files import UnreadableFile, plain_tensors
from av_grounding.training.data.media import decode_picture
from av_grounding.transports import messages
from tests.fuzz import fuzz_files, fuzz_seeds


def config(tmp_path, text):
    path = tmp_path / "grounding.yaml"
    path.write_bytes(text)
    return path


# Messages


def test_a_long_name_of_an_encoding_is_shown_short_and_on_one_line():
    info = SimpleNamespace(coding_format="mp3\nFAKE LOG LINE " * 9999, sample_rate=1, channels=1)
    with pytest.raises(messages.MalformedMessage) as caught:
        messages.decode_audio_info(info)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["plumb_bob", "equidistant"])
@pytest.mark.parametrize("size", [1e-300, 1e8, -1e8, 1e300])
def test_a_lens_that_cannot_be_has_rays_all_the_same(model, size):
    coefficients = np.full(4, size)
    camera = messages.CameraInfo(
        48, 64, np.diag([50.0, 50.0, 1.0]), np.diag([50.0, 1e-300, 1.0, 1.0])[:3], coefficients,
        np.eye(3), model,
    )  # fmt: skip
    for is_rectified in (False, True):
        ray = camera.ray(40.0, 3.0, is_rectified=is_rectified)
        assert np.linalg.norm(ray) == pytest.approx(1.0)


def test_fill_bytes_before_a_jpeg_s_header_take_no_time():
    data = b"\xff\xd8" + b"\xff" * 4_000_000 + b"\xff\xd9"
    with pytest.raises(coded.CodedPictureError, match="no frame header"):
        coded.coded_size(data)


def test_a_jpeg_may_not_hide_its_header_behind_a_stuffed_byte():
    data = (
        b"\xff\xd8\xff\x00\x00\x04ab\xff\xc0\x00\x11\x08\x00\x10\x00\x10" + bytes(9) + b"\xff\xd9"
    )
    with pytest.raises(coded.CodedPictureError, match="no frame header"):
        coded.coded_size(data)


@pytest.mark.parametrize("kind", [b"IDAT", b"IEND"])
def test_a_png_whose_chunk_claims_more_than_the_file_is_cut_off(kind):
    """OpenCV took up to 3.2 GB for such a file of 0.9 kB before it noticed."""
    data = bytearray(fuzz_seeds.pictures()[4])
    at = data.index(kind)
    data[at - 4 : at] = (0x7FFFFFF0).to_bytes(4, "big")
    with pytest.raises(coded.CodedPictureError, match="cut off"):
        coded.coded_size(bytes(data))


def test_an_animated_png_is_no_picture_of_a_camera():
    data = fuzz_seeds.pictures()[4]
    at = data.index(b"IDAT") - 4
    animated = data[:at] + struct.pack(">I", 8) + b"acTL" + bytes(12) + data[at:]
    with pytest.raises(coded.CodedPictureError, match="animated"):
        coded.coded_size(animated)


def test_few_bytes_are_no_large_picture():
    data = bytearray(fuzz_seeds.pictures()[4])
    data[16:24] = struct.pack(">II", 4096, 4096)
    with pytest.raises(coded.CodedPictureError, match="a trap"):
        coded.coded_size(bytes(data))


def test_a_damaged_picture_in_a_shard_is_a_value_error():
    """OpenCV raises an error of its own for dimensions that it does not accept."""
    data = bytearray(next(d for d in fuzz_seeds.picture_files() if d.startswith(b"BM")))
    data[18:22] = (1 << 21).to_bytes(4, "little")
    with pytest.raises(ValueError, match="do not decode"):
        decode_picture(bytes(data), "clip")


# Configuration


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"/**: &a {ros__parameters: *a}", "alias"),
        (b'{"a":' * 3000, "levels of nesting"),
        (b"- " * 3000, "levels of nesting"),
        (b"/**: {ros__parameters: {max_rate: 0x" + b"f" * 300 + b"}}", "number of 1200 bits"),
        (b"/**: {ros__parameters: {max_rate: " + b"9" * 5000 + b"}}", "limit"),
        (b"/**: {ros__parameters: {max_rate: 2001-99-99}}", "month"),
        (b"# " + b"x" * (1 << 18), "over 262144 bytes"),
        (b"/**: {ros__parameters: {" + b"a" * 900 + b": 1}}", "unknown parameter"),
        (b"x: [" + b"1, " * 9999 + b"]", "a mapping with 'x'"),
    ],
)
def test_a_strange_parameter_file_is_one_short_line(tmp_path, text, match):
    with pytest.raises(ValueError, match=match) as caught:
        load_config(config(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


# Bundles and checkpoints


@pytest.mark.parametrize(
    ("section", "name", "value", "match"),
    [
        ("model", "image_options", {"widths": [4] * 4, "nonsense": 1}, "nonsense"),
        ("model", "image_options", [1], "no model can be built"),
        ("model", "image_options", {"widths": [10**9] * 4}, "expected 0 to 16384"),
        ("model", "heads", None, "heads are None"),
        ("model", "head_dim", "many", "head_dim|str"),
        ("model", "train_pool", "x", "no model"),
        ("model", "image_backbone", ["conv"], "no model can be built"),
        ("spec", "num_tokens", 0, "num_tokens is 0"),
        ("spec", "window_s", "long", "spec does not fit"),
        ("spec", "hop_s", float("nan"), "hop_s is nan"),
        ("spec", "sample_rate_hz", True, "sample_rate_hz is True"),
        ("spec", "heads", [{"name": "a", "calibration": {"scale": "much"}}], "'much'"),
        ("spec", "heads", [{"name": "a", "calibration": []}], "spec does not fit"),
        ("spec", "heads", [{"name": "a", "min_token_norm": [1]}], "min_token_norm"),
        ("spec", "heads", 5, "spec does not fit"),
    ],
)
def test_a_bundle_s_config_is_checked_before_anything_is_built(
    tmp_path, section, name, value, match
):
    stated = json.loads(fuzz_seeds.bundle_configs(("conv",))[0])
    stated[section][name] = value
    folder = fuzz_files.bundle_with(tmp_path / "b", config=json.dumps(stated).encode())
    with pytest.raises(ValueError, match=match) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)


def test_a_bundle_s_config_nested_deeply_is_no_json(tmp_path):
    folder = fuzz_files.bundle_with(tmp_path / "b", config=b"[" * 100_000)
    with pytest.raises(ValueError, match="no JSON"):
        load_bundle(folder)


def test_options_of_a_bundle_name_no_code():
    """A name with a slash would be looked for on a hub, and run."""
    options = {"attn_implementation": "somebody/kernels"}
    with pytest.raises(ValueError, match="expected a plain word"):
        check_model({"heads": ["sound"], "image_options": options})


def test_hundreds_of_missing_tensors_are_not_all_listed(tmp_path):
    from safetensors.torch import save

    weights = save({f"stray{i}": torch.zeros(1) for i in range(500)})
    folder = fuzz_files.bundle_with(tmp_path / "b", weights=weights)
    with pytest.raises(ValueError, match=r"unexpected stray0|more") as caught:
        load_bundle(folder)
    assert len(str(caught.value)) < 3000


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("is_zip", [False, True])
def test_no_checkpoint_runs_code(tmp_path, is_zip):
    marker = tmp_path / "ran"
    pickled = pickle.dumps(Runs(marker), protocol=2)
    path = tmp_path / "evil.ckpt"
    path.write_bytes(fuzz_files.checkpoint_of(pickled) if is_zip else pickled)
    with pytest.raises(ValueError, match=r"refused|damaged"):
        read_checkpoint(path)
    with pytest.raises(ValueError, match="holds no weights"):
        load_dino(fuzz_files.tiny_dino(), path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).as_strided((1 << 20, 1 << 20), (0, 0)),
        torch.zeros(3, 3).to_sparse(),
        torch.zeros(2, device="meta"),
        5,
    ],
    ids=["claims more", "sparse", "without data", "no tensor"],
)
def test_only_dense_tensors_are_weights(tensor):
    with pytest.raises(UnreadableFile):
        plain_tensors({"a": tensor})


def test_names_of_tensors_are_text():
    with pytest.raises(UnreadableFile, match="expected a tensor"):
        plain_tensors({5: torch.zeros(1)})


def test_a_rank_that_is_none_is_not_multiplied_out(tmp_path):
    from tests.helpers import denseav_checkpoint

    state = denseav_checkpoint.official_state()
    name = next(name for name in state if "lora_A" in name)
    state[name] = torch.zeros(100_000, state[name].shape[1])
    path = denseav_checkpoint.write_lightning(tmp_path / "denseav_2head.ckpt", state)
    small = denseav_checkpoint.TINY.config()
    with pytest.raises(ValueError, match=r"lora_A\S* is \(100000"):
        import_denseav(str(path), tmp_path / "out", config=small)


@pytest.mark.parametrize("num_heads", [torch.zeros(3), [2], "2", True, 1.0])
def test_a_strange_number_of_heads_is_named(num_heads):
    found = Checkpoint(Path("a.ckpt"), {}, {"sim_agg_heads": num_heads})
    with pytest.raises(ValueError, match="expected 1 or 2"):
        find_variant(found, None)
