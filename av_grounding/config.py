"""Runtime configuration: typed, ranged, read from a ROS parameter file.

One file (config/grounding.yaml) serves `ros2 launch` and the command line, so names are ROS
parameter names (`gate.min_dbfs`), nested or dotted. Every field carries its range and its
meaning, from which a node can declare its parameters. A misspelt name is an error that offers
the nearest one.
"""

from __future__ import annotations

import difflib
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from av_grounding.reading import brief, one_line, parse_yaml, read_text

NODE_NAME = "grounding"
MAX_BYTES = 1 << 18
"""Parameter files of a whole robot have a tenth of this."""
MAX_DEPTH = 20
MAX_SHOWN_KEYS = 10
MODEL_ENVIRONMENT_VARIABLE = "AV_GROUNDING_MODEL"

Section = TypeVar("Section")


def _parameter(
    default: bool | int | float | str,
    description: str,
    *,
    range: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    metadata = {"description": description, "range": range, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ModelConfig:
    path: str = _parameter("", "bundle directory; empty chooses the bundle that is shipped")


@dataclass(frozen=True)
class AudioConfig:
    hop_s: float = _parameter(0.0, "step between audio windows; 0: the model's", range=(0.0, 10.0))
    source: str = _parameter(
        "topic", "ROS: where sound comes from, a topic or a device", choices=("topic", "device")
    )
    device: str = _parameter("", "ROS: part of the microphone's name; empty: the default one")
    msg_type: str = _parameter(
        "auto",
        "ROS: type of the audio topic; auto: what its publisher says",
        choices=("auto", "AudioDataStamped", "AudioStamped", "AudioData", "RawAudio"),
    )
    sample_rate: int = _parameter(
        0, "ROS: Hz of samples that come without AudioInfo; 0: wait for it", range=(0, 768_000)
    )
    channels: int = _parameter(
        1, "ROS: channels of samples that come without AudioInfo", range=(1, 64)
    )
    sample_format: str = _parameter(
        "S16LE", "ROS: format of samples that come without AudioInfo, such as S16LE or F32LE"
    )
    channel: int = _parameter(
        -1, "ROS: the only channel that is heard; -1: the mean of all", range=(-1, 63)
    )
    stamp_reference: str = _parameter(
        "auto",
        "ROS: end of a chunk that its stamp means; auto: the start, as the known drivers do",
        choices=("auto", "start", "end"),
    )
    allow_unstamped: bool = _parameter(
        False, "ROS: take AudioData, which has no stamp, as recorded until it arrived"
    )


@dataclass(frozen=True)
class GateConfig:
    min_dbfs: float = _parameter(
        -50.0, "sound quieter than this is silence to both heads", range=(-120.0, 0.0)
    )


@dataclass(frozen=True)
class SoundConfig:
    recency_s: float = _parameter(
        0.7, "time constant with which the sound head forgets", range=(0.01, 60.0)
    )
    silence_s: float = _parameter(
        1.0, "the sound heatmap is zero once nothing was audible for this long", range=(0.0, 60.0)
    )
    threshold: float = _parameter(
        0.5, "calibrated value from which a heatmap claims a sounding object", range=(0.0, 1.0)
    )
    enabled: bool = _parameter(True, "ROS: whether this head is published")


@dataclass(frozen=True)
class SpeechConfig:
    hold_s: float = _parameter(
        1.5, "how long the speech heatmap stands after the last voiced sound", range=(0.0, 60.0)
    )
    hangover_s: float = _parameter(
        0.3, "pauses up to this long do not end an utterance", range=(0.0, 5.0)
    )
    threshold: float = _parameter(
        0.5, "calibrated value from which a heatmap claims a named object", range=(0.0, 1.0)
    )
    enabled: bool = _parameter(True, "ROS: whether this head is published")


@dataclass(frozen=True)
class SyncConfig:
    offset_ms: float = _parameter(
        0.0, "added to audio stamps: positive where they are too early", range=(-5e3, 5e3)
    )
    lookahead_ms: float = _parameter(
        0.0, "audio after the frame's stamp that may still answer it", range=(0.0, 5e3)
    )


@dataclass(frozen=True)
class HeatmapConfig:
    encoding: str = _parameter(
        "32FC1",
        "ROS: pixels of the heatmaps; 32FC1 holds 0 to 1, the others 0 to full scale",
        choices=("32FC1", "mono8", "mono16"),
    )
    size: int = _parameter(
        0, "ROS: short side of the heatmaps in pixels; 0: the model's grid", range=(0, 4096)
    )


@dataclass(frozen=True)
class PeaksConfig:
    max: int = _parameter(5, "ROS: peaks of a heatmap at most", range=(0, 100))


@dataclass(frozen=True)
class OverlayConfig:
    alpha: float = _parameter(0.55, "opacity of a heatmap over the image at 1", range=(0.0, 1.0))


@dataclass(frozen=True)
class GroundingConfig:
    """Everything that can be set at run time; the defaults stand in config/grounding.yaml too."""

    backend: str = _parameter(
        "auto",
        "what runs the model",
        choices=("auto", "torch", "compiled", "cpu", "aot", "tensorrt"),
    )
    backend_fallback: bool = _parameter(
        False, "where that backend cannot run: take the best that can, and say so"
    )
    device: str = _parameter("auto", "auto, cpu, cuda or cuda:INDEX")
    max_rate: float = _parameter(
        0.0, "heatmaps a second at most; 0: every frame", range=(0.0, 1e3)
    )
    max_image_age_ms: float = _parameter(
        100.0, "a frame older than this is dropped and counted", range=(1.0, 60e3)
    )
    autostart: bool = _parameter(
        True, "ROS: become active at the start; false: wait for a lifecycle manager"
    )
    image_transport: str = _parameter(
        "raw", "ROS: image, or image/compressed", choices=("raw", "compressed")
    )
    image_reliability: str = _parameter(
        "best_effort",
        "ROS: how images are subscribed to; best_effort matches every publisher",
        choices=("best_effort", "reliable"),
    )
    image_rectified: bool = _parameter(
        False, "ROS: the images are rectified ones, which P of camera_info describes"
    )
    use_3d: bool = _parameter(
        False, "ROS: subscribe to depth, registered to the image, and publish the top peak's point"
    )
    target_frame: str = _parameter(
        "", "ROS: frame of the points, reached by TF; empty: the camera's"
    )
    view: str = _parameter("", "ROS: HOST:PORT of a live page, as of run --view; empty: none")
    model: ModelConfig = field(default_factory=ModelConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    sound: SoundConfig = field(default_factory=SoundConfig)
    speech: SpeechConfig = field(default_factory=SpeechConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    heatmap: HeatmapConfig = field(default_factory=HeatmapConfig)
    peaks: PeaksConfig = field(default_factory=PeaksConfig)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)

    def streaming_values(self) -> dict[str, float]:
        """What of this concerns the stream, by the names of `streaming.StreamingConfig`."""
        return {
            "hop_s": self.audio.hop_s,
            "gate_dbfs": self.gate.min_dbfs,
            "recency_s": self.sound.recency_s,
            "silence_s": self.sound.silence_s,
            "hold_s": self.speech.hold_s,
            "hangover_s": self.speech.hangover_s,
            "audio_offset_s": self.sync.offset_ms / 1e3,
            "lookahead_s": self.sync.lookahead_ms / 1e3,
        }


class Parameter(NamedTuple):
    """One runtime parameter as a node would declare it."""

    name: str
    default: bool | int | float | str
    description: str
    range: tuple[float, float] | None
    choices: tuple[str, ...] | None


def parameters(section: type = GroundingConfig, prefix: str = "") -> Iterator[Parameter]:
    """All parameters by their dotted names, in the order of the configuration file."""
    for item in fields(section):
        name = prefix + item.name
        if "description" in item.metadata:
            yield Parameter(name, item.default, **item.metadata)
        else:
            yield from parameters(item.default_factory, f"{name}.")


def load_config(path: str | Path) -> GroundingConfig:
    """Read a ROS parameter file (`/**: ros__parameters: …`).

    Sections of other nodes are ignored; of this node's, later ones win. Raises
    FileNotFoundError, or ValueError in one line for whatever else is wrong with the file.
    """
    path = Path(path)
    try:
        text = read_text(path, MAX_BYTES)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"got configuration file {path}, which does not exist: expected a parameter file "
            "such as config/grounding.yaml"
        ) from None
    try:
        document = parse_yaml(text, MAX_DEPTH)
        values: dict[str, bool | int | float | str] = {}
        for section in _node_sections(document):
            values.update(_checked(section))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return _build(GroundingConfig, values)


def config_from_mapping(values: Mapping[str, Any]) -> GroundingConfig:
    """Check parameters, nested or dotted, and return the configuration they describe."""
    return _build(GroundingConfig, _checked(values))


def default_bundle() -> Path:
    """The bundle to use where none is named.

    $AV_GROUNDING_MODEL if set, else the first directory with a config.json below `models/` of
    the current directory, of the source tree, and of the installed package's share directory.
    """
    named = os.environ.get(MODEL_ENVIRONMENT_VARIABLE)
    if named:
        return Path(named)
    bundles = find_bundles()
    if not bundles:
        places = ", ".join(str(place) for place in bundle_directories())
        raise FileNotFoundError(
            f"got no model, expected a bundle (config.json + model.safetensors) in one of "
            f"{places}: name one with --model or ${MODEL_ENVIRONMENT_VARIABLE}"
        )
    return bundles[0]


def find_bundles() -> list[Path]:
    """Every bundle directory that `default_bundle` would consider, the preferred one first."""
    return [
        config.parent
        for place in bundle_directories()
        for config in sorted(place.glob("*/config.json"))
    ]


def bundle_directories() -> list[Path]:
    import sysconfig

    package = Path(__file__).resolve().parent
    share = Path(sysconfig.get_path("data")) / "share" / "av_grounding"
    # A ROS install prefix: <prefix>/lib/pythonX/site-packages/av_grounding.
    prefixes = [parent / "share" / "av_grounding" for parent in package.parents]
    candidates = [Path.cwd(), package.parent, share, *prefixes]
    directories = [candidate / "models" for candidate in candidates]
    return list(dict.fromkeys(place for place in directories if place.is_dir())) or directories[:3]


def _node_sections(document: Any) -> Iterator[Any]:
    expected = f"expected '/**:' or '{NODE_NAME}:' with 'ros__parameters:' below it"
    if not isinstance(document, Mapping):
        raise ValueError(
            f"got {_kind(document)} at the top, {expected}: see config/grounding.yaml"
        )
    ours = [key for key in document if str(key).rpartition("/")[2] in ("**", "*", NODE_NAME)]
    if not ours:
        raise ValueError(f"got {_kind(document)} at the top, {expected}: rename one")
    for key in ours:
        content = document[key]
        if not isinstance(content, Mapping) or set(content) != {"ros__parameters"}:
            raise ValueError(
                f"got {_kind(content)} below {brief(key)}, {expected}: indent the parameters"
            )
        yield content["ros__parameters"] or {}


def _checked(values: Any) -> dict[str, bool | int | float | str]:
    known = {parameter.name: parameter for parameter in parameters()}
    sections = {name.rpartition(".")[0] for name in known} - {""}
    checked: dict[str, bool | int | float | str] = {}
    for name, value in _flatten(values, sections):
        if name not in known:
            raise ValueError(_unknown(name, known, sections))
        checked[name] = _check(known[name], value)
    return checked


def _flatten(values: Any, sections: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, Mapping):
        raise ValueError(
            f"got {_kind(values)} for {one_line(prefix, 80) or 'parameters'}, expected "
            "name: value pairs"
        )
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name in sections or isinstance(value, Mapping):
            yield from _flatten(value, sections, name)
        else:
            yield name, value


def _unknown(name: str, known: Mapping[str, Parameter], sections: set[str]) -> str:
    nearest = difflib.get_close_matches(name, [*known, *sections], n=1, cutoff=0.5)
    if not nearest:  # the right name in the wrong section, or without one
        nearest = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "known: " + ", ".join(known)
    return f"got the unknown parameter {brief(name)}, expected a known one: {remedy}"


def _check(parameter: Parameter, value: Any) -> bool | int | float | str:
    name = parameter.name
    if isinstance(parameter.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"got {brief(value)} for {name}, expected true or false")
        return value
    if isinstance(parameter.default, str):
        if not isinstance(value, str):
            raise ValueError(f"got {brief(value)} for {name}, expected text: put it in quotes")
        if parameter.choices and value not in parameter.choices:
            nearest = difflib.get_close_matches(value, parameter.choices, n=1)
            remedy = f"did you mean {nearest[0]!r}?" if nearest else "choose one of them"
            expected = ", ".join(parameter.choices)
            raise ValueError(
                f"got {brief(value)} for {name}, expected one of {expected}: {remedy}"
            )
        return value
    low, high = parameter.range or (-math.inf, math.inf)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError(
            f"got {brief(value)} for {name}, expected a number: write it like {parameter.default}"
        )
    if not low <= value <= high or math.inf in (value, -value):
        raise ValueError(
            f"got {brief(value)} for {name}, expected {low:g} to {high:g}: {parameter.description}"
        )
    if isinstance(parameter.default, int):
        if value != int(value):
            raise ValueError(f"got {brief(value)} for {name}, expected a whole number")
        return int(value)
    return float(value)


def _build(section: type[Section], values: Mapping[str, Any], prefix: str = "") -> Section:
    arguments = {}
    for item in fields(section):
        name = prefix + item.name
        if is_dataclass(item.default_factory):
            arguments[item.name] = _build(item.default_factory, values, f"{name}.")
        elif name in values:
            arguments[item.name] = values[name]
    return section(**arguments)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        shown = [brief(str(key)) for key in itertools.islice(value, MAX_SHOWN_KEYS)]
        rest = ", …" if len(value) > MAX_SHOWN_KEYS else ""
        return "a mapping with " + (", ".join(shown) + rest or "no key")
    return f"{type(value).__name__} {brief(value)}"
