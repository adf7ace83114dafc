"""What goes over the page's WebSocket: packets to the browser, short JSON messages from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

PROTOCOL = 3
MAX_CLIENT_MESSAGE_BYTES = 512
MAX_TOKEN_CHARACTERS = 256
_FIELDS: dict[str, dict[str, type]] = {
    "hello": {"protocol": int, "token": str},
    "ack": {},
    "pause": {},
    "resume": {},
    "listen": {"x": float, "y": float},
    "mute": {},
}


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """A checked message: `hello` opens, `ack` allows the next packet, `pause` stops frames.

    `listen` asks for the sound of a point, x and y as shares of the picture, or without them of
    the heatmap's peak; `mute` ends it.
    """

    type: Literal["hello", "ack", "pause", "resume", "listen", "mute"]
    protocol: int = PROTOCOL
    token: str = ""
    x: float | None = None
    y: float | None = None


def parse_client_message(text: str) -> ClientMessage:
    """Check what a client sent; ValueError, in a few words, for whatever is not a message."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_CLIENT_MESSAGE_BYTES:
        raise ValueError(f"message over {MAX_CLIENT_MESSAGE_BYTES} bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("message is not JSON") from None
    if not isinstance(message, dict):
        raise ValueError("message is not a JSON object")
    kind = message.pop("type", None)
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise ValueError(f"message type is not one of {', '.join(_FIELDS)}")
    expected = _FIELDS[kind]
    if message.keys() - expected.keys():
        raise ValueError(f"unknown field in {kind}")
    for name, value in message.items():
        # A bool is an int to Python and not to the protocol; 0 and 1 are written without a point.
        is_whole = expected[name] is float and type(value) is int
        if type(value) is not expected[name] and not is_whole:
            raise ValueError(f"{name} of {kind} is not {expected[name].__name__}")
    if len(message.get("token", "")) > MAX_TOKEN_CHARACTERS:
        raise ValueError("token is too long")
    if kind == "hello" and "protocol" not in message:
        raise ValueError("hello lacks the protocol")
    if kind == "listen" and message:
        if message.keys() != {"x", "y"}:
            raise ValueError("listen has one of x and y: expected both or none")
        if not all(0.0 <= share < 1.0 for share in message.values()):  # NaN is not either
            raise ValueError("x or y of listen lies off the picture")
    return ClientMessage(kind, **message)


def pack(header: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """A packet: length of the header (u32, little-endian), header (JSON), then the blobs.

    The header tells the blobs' sizes; its numbers must be finite (see `plain`).
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return b"".join((len(text).to_bytes(4, "little"), text, *blobs))


def unpack(packet: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a packet and all that follows it, for clients in Python."""
    size = int.from_bytes(packet[:4], "little")
    return json.loads(packet[4 : 4 + size]), packet[4 + size :]


def plain(value: Any) -> Any:
    """The value as strict JSON has it: numbers, text, lists and objects; NaN and Inf as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
