"""The size of a JPEG or PNG from its bytes, before anything is decoded."""

from __future__ import annotations

import numpy as np

from av_grounding.transports.messages_fields import MalformedMessage

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers but DHT, JPG and DAC, which lie between them.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def coded_size(data: np.ndarray) -> tuple[int, int]:
    """(height, width) of a complete JPEG or PNG file; MalformedMessage for any other bytes."""
    start = data[:64].tobytes()
    if start.startswith(PNG_SIGNATURE):
        if data.size < 33 or not _ends_with(data, b"IEND"):
            raise MalformedMessage("truncated", f"PNG of {data.size} bytes has no end: cut off")
        return int.from_bytes(start[20:24], "big"), int.from_bytes(start[16:20], "big")
    if start.startswith(b"\xff\xd8"):
        if not _ends_with(data, b"\xff\xd9"):
            raise MalformedMessage("truncated", f"JPEG of {data.size} bytes has no end: cut off")
        return _jpeg_size(data)
    raise MalformedMessage(
        "encoding", f"{data.size} bytes of compressed image: expected JPEG or PNG"
    )


def _ends_with(data: np.ndarray, marker: bytes) -> bool:
    """Whether the marker lies at the end, but for zeros (drivers pad) and a checksum."""
    return marker in data.tobytes().rstrip(b"\0")[-64:]


def _jpeg_size(data: np.ndarray) -> tuple[int, int]:
    """Walk the segments up to the frame header."""
    at = 2
    while at + 9 <= data.size:
        if data[at] != 0xFF:
            break
        marker = int(data[at + 1])
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = data[at + 5 : at + 9].view(">u2")
            return int(height), int(width)
        else:
            at += 2 + int(data[at + 2]) * 256 + int(data[at + 3])
    raise MalformedMessage("damaged", f"JPEG of {data.size} bytes has no frame header")
