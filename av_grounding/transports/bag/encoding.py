"""Pictures and sound as messages from which they come back exactly as they were."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Literal

import numpy as np

from av_grounding.audio import to_float32
from av_grounding.transports import messages
from av_grounding.transports.messages import Fields
from av_grounding.types import AudioChunk, Frame

MAX_ENCODING_SHARE = 0.4
"""Share of one core that making PNG of the pictures may take."""
PORTAUDIO_FORMATS = {"float32": 1, "int32": 2, "int16": 8, "int8": 16, "uint8": 32}
PictureFormat = Literal["auto", "png", "raw"]


def exact_audio_fields(chunk: AudioChunk, frame_id: str = "microphone") -> Fields:
    """A chunk as mgonzs13's AudioStamped, which alone keeps samples of any kind as they are."""
    samples = chunk.samples
    if samples.dtype.name not in PORTAUDIO_FORMATS:
        samples = to_float32(samples)  # what the stream itself makes of them
    name = samples.dtype.name
    # As array.array, which rclpy and rosbags both take.
    values = {
        f"{kind}_data": array(np.dtype(kind).char, samples.tobytes() if kind == name else b"")
        for kind in PORTAUDIO_FORMATS
    }
    num_channels = 1 if samples.ndim == 1 else samples.shape[1]
    package = "audio_common_msgs/msg"
    return Fields(
        f"{package}/AudioStamped",
        header=messages.header_fields(chunk.stamp_ns, frame_id),
        audio=Fields(
            f"{package}/Audio",
            audio_data=Fields(f"{package}/AudioData", **values),
            info=Fields(
                f"{package}/AudioInfo",
                format=PORTAUDIO_FORMATS[name],
                channels=num_channels,
                rate=chunk.sample_rate_hz,
                chunk=len(samples),
            ),
        ),
    )


def exact_image_fields(frame: Frame, pictures: PictureFormat) -> Fields:
    """A frame as CompressedImage in PNG or as a raw rgb8 Image."""
    stamp = (frame.stamp_ns, frame.frame_id)
    if pictures != "png":
        return messages.image_fields(frame.image, "rgb8", *stamp)
    return Fields(
        "sensor_msgs/msg/CompressedImage",
        header=messages.header_fields(*stamp),
        format="rgb8; png compressed bgr8",
        data=_png(frame.image),
    )


def choose_format(
    image: np.ndarray, frame_rate_hz: float, clock_s: Callable[[], float] = time.thread_time
) -> PictureFormat:
    """PNG where it is smaller than raw and leaves most of a core free, or else raw."""
    begin_s = clock_s()
    num_bytes = len(_png(image))
    cost_s = clock_s() - begin_s
    is_quick = cost_s * frame_rate_hz <= MAX_ENCODING_SHARE
    return "png" if is_quick and num_bytes < 0.9 * image.nbytes else "raw"


def _png(image: np.ndarray) -> np.ndarray:
    import cv2

    # Run lengths only: about half of raw for a camera, at a fraction of OpenCV's best search.
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    is_coded, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_STRATEGY, 3])
    assert is_coded
    return data
