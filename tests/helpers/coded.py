"""Pictures and sound as encoders make them, a packet each."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

FLAT = {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=error"}


def video_packets(images, codec="libx264", gop=5, options=FLAT):
    """One Annex B packet for each picture, key frames every `gop`."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = images[0].shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.gop_size = "yuv420p", Fraction(1, 10), gop
    encoder.options = options
    packets = []
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = number
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]


def mp3_packets(samples, rate_hz=16_000, bit_rate=64_000):
    """Bare MPEG frames of (s,) int16, as lamemp3enc gives them to audio_capture."""
    encoder = av.CodecContext.create("libmp3lame", "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate_hz, "mono", "s16p"
    encoder.bit_rate = bit_rate
    encoder.open()
    size, packets = encoder.frame_size, []
    for start in range(0, len(samples) - size + 1, size):
        block = np.ascontiguousarray(samples[None, start : start + size])
        frame = av.AudioFrame.from_ndarray(block, format="s16p", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, start
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in packets]


def grey(number, height=48, width=64):
    """A picture of one grey, another for each number up to 12."""
    return np.full((height, width, 3), 20 * number, np.uint8)
