"""Runtime configuration: what is accepted, what is refused and in which words."""

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.config import (
    GroundingConfig,
    config_from_mapping,
    default_bundle,
    find_bundles,
    load_config,
    parameters,
)

SHIPPED = Path(__file__).parents[1] / "config" / "grounding.yaml"
NUMBERS = [parameter for parameter in parameters() if parameter.range]


def write(directory, text):
    path = directory / "grounding.yaml"
    path.write_text(text)
    return path


def test_shipped_file_states_every_default_and_nothing_else():
    import yaml

    assert load_config(SHIPPED) == GroundingConfig()
    stated = yaml.safe_load(SHIPPED.read_text())["/**"]["ros__parameters"]
    assert stated == asdict(GroundingConfig())
    # rclpy refuses an integer for a parameter that is declared as a double.
    types = {parameter.name: type(parameter.default) for parameter in parameters()}
    for name, value in _leaves(stated):
        assert type(value) is types[name], name


def _leaves(mapping, prefix=""):
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_nested_and_dotted_names_mean_the_same(tmp_path):
    nested = "/**:\n  ros__parameters:\n    speech: {hold_s: 3}\n    device: cpu\n"
    dotted = "/robot/grounding:\n  ros__parameters:\n    speech.hold_s: 3.0\n    device: cpu\n"
    loaded = load_config(write(tmp_path, nested))
    assert loaded == load_config(write(tmp_path, dotted))
    assert loaded.speech.hold_s == 3.0
    assert isinstance(loaded.speech.hold_s, float)
    assert loaded.device == "cpu"
    assert loaded.speech.threshold == GroundingConfig().speech.threshold


def test_other_nodes_are_ignored_and_later_sections_win(tmp_path):
    text = (
        "/**: {ros__parameters: {max_rate: 5.0, speech: {hold_s: 4.0}}}\n"
        "camera: {ros__parameters: {exposure: 3}}\n"
        "grounding: {ros__parameters: {max_rate: 7.0, speech: {threshold: 0.25}}}\n"
    )
    loaded = load_config(write(tmp_path, text))
    assert (loaded.max_rate, loaded.speech.hold_s, loaded.speech.threshold) == (7.0, 4.0, 0.25)


@given(st.sampled_from(NUMBERS), st.floats(0, 1))
def test_every_value_within_its_range_arrives(parameter, share):
    low, high = parameter.range
    value = min(high, low + share * (high - low))
    if isinstance(parameter.default, int):
        value = round(value)
    section, _, name = parameter.name.rpartition(".")
    config = config_from_mapping({parameter.name: value})
    holder = getattr(config, section) if section else config
    assert getattr(holder, name) == value


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda parameter: parameter.name)
def test_values_beyond_a_range_are_refused(parameter):
    for value in (parameter.range[0] - 0.001, parameter.range[1] + 0.001):
        with pytest.raises(ValueError, match=f"for {parameter.name}, expected .* to "):
            config_from_mapping({parameter.name: value})


@pytest.mark.parametrize("parameter", list(parameters()), ids=lambda parameter: parameter.name)
def test_defaults_are_valid_and_described(parameter):
    assert config_from_mapping({parameter.name: parameter.default}) == GroundingConfig()
    assert parameter.description


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_rat": 3.0}, "'max_rat'.*did you mean 'max_rate'"),
        ({"gate": {"min_dbf": -40.0}}, "'gate.min_dbf'.*did you mean 'gate.min_dbfs'"),
        ({"gates": {"min_dbfs": -40.0}}, "did you mean 'gate.min_dbfs'"),
        ({"hold_s": 1.0}, "did you mean 'speech.hold_s'"),
        ({"zzz": 1.0}, "known: backend, backend_fallback, device"),
        ({"max_rate": "fast"}, "'fast' for max_rate, expected a number"),
        ({"max_rate": True}, "True for max_rate, expected a number"),
        ({"use_3d": 1}, "1 for use_3d, expected true or false"),
        ({"peaks": {"max": 2.5}}, "2.5 for peaks.max, expected a whole number"),
        ({"max_rate": float("nan")}, "nan for max_rate, expected a number"),
        (
            {"backend": "trch"},
            "'trch' for backend, expected one of auto, torch.*: did you mean 'torch'",
        ),
        ({"device": 0}, "0 for device, expected text"),
        ({"speech": 3.0}, "float 3.0 for speech, expected name: value"),
    ],
)
def test_mistakes_are_named_with_their_remedy(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        config_from_mapping(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got nothing at the top"),
        ("max_rate: 3.0\n", "a mapping with 'max_rate' at the top"),
        ("/**:\n  max_rate: 3.0\n", "a mapping with 'max_rate' below '/\\*\\*'"),
        ("/**: [1\n", "expected YAML"),
        ("/**: {ros__parameters: {nope: 1}}\n", "unknown parameter 'nope'"),
        ("/**: {ros__parameters: 3}\n", "int 3"),
        ("a: !!python/object/apply:os.getcwd []\n", "expected YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_stream_takes_every_value_under_its_own_name():
    from av_grounding.streaming.config import StreamingConfig

    assert StreamingConfig(**GroundingConfig().streaming_values()) == StreamingConfig()
    changed = {
        "audio.hop_s": 0.2,
        "gate.min_dbfs": -40.0,
        "sound.recency_s": 0.9,
        "sound.silence_s": 2.0,
        "speech.hold_s": 1.25,
        "speech.hangover_s": 0.5,
        "sync.offset_ms": -30.0,
        "sync.lookahead_ms": 80.0,
    }
    stream = StreamingConfig(**config_from_mapping(changed).streaming_values())
    assert (stream.hop_s, stream.gate_dbfs, stream.recency_s, stream.silence_s) == (
        0.2,
        -40,
        0.9,
        2,
    )
    assert (stream.hold_s, stream.hangover_s) == (1.25, 0.5)
    assert (stream.audio_offset_s, stream.lookahead_s) == pytest.approx((-0.03, 0.08))


def test_backends_are_those_that_load():
    from av_grounding.backends import BACKENDS

    (backend,) = (parameter for parameter in parameters() if parameter.name == "backend")
    assert backend.choices == BACKENDS


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml, which does not exist"):
        load_config(tmp_path / "nowhere.yaml")


def test_default_bundle_prefers_the_environment_then_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("AV_GROUNDING_MODEL", raising=False)
    for name in ("b", "a", "empty"):
        (tmp_path / "models" / name).mkdir(parents=True)
        if name != "empty":
            (tmp_path / "models" / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert default_bundle() == tmp_path / "models" / "a"
    assert find_bundles()[:2] == [tmp_path / "models" / "a", tmp_path / "models" / "b"]
    monkeypatch.setenv("AV_GROUNDING_MODEL", "/elsewhere")
    assert default_bundle() == Path("/elsewhere")


def test_no_bundle_says_where_it_looked(monkeypatch):
    monkeypatch.delenv("AV_GROUNDING_MODEL", raising=False)
    monkeypatch.setattr("av_grounding.config.bundles.find_bundles", list)
    with pytest.raises(FileNotFoundError, match=r"models.*--model or \$AV_GROUNDING_MODEL"):
        default_bundle()
