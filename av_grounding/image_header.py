"""The size of a JPEG or PNG from its bytes, and whether to decode them at all.

Decoders take memory and time for what a header claims before they look whether it is there: a
PNG of 1 kB can cost OpenCV 3 GB. So the chunks and segments are walked through first.
"""

from __future__ import annotations

import os
import struct

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8"
MAX_SIDE_PX = 32_768
MAX_CODED_PX = 1 << 25
"""34 megapixels, which is 8K video: what a stream may hold, decoded within a second."""
ALWAYS_FINE_PX = 1 << 21
MAX_PX_PER_BYTE = 1100
"""Deflate writes at best one byte for 1,032; JPEG at best one for 512 pixels."""
MAX_SEGMENTS = 4096
MAX_CHUNKS = 1 << 16
# Start-of-frame markers but DHT, JPG and DAC, which lie between them.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
MAX_OPENCV_PX = 1 << 27
"""134 megapixels, for all formats: beyond any camera, and 0.4 GB when decoded."""


class CodedPictureError(ValueError):
    """Bytes that are no picture to decode; `kind` is a short word to count it by."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def limit_opencv() -> None:
    """Have OpenCV refuse pictures beyond `MAX_OPENCV_PX`; before it is first imported."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_OPENCV_PX))


def coded_size(data: bytes | memoryview, max_px: int = MAX_CODED_PX) -> tuple[int, int]:
    """(height, width) of a complete JPEG or PNG; CodedPictureError for any other bytes."""
    data = memoryview(data)
    if bytes(data[:8]) == PNG_SIGNATURE:
        size = _png_size(data)
    elif bytes(data[:2]) == JPEG_SIGNATURE:
        size = _jpeg_size(data)
    else:
        raise CodedPictureError("encoding", f"{len(data)} bytes: expected JPEG or PNG")
    _check_size(*size, len(data), max_px)
    return size


def check_if_known(data: bytes | memoryview, name: object) -> None:
    """ValueError for a JPEG or PNG that is not to be decoded; other formats pass."""
    start = bytes(data[:8])
    if start != PNG_SIGNATURE and not start.startswith(JPEG_SIGNATURE):
        return
    try:
        coded_size(data, MAX_OPENCV_PX)
    except CodedPictureError as error:
        raise ValueError(f"{name}: {error}; expected a whole picture: save it again") from None


def _check_size(height: int, width: int, num_bytes: int, max_px: int) -> None:
    is_sane = 0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX
    if not is_sane or height * width > max_px:
        raise CodedPictureError(
            "size",
            f"coded image of {width}x{height} pixels: expected 1 to {MAX_SIDE_PX} a side and at "
            f"most {max_px} in all",
        )
    if height * width > max(ALWAYS_FINE_PX, MAX_PX_PER_BYTE * num_bytes):
        raise CodedPictureError(
            "size",
            f"coded image of {width}x{height} pixels in {num_bytes} bytes: cut off, or a trap",
        )


def _png_size(data: memoryview) -> tuple[int, int]:
    """Walk through all chunks: OpenCV takes the memory that one claims, whether it is there."""
    if len(data) < 33 or bytes(data[12:16]) != b"IHDR":
        raise CodedPictureError("truncated", f"PNG of {len(data)} bytes has no header: cut off")
    at, num_chunks = len(PNG_SIGNATURE), 0
    while at + 12 <= len(data) and num_chunks < MAX_CHUNKS:
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND" and length == 0:
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        if kind in _ANIMATION:
            raise CodedPictureError("encoding", "an animated PNG: expected a still one")
        if (num_chunks == 0 and length != 13) or (num_chunks > 0 and kind == b"IHDR"):
            raise CodedPictureError("damaged", "PNG whose header is damaged")
        at += 12 + length
        num_chunks += 1
    raise CodedPictureError("truncated", f"PNG of {len(data)} bytes has no end: cut off")


def _jpeg_size(data: memoryview) -> tuple[int, int]:
    """Walk through the segments up to the frame header; the end must be there too."""
    if b"\xff\xd9" not in _end(data):
        raise CodedPictureError("truncated", f"JPEG of {len(data)} bytes has no end: cut off")
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 9 > len(data) or data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        elif marker < 0xC0:  # decoders look for a marker inside of what is skipped here
            break
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise CodedPictureError("damaged", f"JPEG of {len(data)} bytes has no frame header")


def _end(data: memoryview, block: int = 4096) -> bytes:
    """The last bytes but for zeros, with which drivers pad, and room for a checksum."""
    stop = len(data)
    while stop > 0:
        found = bytes(data[max(0, stop - block) : stop]).rstrip(b"\0")
        if found:
            stop = max(0, stop - block) + len(found)
            return bytes(data[max(0, stop - 64) : stop])
        stop -= block
    return b""
