"""What can be set at run time: every parameter with its default, range and meaning, once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictStr

from av_grounding.config import checking
from av_grounding.config.checking import Integer, Parameter, Value, setting, settings
from av_grounding.config.streaming import StreamingConfig

HEADS = ("sound", "speech")
"""Heads whose parameters are declared and shipped; those of others may be given too."""

# fmt: off
SampleFormat = Literal[
    "S8", "U8", "S16LE", "S16BE", "U16LE", "U16BE", "S24LE", "S24BE", "S32LE", "S32BE",
    "F32LE", "F32BE", "F64LE", "F64BE",
]
# fmt: on
SAMPLE_FORMATS = get_args(SampleFormat)
"""GStreamer's names, which ros-drivers' AudioInfo has."""
StampReference = Literal["auto", "start", "end"]
Reliability = Literal["auto", "best_effort", "reliable"]
# fmt: off
MessageType = Literal[
    "auto", "AudioDataStamped", "AudioStamped", "AudioData", "RawAudio", "AudioFrame",
    "AudioBuffer",
]
# fmt: on


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


@settings
class ModelSettings:
    path: StrictStr = setting("")
    """Bundle directory; empty chooses the bundle that is shipped."""


@settings
class AudioSettings:
    source: Literal["topic", "device"] = setting("topic")
    """ROS: where sound comes from, a topic or a device."""
    device: StrictStr = setting("")
    """Part of the microphone's name; empty: the default one."""
    msg_type: MessageType = setting("auto")
    """Type of the audio topic; auto: what its publisher says."""
    sample_rate: Integer = setting(0, range=(0, 768_000))
    """Hz of samples that come without AudioInfo; 0: wait for it."""
    channels: Integer = setting(1, range=(1, 64))
    """Channels of samples that come without AudioInfo."""
    sample_format: Annotated[SampleFormat, BeforeValidator(_upper)] = setting("S16LE")
    """Format of samples that come without AudioInfo."""
    channel: Integer = setting(-1, range=(-1, 63), live=True)
    """The only channel that is heard; -1: the mean of all."""
    reliability: Reliability = setting("auto")
    """ROS: how sound is subscribed to; auto: reliable where every publisher is."""
    stamp_reference: StampReference = setting("auto")
    """End of a chunk that its stamp means; auto: as its type's driver does, mostly the start."""
    allow_unstamped: StrictBool = setting(False)
    """Take AudioData, which has no stamp, as recorded until it arrived; a bag always is."""


@settings
class HeadSettings:
    threshold: StrictFloat = setting(0.5, range=(0.0, 1.0), live=True)
    """Calibrated value from which a heatmap claims a find."""
    enabled: StrictBool = setting(True, live=True)
    """Whether topics of this head are published."""


@settings
class HeatmapSettings:
    encoding: Literal["32FC1", "mono8", "mono16"] = setting("32FC1", live=True)
    """Pixels of the heatmap topics; 32FC1 holds 0 to 1, the others 0 to full scale."""
    size: Integer = setting(0, range=(0, 4096), live=True)
    """Short side of the heatmap topics in pixels; 0: the model's grid."""


@settings
class PeaksSettings:
    max: Integer = setting(5, range=(0, 100), live=True)
    """Peaks of a heatmap at most."""


@settings
class OverlaySettings:
    alpha: StrictFloat = setting(0.55, range=(0.0, 1.0), live=True)
    """Opacity of a heatmap over the image at 1."""


@settings
class SeparationSettings:
    target: Literal["peak", "point"] = setting("peak", live=True)
    """ROS, --dds: whose sound is on sound/audio: what the heatmap's peak shows, or a point."""
    x_px: StrictFloat = setting(0.0, range=(0.0, 1e5), live=True)
    """ROS, --dds: column of that point in the image."""
    y_px: StrictFloat = setting(0.0, range=(0.0, 1e5), live=True)
    """ROS, --dds: row of that point in the image."""
    lookahead_s: StrictFloat = setting(
        0.32, name="separation.lookahead_ms", scale=1e3, range=(0.0, 10e3), live=True
    )
    """Sound after a moment that is heard before the moment is separated."""


@settings
class RecordSettings:
    path: StrictStr = setting("")
    """ROS: folder that gets a recording of every activation; empty: none."""


@settings
class GroundingConfig:
    """Everything that can be set at run time; the defaults stand in config/grounding.yaml too."""

    backend: Literal["auto", "torch", "torch-compiled", "cpu", "tensorrt"] = setting("auto")
    """What runs the model."""
    backend_fallback: StrictBool = setting(False)
    """Where that backend cannot run: take the best that can, and say so."""
    device: StrictStr = setting("auto")
    """Where the model runs: auto, cpu, cuda or cuda:INDEX."""
    num_sources: Integer = setting(0, range=(0, 8))
    """Maps of every frame, for a bundle that tells sources apart; 0: as many as it finds."""
    max_rate: StrictFloat = setting(0.0, range=(0.0, 1e3), live=True)
    """Heatmaps a second at most; 0: every frame."""
    max_image_age_ms: StrictFloat = setting(100.0, range=(1.0, 60e3), live=True)
    """A frame older than this is dropped and counted."""
    answer_again: StrictBool = setting(False)
    """Live: newer sound answers the last frame again, once a hop, under the frame's own stamp."""
    autostart: StrictBool = setting(True)
    """ROS: become active at the start; false: wait for a lifecycle manager."""
    image_transport: Literal["raw", "compressed"] = setting("raw")
    """ROS: image, or image/compressed."""
    image_reliability: Reliability = setting("auto")
    """ROS: how images are subscribed to; auto: reliable where every publisher is."""
    image_rectified: StrictBool = setting(False, live=True)
    """The images are rectified ones, which P of camera_info describes."""
    use_3d: StrictBool = setting(False)
    """ROS: subscribe to depth, registered to the image, and publish the top peak's point."""
    target_frame: StrictStr = setting("", live=True)
    """ROS: frame of the points, reached by TF; empty: the camera's."""
    view: StrictStr = setting("")
    """ROS: HOST:PORT of a live page, as of run --view; empty: none."""
    view_host: StrictStr = setting("")
    """ROS: names (NAME or NAME:PORT) under which browsers reach it too, as behind a proxy."""
    model: ModelSettings = Field(default_factory=ModelSettings)
    audio: AudioSettings = Field(default_factory=AudioSettings)
    heatmap: HeatmapSettings = Field(default_factory=HeatmapSettings)
    peaks: PeaksSettings = Field(default_factory=PeaksSettings)
    overlay: OverlaySettings = Field(default_factory=OverlaySettings)
    separation: SeparationSettings = Field(default_factory=SeparationSettings)
    record: RecordSettings = Field(default_factory=RecordSettings)
    stream: StreamingConfig = Field(default_factory=StreamingConfig)
    heads: Mapping[str, HeadSettings] = Field(
        default_factory=lambda: {head: HeadSettings() for head in HEADS}
    )

    def head(self, name: str) -> HeadSettings:
        """The settings of a head; the defaults where nothing was said of it."""
        return self.heads.get(name, HeadSettings())

    def thresholds(self, heads: Iterable[str]) -> dict[str, float]:
        """Head -> the value from which its heatmap claims something."""
        return {head: self.head(head).threshold for head in heads}

    def check_heads(self, of_model: Iterable[str]) -> None:
        """ValueError for settings of a head that neither the model nor the shipped file has."""
        known = list(dict.fromkeys((*of_model, *HEADS)))
        for head in set(self.heads) - set(known):
            nearest = difflib.get_close_matches(head, known, n=1)
            remedy = f"did you mean {nearest[0]!r}?" if nearest else "leave it out"
            raise ValueError(
                f"got settings of the head {head!r}, expected one of {', '.join(known)}: {remedy}"
            )

    def as_mapping(self) -> dict[str, Any]:
        """The parameters, nested as in a parameter file."""
        nested: dict[str, Any] = {}
        for parameter in parameters(self.heads):
            value: Any = self
            for key in parameter.path:
                value = value[key] if isinstance(value, Mapping) else getattr(value, key)
            put(nested, parameter.name.split("."), parameter.outward(value))
        return nested


def parameters(heads: Iterable[str] = HEADS) -> Iterator[Parameter]:
    """All parameters by their dotted names, with those of each of `heads`."""
    yield from checking.parameters(GroundingConfig)
    for head in heads:
        yield from checking.parameters(HeadSettings, ("heads", head), head)


def put(nested: dict[str, Any], path: Iterable[str], value: Value) -> None:
    """Set a leaf of nested dictionaries."""
    *sections, leaf = path
    for section in sections:
        nested = nested.setdefault(section, {})
    nested[leaf] = value
