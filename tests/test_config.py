"""Runtime configuration: what is accepted, what is refused and in which words."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.config import (
    GroundingConfig,
    StreamingConfig,
    config_from_mapping,
    default_bundle,
    find_bundles,
    load_config,
    parameters,
)

SHIPPED = Path(__file__).parents[1] / "config" / "grounding.yaml"
OF_STREAM = [parameter for parameter in parameters() if parameter.path[0] == "stream"]
NUMBERS = [parameter for parameter in parameters() if parameter.range]


def write(directory, text):
    path = directory / "grounding.yaml"
    path.write_text(text)
    return path


def test_shipped_file_states_every_default_and_nothing_else():
    import yaml

    assert load_config(SHIPPED) == GroundingConfig()
    stated = yaml.safe_load(SHIPPED.read_text())["/**"]["ros__parameters"]
    assert stated == GroundingConfig().as_mapping()
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
    assert loaded.stream.hold_s == 3.0
    assert isinstance(loaded.stream.hold_s, float)
    assert loaded.device == "cpu"
    assert loaded.head("speech") == GroundingConfig().head("speech")


def test_other_nodes_are_ignored_and_later_sections_win(tmp_path):
    text = (
        "/**: {ros__parameters: {max_rate: 5.0, speech: {hold_s: 4.0}}}\n"
        "camera: {ros__parameters: {exposure: 3}}\n"
        "grounding: {ros__parameters: {max_rate: 7.0, speech: {threshold: 0.25}}}\n"
    )
    loaded = load_config(write(tmp_path, text))
    assert (loaded.max_rate, loaded.stream.hold_s, loaded.head("speech").threshold) == (7, 4, 0.25)
    changes = {"speech.threshold": 0.75}
    assert load_config(write(tmp_path, text), changes).head("speech").threshold == 0.75


def leaf(mapping, name):
    for key in name.split("."):
        mapping = mapping[key]
    return mapping


# Settings that must not pass one another are set together.
BELOW = {
    "speech.hangover_s": "speech.hold_s",
    "speech.min_utterance_s": "speech.max_utterance_s",
    "sync.gap_tolerance_s": "sync.max_gap_s",
}


@given(st.sampled_from(NUMBERS), st.floats(0, 1))
def test_every_value_within_its_range_arrives(parameter, share):
    low, high = parameter.range
    value = min(high, low + share * (high - low))
    if isinstance(parameter.default, int):
        value = round(value)
    of = {other.name: other for other in NUMBERS}
    above, below = BELOW, {long: short for short, long in BELOW.items()}
    values = {parameter.name: value}
    if parameter.name in above:
        values[above[parameter.name]] = of[above[parameter.name]].range[1]
    elif parameter.name in below:
        values[below[parameter.name]] = of[below[parameter.name]].range[0]
        value = values[parameter.name] = max(value, of[below[parameter.name]].range[0])
    arrived = leaf(config_from_mapping(values).as_mapping(), parameter.name)
    assert arrived == pytest.approx(value, abs=1e-6)
    assert type(arrived) is type(parameter.default)


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
        ({"speech.vad_frame_ms": 25}, "25 for speech.vad_frame_ms, expected one of 10, 20, 30"),
        ({"sync.offset_ms": 10**400}, "for sync.offset_ms, expected -5000 to 5000"),
        ({"sync.offset_ms": 6000}, "6000.0 for sync.offset_ms, expected -5000 to 5000"),
        ({"audio.sample_format": "s16"}, "'S16' for audio.sample_format, .*did you mean 'S16LE'"),
        ({"stream": {"hold_s": 1.0}}, "unknown parameter 'stream.hold_s'"),
        (
            {"max_rate": -1, "peaks.max": 2.5},
            "for max_rate, .*; got 2.5 for peaks.max, expected a",
        ),
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


def test_the_stream_takes_its_values_under_the_names_of_parameters():
    assert config_from_mapping({}).stream == GroundingConfig().stream == StreamingConfig()
    names = {parameter.path[1]: parameter.name for parameter in OF_STREAM}
    assert names == {
        "gate_dbfs": "gate.min_dbfs",
        "silence_s": "sound.silence_s",
        "recency_s": "sound.recency_s",
        "vad_aggressiveness": "speech.vad_aggressiveness",
        "vad_frame_ms": "speech.vad_frame_ms",
        "hangover_s": "speech.hangover_s",
        "min_utterance_s": "speech.min_utterance_s",
        "hold_s": "speech.hold_s",
        "max_utterance_s": "speech.max_utterance_s",
        "hop_s": "audio.hop_s",
        "audio_offset_s": "sync.offset_ms",
        "min_context_weight": "audio.min_context_weight",
        "lookahead_s": "sync.lookahead_ms",
        "stamp_guard_s": "sync.stamp_guard_s",
        "gap_tolerance_s": "sync.gap_tolerance_s",
        "max_gap_s": "sync.max_gap_s",
        "max_backstep_s": "sync.max_backstep_s",
        "clock_fit_s": "sync.clock_fit_s",
    }
    changed = {"gate.min_dbfs": -40, "speech.vad_frame_ms": 30.0, "sync.clock_fit_s": 5.0}
    stream = config_from_mapping(changed | {"sync.offset_ms": -30.1}).stream
    assert stream == StreamingConfig(
        gate_dbfs=-40.0, vad_frame_ms=30, clock_fit_s=5.0, audio_offset_s=-0.0301
    )
    assert (
        config_from_mapping({"sync.offset_ms": -30.1}).as_mapping()["sync"]["offset_ms"] == -30.1
    )


def test_a_streams_settings_are_a_value():
    config = StreamingConfig(gate_dbfs=-40)
    assert config == StreamingConfig(gate_dbfs=-40.0) != StreamingConfig()
    assert hash(config) == hash(StreamingConfig(gate_dbfs=-40.0))
    assert replace(config, gate_dbfs=-50.0) == StreamingConfig()
    assert set(vars(config)) == {parameter.path[1] for parameter in OF_STREAM}
    with pytest.raises(AttributeError):
        config.gate_dbfs = 0.0
    with pytest.raises(ValueError, match=r"got 99.0 for hold_s, expected 0 to 60"):
        replace(config, hold_s=99.0)
    with pytest.raises(ValueError, match=r"'gate_db'.*did you mean 'gate_dbfs'"):
        StreamingConfig(gate_db=-40.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speech.hold_s": 0.1}, r"got hold_s 0.1, expected at least hangover_s \(0.3\)"),
        ({"speech": {"min_utterance_s": 2.0, "max_utterance_s": 1.0}}, "got max_utterance_s 1"),
        ({"sync.max_gap_s": 0.1, "sync.gap_tolerance_s": 0.2}, "got max_gap_s 0.1"),
    ],
)
def test_values_that_contradict_each_other_are_refused_as_a_set(values, message):
    with pytest.raises(ValueError, match=message):
        config_from_mapping(values)


def test_heads_of_any_name_have_settings():
    config = config_from_mapping({"music": {"threshold": 0.25}, "sound.enabled": False})
    assert config.head("music") == replace(config.head("speech"), threshold=0.25)
    assert not config.head("sound").enabled
    assert config.head("birds") == GroundingConfig().head("sound")
    assert config.thresholds(("music", "speech")) == {"music": 0.25, "speech": 0.5}
    assert config.as_mapping()["music"] == {"threshold": 0.25, "enabled": True}
    config.check_heads(["music"])
    with pytest.raises(
        ValueError, match="head 'music', expected one of musik, sound, speech: did"
    ):
        config.check_heads(["musik"])
    with pytest.raises(ValueError, match=r"'speach.threshold'.*did you mean 'speech.threshold'"):
        config_from_mapping({"speach.threshold": 0.2})
    with pytest.raises(ValueError, match=r"2 for music.threshold, expected 0 to 1"):
        config_from_mapping({"music.threshold": 2})


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
    named = tmp_path / "models" / "everyday-small"
    named.mkdir()
    (named / "config.json").write_text("{}")
    assert default_bundle() == named  # whatever ships beside it
    monkeypatch.setenv("AV_GROUNDING_MODEL", "/elsewhere")
    assert default_bundle() == Path("/elsewhere")


def test_no_bundle_says_where_it_looked(monkeypatch):
    monkeypatch.delenv("AV_GROUNDING_MODEL", raising=False)
    monkeypatch.setattr("av_grounding.config.bundles.find_bundles", list)
    with pytest.raises(FileNotFoundError, match=r"models.*--model or \$AV_GROUNDING_MODEL"):
        default_bundle()
