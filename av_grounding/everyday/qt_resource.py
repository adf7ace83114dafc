"""Qt resource files (.rcc): the archives in which Qt programs ship their pictures and sounds.

The layout is that of Qt's own `rcc`: a header of offsets, a tree of nodes in one table, names in
UTF-16, and blobs, each plain or packed with zlib.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from av_grounding.files import one_line

MAGIC = b"qres"
VERSIONS = (1, 2, 3)
MAX_BYTES = 1 << 28
_PACKED_ZLIB, _FOLDER, _PACKED_ZSTD = 1, 2, 4


@dataclass(frozen=True)
class QtResource:
    """The files of one archive: `names`, and `read(name)` for what is in one.

    Raises ValueError for what is no such archive or is damaged, OSError where it cannot be read.
    """

    path: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._blobs))

    def read(self, name: str) -> bytes:
        """The content of a file; KeyError where the archive has none of this name."""
        if name not in self._blobs:
            raise KeyError(f"{self.path} has no {name!r}")
        flags, start, stop = self._blobs[name]
        blob = self._data[start:stop]
        if flags & _PACKED_ZSTD:
            raise ValueError(f"{self.path}: {name} is packed with zstd, which is not read")
        if not flags & _PACKED_ZLIB:
            return blob
        try:
            return _unpacked(blob)
        except (zlib.error, struct.error, ValueError) as error:
            raise ValueError(
                f"{self.path}: {name} is damaged ({error}): install it again"
            ) from None

    @cached_property
    def _data(self) -> bytes:
        with open(self.path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"{self.path}: over {MAX_BYTES} bytes, more than such a file needs")
        return data

    @cached_property
    def _blobs(self) -> dict[str, tuple[int, int, int]]:
        """Name -> flags, first byte, byte behind the last."""
        try:
            return _index(self._data)
        except (struct.error, UnicodeDecodeError, ValueError) as error:
            raise ValueError(
                f"{self.path}: no Qt resource file ({one_line(error)}): install it again"
            ) from None


def _index(data: bytes) -> dict[str, tuple[int, int, int]]:
    magic, version, tree, blobs, names = struct.unpack_from(">4s4I", data)
    if magic != MAGIC or version not in VERSIONS:
        raise ValueError(f"got {magic!r} version {version}, expected {MAGIC!r} version 1 to 3")
    node_size = 14 if version == 1 else 22  # later versions know when a file was changed
    found: dict[str, tuple[int, int, int]] = {}
    seen: set[int] = set()
    waiting = [(0, "")]
    while waiting:
        number, above = waiting.pop()
        if number in seen:
            raise ValueError("a folder holds itself")
        seen.add(number)
        node = tree + number * node_size
        name_at, flags = struct.unpack_from(">IH", data, node)
        name = above
        if number:
            (length,) = struct.unpack_from(">H", data, names + name_at)
            start = names + name_at + 6  # behind length and hash
            name = f"{above}/{data[start : start + 2 * length].decode('utf-16-be')}".lstrip("/")
        if flags & _FOLDER:
            count, first = struct.unpack_from(">2I", data, node + 6)
            if count > len(data) // node_size:
                raise ValueError(f"a folder of {count} entries, more than the file can hold")
            waiting += [(child, name) for child in range(first, first + count)]
        else:
            (blob_at,) = struct.unpack_from(">I", data, node + 10)
            (size,) = struct.unpack_from(">I", data, blobs + blob_at)
            start = blobs + blob_at + 4
            if start + size > len(data):
                raise ValueError(f"{one_line(name, 80)} is cut off")
            found[name] = (flags, start, start + size)
    return found


def _unpacked(blob: bytes) -> bytes:
    """What `qCompress` packed: the size, then a zlib stream."""
    (size,) = struct.unpack_from(">I", blob)
    if size > MAX_BYTES:
        raise ValueError(f"{size} bytes, more than such a file needs")
    content = zlib.decompressobj().decompress(blob[4:], size)
    if len(content) != size:
        raise ValueError(f"{len(content)} of {size} bytes")
    return content
