"""Small data sets in the layouts of the real ones, with files that really decode."""

from __future__ import annotations

import csv
import json
import struct
import wave
import zlib
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 120, 160
RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)


def picture(path: Path, color=RED, size=(HEIGHT, WIDTH)) -> Path:
    """A picture of one colour, JPEG or PNG by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), color[::-1], np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def label(path: Path, pixels: np.ndarray) -> Path:
    """A label picture as it stands: (H, W), or (H, W, 3) as red, green, blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[..., ::-1])
    return path


def palette(path: Path, indices: np.ndarray) -> Path:
    """A PNG with a palette in which no colour equals its index, which OpenCV cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    colors = b"".join(bytes((255 - n, 9, n)) for n in range(256))
    lines = b"".join(b"\0" + line.tobytes() for line in indices.astype(np.uint8))
    header = struct.pack(">IIBBBBB", indices.shape[1], indices.shape[0], 8, 3, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", colors)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    return path


def tone(path: Path, hz: float, duration_s=1.0, rate_hz=16_000, peak=0.4) -> Path:
    """A sine in a 16-bit wav."""
    times = np.arange(round(duration_s * rate_hz)) / rate_hz
    return sound(path, peak * np.sin(2 * np.pi * hz * times), rate_hz)


def sound(path: Path, samples: np.ndarray, rate_hz=16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def rows(path: Path, *lines: tuple) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return path


def objects(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def frequency(clip) -> float:
    """The strongest frequency of a clip in Hz."""
    mono = clip.waveform.reshape(len(clip.waveform), -1).mean(axis=1)
    spectrum = np.abs(np.fft.rfft(mono))
    return float(spectrum.argmax() * clip.sample_rate_hz / len(mono))


def kinds(benchmark) -> list[tuple[str, str]]:
    """Kind and sample of every problem."""
    return [(problem.kind, problem.sample_id) for problem in benchmark.problems]


def region(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask that is one filled rectangle of ones."""
    y, x = np.nonzero(mask)
    box = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
    assert (mask[box[1] : box[3], box[0] : box[2]] == 1).all()
    assert mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
    return box
