"""What can be set at run time: every parameter with its default, range and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple


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
