"""Sound: the audio messages of three packages to AudioChunk, and AudioChunk to the common one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from av_grounding.audio import MAX_CHANNELS, check_sample_rate, samples_to_ns, to_float32
from av_grounding.config import SAMPLE_FORMATS, AudioSettings, StampReference
from av_grounding.files import brief
from av_grounding.transports.messages.coded_audio import coding_of
from av_grounding.transports.messages.fields import (
    Fields,
    MalformedMessage,
    as_array,
    as_bytes,
    header_fields,
    stamp_ns_of,
)
from av_grounding.types import AudioChunk

# numpy's letters for GStreamer's kinds of samples and orders of octets.
_KINDS = {"S": "i", "U": "u", "F": "f"}
_ORDERS = {"LE": "<", "BE": ">"}
_RAW_CODINGS = {"", "wave", "wav", "raw", "pcm"}
# PortAudio's sample formats, which mgonzs13's AudioInfo names, and the field each one fills.
_PORTAUDIO = {
    1: ("float32_data", np.float32),
    2: ("int32_data", np.int32),
    8: ("int16_data", np.int16),
    16: ("int8_data", np.int8),
    32: ("uint8_data", np.uint8),
}
_FOXGLOVE_FORMATS = {"pcm-s16": "S16LE"}
# audio_utils' names. Its padded 24 bits and the unsigned ones beyond 8 are not read.
_AUDIO_UTILS_FORMATS = {
    "signed_8": "S8",
    "signed_16": "S16LE",
    "signed_24": "S24LE",
    "signed_32": "S32LE",
    "unsigned_8": "U8",
    "float": "F32LE",
    "double": "F64LE",
}


@dataclass(frozen=True)
class AudioLayout:
    """How samples lie in a message that carries octets alone."""

    sample_rate_hz: int = 16_000
    num_channels: int = 1
    sample_format: str = "S16LE"

    def __post_init__(self) -> None:
        try:
            check_sample_rate(self.sample_rate_hz)
        except ValueError as error:
            raise MalformedMessage("rate", str(error)) from error
        if not 1 <= self.num_channels <= MAX_CHANNELS:
            raise MalformedMessage(
                "channels", f"{self.num_channels} channels: expected 1 to {MAX_CHANNELS}"
            )
        if self.sample_format not in SAMPLE_FORMATS:
            raise MalformedMessage(
                "encoding",
                f"sample format {brief(self.sample_format)}: expected one of "
                f"{', '.join(SAMPLE_FORMATS)}",
            )

    @classmethod
    def of(cls, settings: AudioSettings) -> AudioLayout | None:
        """Of samples that come without AudioInfo, or None where that is awaited."""
        if not settings.sample_rate:
            return None
        return cls(settings.sample_rate, settings.channels, settings.sample_format)


def decode_audio_info(message: Any) -> AudioLayout:
    """ros-drivers' audio_common_msgs/AudioInfo; MalformedMessage for compressed sound."""
    coding = str(message.coding_format)
    if coding.lower() not in _RAW_CODINGS:
        raise MalformedMessage(
            "coding",
            f"audio coded as {brief(coding)}: expected raw samples; start the driver with "
            "format:=wave (audio_capture's default is mp3)",
        )
    return AudioLayout(
        int(message.sample_rate), int(message.channels), str(message.sample_format).upper()
    )


def decode_audio(
    message: Any,
    layout: AudioLayout | None = None,
    *,
    received_ns: int | None = None,
    stamp_reference: StampReference = "auto",
) -> AudioChunk:
    """Any of the known audio messages as a chunk stamped with its first sample's time.

    Known by their fields: audio_common_msgs/AudioDataStamped and AudioData (ros-drivers),
    audio_common_msgs/AudioStamped (mgonzs13), foxglove_msgs/RawAudio, audio_utils_msgs/AudioFrame,
    naoqi_bridge_msgs/AudioBuffer; the last two are stamped at their end by their drivers. The
    first two need `layout`, from `decode_audio_info` or from parameters. AudioData has no stamp:
    it is refused unless `received_ns`, the time at which it came, is given, which then counts as
    its end. Raises MalformedMessage.
    """
    if hasattr(message, "timestamp"):
        samples, rate_hz = _foxglove(message)
        stamp_ns = stamp_ns_of(message.timestamp)
    elif hasattr(message, "frame_sample_count") or hasattr(message, "channel_map"):
        samples, rate_hz = _audio_utils(message) if hasattr(message, "format") else _naoqi(message)
        stamp_ns = stamp_ns_of(message.header.stamp)
        stamp_reference = "end" if stamp_reference == "auto" else stamp_reference
    elif hasattr(message, "header"):
        stamp_ns = stamp_ns_of(message.header.stamp)
        is_portaudio = hasattr(message.audio, "audio_data")
        samples, rate_hz = (
            _portaudio(message.audio) if is_portaudio else _octets(message.audio.data, layout)
        )
    elif hasattr(message, "data"):
        if received_ns is None:
            raise MalformedMessage(
                "unstamped",
                "AudioData carries no stamp: expected AudioDataStamped; publish that, or allow "
                "the arrival time instead with audio.allow_unstamped",
            )
        samples, rate_hz = _octets(message.data, layout)
        stamp_ns, stamp_reference = received_ns, "end"
    else:
        raise MalformedMessage(
            "type",
            f"{type(message).__name__} is no known audio message: expected AudioDataStamped, "
            "AudioData, AudioStamped, RawAudio, AudioFrame or AudioBuffer",
        )
    if stamp_reference == "end":
        stamp_ns = max(0, stamp_ns - samples_to_ns(len(samples), rate_hz))
    return AudioChunk(samples, stamp_ns, rate_hz)


def _octets(data: Any, layout: AudioLayout | None) -> tuple[np.ndarray, int]:
    if layout is None:
        raise MalformedMessage(
            "layout",
            "no AudioInfo came yet: sample rate, channels and format are unknown; publish "
            "AudioInfo or set audio.sample_rate, audio.channels and audio.sample_format",
        )
    octets = as_bytes(data)
    if (coding := coding_of(octets)) is not None:
        raise MalformedMessage(
            "coding",
            f"audio data is {coding}: expected raw samples; start the driver with format:=wave "
            "(audio_capture's default is mp3)",
        )
    kind, bits = layout.sample_format[0], layout.sample_format[1:].rstrip("LBE")
    width = int(bits) // 8
    dtype = f"{_ORDERS.get(layout.sample_format[-2:], '')}{_KINDS[kind]}{width}"
    if octets.size == 0 or octets.size % (width * layout.num_channels):
        raise MalformedMessage(
            "truncated",
            f"{octets.size} bytes of audio: expected whole frames of {layout.num_channels} x "
            f"{width} bytes; does AudioInfo belong to this topic?",
        )
    if not octets.flags.c_contiguous:
        octets = np.ascontiguousarray(octets)
    samples = _packed_24(octets, dtype) if width == 3 else octets.view(dtype)
    if not samples.dtype.isnative:
        samples = samples.astype(samples.dtype.newbyteorder("="))
    return _by_channel(samples, layout.num_channels), layout.sample_rate_hz


def _packed_24(octets: np.ndarray, dtype: str) -> np.ndarray:
    """3-octet samples as int32 of the same value relative to full range."""
    wide = np.zeros((octets.size // 3, 4), np.uint8)
    if dtype.startswith("<"):
        wide[:, 1:] = octets.reshape(-1, 3)
        return wide.view("<i4").ravel()
    wide[:, :3] = octets.reshape(-1, 3)
    return wide.view(">i4").ravel()


def _by_channel(samples: np.ndarray, num_channels: int) -> np.ndarray:
    return samples if num_channels == 1 else samples.reshape(-1, num_channels)


def _portaudio(audio: Any) -> tuple[np.ndarray, int]:
    info, data = audio.info, audio.audio_data
    layout = AudioLayout(int(info.rate), int(info.channels))
    if int(info.format) not in _PORTAUDIO:
        raise MalformedMessage(
            "encoding",
            f"PortAudio format {int(info.format)}: expected one of {sorted(_PORTAUDIO)}",
        )
    name, dtype = _PORTAUDIO[int(info.format)]
    samples = np.asarray(getattr(data, name))
    if samples.dtype != dtype:
        samples = samples.astype(dtype)
    if samples.size == 0 or samples.size % layout.num_channels:
        raise MalformedMessage(
            "truncated",
            f"{samples.size} samples in {name}: expected whole frames of {layout.num_channels} "
            "channels there, as info says",
        )
    return _by_channel(samples.ravel(), layout.num_channels), layout.sample_rate_hz


def _foxglove(message: Any) -> tuple[np.ndarray, int]:
    name = str(message.format)
    if name not in _FOXGLOVE_FORMATS:
        raise MalformedMessage("encoding", f"RawAudio format {brief(name)}: expected pcm-s16")
    layout = AudioLayout(
        int(message.sample_rate), int(message.number_of_channels), _FOXGLOVE_FORMATS[name]
    )
    return _octets(message.data, layout)


def _audio_utils(message: Any) -> tuple[np.ndarray, int]:
    name = str(message.format)
    if name not in _AUDIO_UTILS_FORMATS:
        raise MalformedMessage(
            "encoding",
            f"AudioFrame format {brief(name)}: expected one of {', '.join(_AUDIO_UTILS_FORMATS)}",
        )
    rate_hz, num_channels = int(message.sampling_frequency), int(message.channel_count)
    return _octets(message.data, AudioLayout(rate_hz, num_channels, _AUDIO_UTILS_FORMATS[name]))


def _naoqi(message: Any) -> tuple[np.ndarray, int]:
    layout = AudioLayout(int(message.frequency), len(message.channel_map))
    samples = np.asarray(message.data, np.int16)
    if samples.size == 0 or samples.size % layout.num_channels:
        raise MalformedMessage(
            "truncated",
            f"{samples.size} samples of audio: expected whole frames of the "
            f"{layout.num_channels} channels of channel_map",
        )
    return _by_channel(samples, layout.num_channels), layout.sample_rate_hz


def audio_info_fields(chunk: AudioChunk) -> Fields:
    """What `audio_fields` of such a chunk holds, as ros-drivers' AudioInfo."""
    num_channels = 1 if chunk.samples.ndim == 1 else chunk.samples.shape[1]
    return Fields(
        "audio_common_msgs/msg/AudioInfo",
        channels=num_channels,
        sample_rate=chunk.sample_rate_hz,
        sample_format="S16LE",
        bitrate=16 * num_channels * chunk.sample_rate_hz,
        coding_format="wave",
    )


def audio_fields(chunk: AudioChunk, frame_id: str = "microphone") -> Fields:
    """A chunk as ros-drivers' AudioDataStamped: 16 bits, interleaved, stamped at its start."""
    samples = chunk.samples
    if samples.dtype != np.int16:
        scaled = np.rint(np.nan_to_num(to_float32(samples)).astype(np.float64) * 32768.0)
        samples = np.clip(scaled, -32768, 32767)
    data = as_array(samples.astype("<i2"))
    return Fields(
        "audio_common_msgs/msg/AudioDataStamped",
        header=header_fields(chunk.stamp_ns, frame_id),
        audio=Fields("audio_common_msgs/msg/AudioData", data=data),
    )
