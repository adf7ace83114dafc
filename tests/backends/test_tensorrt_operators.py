"""Whether TensorRT could take the exported encoders whole, from the operators in them."""

import pytest
import torch
from torch import nn

from av_grounding.backends.graphs import Graph, build_graphs
from av_grounding.backends.precision import in_precision
from av_grounding.backends.tensorrt_operators import CONVERTED, operators, unconvertible
from av_grounding.config import default_bundle
from av_grounding.modeling.bundle import Bundle, load_bundle
from av_grounding.modeling.denseav import denseav_config, denseav_spec
from av_grounding.modeling.dual_encoder import DualEncoder


def denseav(**changes):
    model = DualEncoder(denseav_config(**changes)).eval()
    return build_graphs(Bundle(model, denseav_spec(model, 1.0), "denseav"), (64, 64))


def narrow_denseav():
    """DenseAV's own layers, two of each, at widths that make exporting quick."""
    return denseav(
        image_options={"eps": 1e-4, "depth": 2, "image_px": 64},
        audio_options={
            "layer_norm_eps": 1e-4, "num_hidden_layers": 2, "hidden_size": 96,
            "num_attention_heads": 4, "intermediate_size": 192, "conv_dim": (32,) * 7,
        },
    )  # fmt: skip


def shipped():
    return build_graphs(load_bundle(default_bundle()))


@pytest.fixture(scope="module")
def found():
    """Operators by model and encoder, in fp16: those of fp32 and the casts."""
    return {
        (model.__name__, graph.name): (operators(program), unconvertible(program))
        for model in (shipped, narrow_denseav)
        for graph in list(in_precision(model(), "fp16"))[:2]
        for program in [graph.export()]
    }


@pytest.mark.parametrize("encoder", ["image", "audio"])
@pytest.mark.parametrize("model", ["shipped", "narrow_denseav"])
def test_the_encoders_convert_whole(found, model, encoder):
    counts, rejected = found[model, encoder]
    assert rejected == {}
    assert counts["convolution.default"] >= 2
    assert sum(counts.values()) > 50


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_so_they_do_in_other_precisions(precision):
    for graph in in_precision(shipped(), precision):
        assert unconvertible(graph.export()) == {}, graph.name


@pytest.mark.slow
def test_denseav_at_its_own_size_converts_whole():
    for graph in denseav(
        image_options={"eps": 1e-4, "depth": 2},
        audio_options={"layer_norm_eps": 1e-4, "num_hidden_layers": 2},
    ):  # fmt: skip
        assert unconvertible(graph.export()) == {}, graph.name


def test_attention_stays_whole(found):
    counts, _ = found["narrow_denseav", "image"]
    assert counts["scaled_dot_product_attention.default"] == 2
    # What it would be taken apart into has no converter.
    assert "full_like.default" not in counts
    assert "full_like.default" not in CONVERTED


def test_norms_are_taken_apart(found):
    counts, _ = found["shipped", "audio"]
    assert "linalg_vector_norm.default" not in counts


class Unconvertible(nn.Module):
    def forward(self, x):
        return torch.linalg.cholesky(x @ x.mT + torch.eye(4)) + torch.full_like(x, 2.0)


def test_what_does_not_convert_is_named():
    found = unconvertible(Graph("image", Unconvertible(), (torch.rand(4, 4),)).export())
    assert any("cholesky" in name for name in found)
    assert "mm.default" not in found
