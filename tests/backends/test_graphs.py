"""The graphs that every compiled backend starts from equal the model, and leave it as it is."""

from dataclasses import replace

import pytest
import torch

from av_grounding.backends.folding import folded, is_resizable
from av_grounding.backends.graphs import build_graphs
from av_grounding.backends.image_sizes import default_image_size
from av_grounding.config import drawn_world_bundle
from av_grounding.modeling.bundle import Bundle, load_bundle
from av_grounding.modeling.denseav import denseav_config, denseav_spec
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.training.recipes.lora import add_lora
from tests.helpers.small_regions import small_region_model

WINDOW_S = 1.0


def shipped():
    return load_bundle(drawn_world_bundle())


def small_denseav(**image_options):
    """DenseAV's layers, fewer and narrower."""
    config = denseav_config(
        image_options={"depth": 1, "eps": 1e-4, **image_options},
        audio_options={
            "layer_norm_eps": 1e-4,
            "num_hidden_layers": 1,
            "hidden_size": 64,
            "num_attention_heads": 4,
            "intermediate_size": 128,
        },
    )
    model = DualEncoder(config).eval()
    return Bundle(model, replace(denseav_spec(model, 10.0), window_s=WINDOW_S), "small")


def small_vit():
    options = {"num_hidden_layers": 1, "image_size": 64}
    model = DualEncoder(ModelConfig(image_backbone="vit", image_options=options)).eval()
    return Bundle(model, replace(shipped().spec, patch_px=8), "small")


def relative(values, reference):
    return float((values - reference).norm() / reference.norm())


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (shipped, None),
        (small_denseav, (48, 64)),
        (small_denseav, (224, 224)),
        (small_vit, (48, 64)),
    ],
)
@torch.no_grad()
def test_graphs_equal_the_model(make, size):
    bundle = make()
    graphs = build_graphs(bundle, size, num_vectors=3)
    model = bundle.model
    calls = {"image": model.encode_image, "audio": model.encode_audio, "ground": model.ground}
    for graph in graphs:
        expected = calls[graph.name](*graph.inputs)
        assert relative(graph.module(*graph.inputs), expected) < 1e-5


@pytest.mark.parametrize(("make", "size"), [(shipped, None), (small_denseav, (48, 64))])
def test_exported_graphs_equal_the_model(make, size):
    bundle = make()
    model = bundle.model
    calls = {"image": model.encode_image, "audio": model.encode_audio, "ground": model.ground}
    for graph in build_graphs(bundle, size):
        program = graph.export().module()
        # Other values than those it was traced with.
        inputs = tuple(torch.rand_like(x) for x in graph.inputs)
        with torch.no_grad():
            assert relative(program(*inputs), calls[graph.name](*inputs)) < 1e-5


@torch.no_grad()
def test_efficientnet_lite_takes_any_size():
    model = DualEncoder(ModelConfig(image_backbone="efficientnet_lite")).eval()
    assert is_resizable(model)
    graphs = build_graphs(Bundle(model, replace(shipped().spec, patch_px=32), "small"), (64, 96))
    rows, columns = (torch.export.Dim(name, min=2, max=64) for name in ("rows", "columns"))
    any_size = ({2: 32 * rows, 3: 32 * columns},)
    program = replace(graphs.image, dynamic_shapes=any_size).export().module()
    for size in ((64, 96), (96, 64), (160, 160)):
        pixels = torch.rand(1, 3, *size)
        assert relative(program(pixels), model.encode_image(pixels)) < 1e-5


@torch.no_grad()
def test_of_regions_the_image_graph_gives_features():
    model = small_region_model(views="pooled")
    bundle = Bundle(model, replace(shipped().spec, patch_px=16), "small")
    graphs = build_graphs(bundle, (64, 96))
    pixels = torch.rand(1, 3, 64, 96)
    assert relative(graphs.image.module(pixels), model.image_features(pixels)) < 1e-5
    assert graphs.ground.inputs[0].shape == (1, 1, 8, 16, 24)


def test_nothing_is_computed_that_could_be_folded():
    """No mask, no weight norm, no interpolation of positions."""
    graphs = build_graphs(small_denseav(), (48, 64))
    operators = {
        graph.name: {
            str(node.target) for node in graph.export().graph.nodes if node.op == "call_function"
        }
        for graph in graphs
    }
    for name in ("image", "audio"):
        assert "aten.scaled_dot_product_attention.default" in operators[name]
        wrong = ("arange", "full", "ones", "_weight_norm", "norm_except_dim", "upsample", "vmap")
        assert [op for op in operators[name] if any(part in op for part in wrong)] == []


def test_the_model_stays_as_it_is():
    bundle = small_denseav()
    before = {key: value.clone() for key, value in bundle.model.state_dict().items()}
    waveform = torch.randn(1, bundle.spec.num_window_samples)
    heard = bundle.model.encode_audio(waveform)
    build_graphs(bundle, (48, 64))
    after = bundle.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert torch.equal(bundle.model.encode_audio(waveform), heard)


def test_unchanged_parameters_are_shared():
    bundle = shipped()
    own = {id(parameter) for parameter in bundle.model.parameters()}
    copy = folded(bundle.model, 160, 208)
    assert {id(parameter) for parameter in copy.parameters()} == own


@torch.no_grad()
def test_low_rank_updates_are_merged():
    bundle = small_denseav()
    model = add_lora(bundle.model, rank=2, alpha=4, dropout=0.0).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.normal_(std=0.1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pixels = torch.rand(1, 3, 48, 64)
    graph = build_graphs(bundle, (48, 64)).image
    assert relative(graph.module(pixels), model.encode_image(pixels)) < 1e-5
    assert not any("lora" in name for name in graph.module.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_sizes():
    bundle = shipped()
    assert default_image_size(bundle.spec) == (160, 208)
    assert build_graphs(bundle).image.inputs[0].shape == (1, 3, 160, 208)
    with pytest.raises(ValueError, match="image size 100x208; expected multiples of 16, such as"):
        build_graphs(bundle, (100, 208))
