"""Pictures and sounds of the everyday world, decoded from the bytes that a package holds."""

from __future__ import annotations

import io

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.audio import resample
from av_grounding.files import one_line
from av_grounding.synthetic.acoustics import SAMPLE_RATE_HZ, active_spans, normalize_level

SILENCE_DBFS = -60.0
_FLOOR_DB = -40.0


def decode_picture(data: bytes, name: str) -> UInt8[np.ndarray, "H W 4"]:
    """A picture as RGBA; one without transparency is opaque everywhere."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8:
        raise ValueError(f"{name}: no picture of 8 bits a channel: install its package again")
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGBA)
    return cv2.cvtColor(image, {3: cv2.COLOR_BGR2RGBA, 4: cv2.COLOR_BGRA2RGBA}[image.shape[2]])


def decode_sound(data: bytes, name: str) -> Float32[np.ndarray, " s"]:
    """A recording as mono at 16 kHz, at an active level of -20 dBFS, without silence around it.

    Raises ValueError for what holds no sound, as silence does.
    """
    import av

    blocks: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.audio[0]
            rate_hz = stream.rate
            mono = av.AudioResampler("flt", "mono", rate_hz)
            for frame in [*container.decode(stream), None]:
                blocks += [block.to_ndarray()[0] for block in mono.resample(frame)]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{name}: no sound can be read ({one_line(error)})") from None
    waveform = np.concatenate([np.zeros(0, np.float32), *blocks])
    if not len(waveform) or np.abs(waveform).max() < 10 ** (SILENCE_DBFS / 20):
        raise ValueError(f"{name}: is silent: expected a recording of something")
    waveform = resample(waveform, rate_hz, SAMPLE_RATE_HZ)
    start, stop = active_spans(waveform, _FLOOR_DB)
    return normalize_level(waveform[start:stop])
