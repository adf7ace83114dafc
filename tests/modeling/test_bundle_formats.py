"""Formats of config.json: the old one still means what it meant, the new one names its type."""

import json
from dataclasses import replace

import pytest
import torch

from av_grounding.config import drawn_world_bundle
from av_grounding.identification import SourcesSpec
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.bundle_config import read_config, spec_from_json, store_spec
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.types import HeadCalibration, HeadSpec, ModelSpec

SPEC = ModelSpec(
    heads=(
        HeadSpec("sound", "recent", HeadCalibration(9.0, -4.0), 0.0, 2.0),
        HeadSpec("speech", "utterance", HeadCalibration(), 0.2, 2.0),
    ),
    sample_rate_hz=16_000, window_s=2.56, hop_s=0.16, num_tokens=32, short_side_px=160,
    patch_px=16, context_s=0.7,
)  # fmt: skip
FORMAT_1_SPEC = {
    "heads": ["sound", "speech"], "sample_rate_hz": 16_000, "window_s": 2.56, "hop_s": 0.16,
    "num_tokens": 32, "short_side_px": 160, "patch_px": 16,
    "calibration": {"sound": {"scale": 9.0, "bias": -4.0}}, "min_token_norm": {"speech": 0.2},
    "salience_power": 2.0, "context_s": 0.7, "token_spacing_s": 0.0,
}  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    model = DualEncoder(ModelConfig(head_dim=8)).eval()
    return save_bundle(tmp_path / "b", model, SPEC, name="b")


def change(directory, **changes):
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_a_bundle_states_its_format_and_type(bundle):
    config = json.loads((bundle / "config.json").read_text())
    assert (config["format"], config["type"]) == (2, "dual_encoder")
    assert [head["name"] for head in config["spec"]["heads"]] == ["sound", "speech"]
    assert load_bundle(bundle).spec == SPEC


def test_format_1_still_loads_and_means_a_dual_encoder(bundle):
    change(bundle, format=1, type=None, spec=FORMAT_1_SPEC)
    loaded = load_bundle(bundle)
    assert isinstance(loaded.model, DualEncoder)
    assert loaded.spec == SPEC
    assert read_config(bundle)["type"] == "dual_encoder"


def test_the_shipped_bundle_is_read_as_it_is():
    config = read_config(drawn_world_bundle())
    spec = spec_from_json(config["spec"])
    assert [(head.name, head.listens) for head in spec.heads] == [
        ("sound", "recent"), ("speech", "utterance"),
    ]  # fmt: skip


def test_an_offset_and_another_head_survive_the_file(tmp_path):
    spec = replace(
        SPEC, heads=(HeadSpec("music", salience_power=0.5),), num_tokens=1, token_offset_s=2.4
    )
    model = DualEncoder(ModelConfig(head_dim=8, heads=("music",)))
    assert load_bundle(save_bundle(tmp_path, model, spec, name="one")).spec == spec


HEAD = {"name": "sound", "listens": "recent"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "telepathy"}, "has type 'telepathy'; expected one of dual_encoder"),
        ({"type": None}, "has type None; expected one of dual_encoder"),
        ({"mood": "blue"}, r"unknown fields \['mood'\]; expected only format, name, model"),
        ({"heads": [HEAD | {"listens": "everything"}]}, "does not fit this version: .*listens"),
        ({"heads": [HEAD | {"colour": "red"}]}, "spec does not fit this version: .*'colour'"),
        ({"heads": [HEAD | {"name": "Sound/../x"}]}, "expected a name of small letters"),
        ({"heads": [HEAD, HEAD]}, "expected up to 64, all different"),
        ({"heads": [HEAD | {"min_token_norm": -1.0}]}, "min_token_norm of head 'sound'"),
        (
            {"heads": [HEAD | {"norm_order": 3}]},
            "norm_order of head 'sound' is 3",
        ),
        ({"heads": [HEAD | {"calibration": {"scale": 1e9}}]}, "scale of head 'sound'"),
        ({"token_offset_s": -1.0}, "token_offset_s is -1.0; expected 0 to 300"),
    ],
)
def test_what_this_version_does_not_know_is_one_line(bundle, changes, message):
    if "heads" in changes or "token_offset_s" in changes:
        spec = json.loads((bundle / "config.json").read_text())["spec"]
        changes = {"spec": spec | changes}
    change(bundle, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


def test_what_counts_sources_is_read_as_it_was_written(bundle):
    sources = SourcesSpec(counting=((0.5, -1.0, 0.25), (0.0, 2.0, -0.125)))
    store_spec(bundle, replace(SPEC, sources=sources), {})
    assert load_bundle(bundle).spec.sources == sources
    spec = json.loads((bundle / "config.json").read_text())["spec"]
    change(bundle, spec=spec | {"sources": spec["sources"] | {"counting": [[1.0, 2.0]]}})
    with pytest.raises(ValueError, match=r"counting has 1 rows of \[2\] numbers"):
        load_bundle(bundle)
