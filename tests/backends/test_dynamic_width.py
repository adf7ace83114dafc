"""One graph for a range of widths: exported, compiled and run, against the eager model."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from test_graphs import relative, shipped, small_denseav, small_vit

from av_grounding.backends import load_backend
from av_grounding.backends.column_positions import ColumnPositions
from av_grounding.backends.cpu import CpuBackend
from av_grounding.backends.cpu_build import build_cpu
from av_grounding.backends.graphs import build_graphs
from av_grounding.backends.parity import Examples, compare
from av_grounding.backends.tensorrt_operators import unconvertible
from av_grounding.backends.torch_eager import TorchBackend
from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.vision_transformer import DinoBackbone
from av_grounding.training.recipes.lora import add_lora
from tests.helpers.exporting import run_export

NEEDS_OPENVINO = pytest.mark.skipif(
    # Not imported: it would report its use.
    find_spec("openvino") is None, reason="needs OpenVINO: pip install 'av_grounding[cpu]'"
)  # fmt: skip
WIDTHS = (64, 192)
OUTSIDE = r"64x208 pixels; this export takes 64x64 to 64x192 in steps of"


def tiny_dino():
    """DINO as DenseAV has it with low-rank updates, whose learned grid is 64 pixels high too."""
    torch.manual_seed(0)
    bundle = small_denseav(depth=1, image_px=64, dim=96, num_attention_heads=3)
    model = add_lora(bundle.model, rank=2, alpha=4, dropout=0.0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return replace(bundle, spec=replace(bundle.spec, short_side_px=64))


def tiny_vit():
    torch.manual_seed(0)
    bundle = small_vit()
    return replace(bundle, spec=replace(bundle.spec, short_side_px=64))


def conv():
    bundle = shipped()
    return replace(bundle, spec=replace(bundle.spec, short_side_px=64))


def examples(bundle, widths, height=64):
    rng = np.random.default_rng(0)
    num_samples = bundle.spec.num_window_samples
    return Examples(
        [rng.integers(0, 256, (height, width, 3), np.uint8) for width in widths],
        [0.1 * rng.standard_normal(num_samples, np.float32) for _ in widths],
    )


@pytest.mark.parametrize("rows", [3, 28, 40])
@torch.no_grad()
def test_positions_of_any_width_equal_dinos_own(rows):
    torch.manual_seed(0)
    backbone = DinoBackbone(dim=8, depth=1, num_attention_heads=2)
    torch.nn.init.normal_(backbone.pos_embed)
    follow = ColumnPositions(backbone.pos_embed, rows, 0.1)
    for columns in (2, 3, 20, 27, 28, 29, 57, 84, 130):
        expected = backbone.positions(rows, columns)
        assert relative(follow(columns), expected) < 1e-5


@pytest.mark.parametrize("rows", [5, 8, 13])
@torch.no_grad()
def test_positions_of_any_width_equal_those_of_transformers(rows):
    embeddings = tiny_vit().model.image_backbone.vit.embeddings
    torch.nn.init.normal_(embeddings.position_embeddings)
    follow = ColumnPositions(embeddings.position_embeddings, rows)
    for columns in (2, 7, 8, 9, 24, 65):
        tokens = torch.empty(1, 1 + rows * columns, 384)
        expected = embeddings.interpolate_pos_encoding(tokens, 8 * rows, 8 * columns)
        assert relative(follow(columns), expected) < 1e-5


@pytest.mark.parametrize("make", [tiny_dino, tiny_vit, pytest.param(conv, marks=pytest.mark.slow)])
@torch.no_grad()
def test_the_exported_encoder_takes_every_width(make):
    bundle = make()
    graphs = build_graphs(bundle, (64, 96), widths=WIDTHS)
    program = graphs.image.export()
    assert unconvertible(program) == {}
    encode = program.module()
    # The width that it was traced with, that of the learned grid, and the ends.
    for width in (96, 64, 112, 192):
        pixels = torch.rand(1, 3, 64, width)
        assert relative(encode(pixels), bundle.model.encode_image(pixels)) < 1e-5
    with pytest.raises(AssertionError, match="<= 192"):
        encode(torch.rand(1, 3, 64, 224))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("widths", [None, WIDTHS])
@torch.no_grad()
def test_a_transformer_in_half_precision(widths, precision):
    """Its positions are cast with it, whether they are fixed or follow."""
    from av_grounding.backends.precision import image_in_precision

    bundle = tiny_vit()
    graph = image_in_precision(build_graphs(bundle, (64, 96), widths=widths).image, precision)
    pixels = torch.rand(1, 3, 64, 96)
    assert relative(graph.module(pixels), bundle.model.encode_image(pixels)) < 0.03


@NEEDS_OPENVINO
@pytest.mark.parametrize(
    "make", [tiny_dino, *(pytest.param(make, marks=pytest.mark.slow) for make in (tiny_vit, conv))]
)
def test_the_cpu_runtime_takes_every_width(make, tmp_path):
    bundle = make()
    facts = build_cpu(build_graphs(bundle, (64, 96), widths=WIDTHS), tmp_path, "fp32")
    facts |= {"precision": "fp32", "image_size": [64, 96], "widths": WIDTHS}
    backend = CpuBackend(tmp_path, bundle.spec, facts)
    parity = compare(TorchBackend(bundle), backend, examples(bundle, (64, 96, 112, 192, 96)))
    assert parity.image_max < 1e-4
    assert set(parity.by_size) == {"64x64", "64x96", "64x112", "64x192"}
    # Compiled before the first frame, and not again.
    assert len(backend._image._requests) == 1
    with pytest.raises(ValueError, match=OUTSIDE):
        backend.encode_image(np.zeros((64, 208, 3), np.uint8))
    with pytest.raises(ValueError, match="80x96 pixels; this export takes 64x64 to"):
        backend.encode_image(np.zeros((80, 96, 3), np.uint8))


@pytest.mark.slow
def test_ahead_of_time_packages_take_every_width(tmp_path):
    """By the command: a compiler and the shape checks of tests do not go together."""
    bundle = tiny_vit()
    save_bundle(tmp_path / "in", bundle.model, bundle.spec, name="narrow", dtype=torch.float32)
    out = tmp_path / "out"
    result = run_export(
        out, "--model", str(tmp_path / "in"), "--backend", "aot", "--image-size", "64x96",
        "--dynamic-width", "64:192", "--num", "4", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert list(report["by_size"]) == ["64x64", "64x96", "64x144", "64x192"]
    assert max(row["image_max"] for row in report["by_size"].values()) < 1e-5
    backend = load_backend(out, "aot")
    tokens = backend.encode_image(np.zeros((64, 112, 3), np.uint8))
    assert backend.ground(tokens, np.ones((2, 1, 64), np.float32)).shape == (2, 1, 8, 14)
    with pytest.raises(ValueError, match=OUTSIDE):
        backend.encode_image(np.zeros((64, 208, 3), np.uint8))


@NEEDS_OPENVINO
def test_the_whole_way_by_the_command(tmp_path):
    bundle = conv()
    save_bundle(tmp_path / "in", bundle.model, bundle.spec, name="narrow", dtype=torch.float32)
    out = tmp_path / "out"
    command = ("--model", str(tmp_path / "in"), "--backend", "cpu", "--json")
    result = run_export(
        out, *command, "--dynamic-width", "64:192", "--image-size", "64x96", "--num", "4"
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report == json.loads((out / "cpu" / "parity.json").read_text())
    assert report["widths"] == [64, 192]
    assert list(report["by_size"]) == ["64x64", "64x96", "64x144", "64x192"]
    assert max(row["image_max"] for row in report["by_size"].values()) < 1e-4
    assert "| 64x144 | 1 |" in (out / "cpu" / "parity.md").read_text()
    facts = json.loads((out / "cpu" / "export.json").read_text())
    assert (facts["image_size"], facts["widths"]) == ([64, 96], [64, 192])
    backend = load_backend(out, "cpu")
    assert backend.describe()["widths"] == (64, 192)
    with pytest.raises(ValueError, match=OUTSIDE):
        backend.encode_image(np.zeros((64, 208, 3), np.uint8))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dynamic-width", "160:200"], "widths 160:200 beside image size 160x208; expected mul"),
        (["--dynamic-width", "--num", "3"], "--num 3 with --dynamic-width; expected at least 4"),
        (["--dynamic-width", "--image-size", "320x416"], "no frame reaches the model as 320x320"),
    ],
)
def test_mistakes_are_one_line(options, said, tmp_path, capsys):
    from av_grounding import cli

    command = ["export", "--backend", "cpu", "--out", str(tmp_path / "out"), *options]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["160", "480:160", "160:", "a:b", "0:160"])
def test_ranges_are_read_strictly(text, tmp_path, capsys):
    from av_grounding import cli

    with pytest.raises(SystemExit):
        cli.main(["export", "--backend", "cpu", "--out", str(tmp_path), "--dynamic-width", text])
    assert "expected MIN:MAX such as 160:480" in capsys.readouterr().err
