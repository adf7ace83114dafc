"""What a rosbag2 may contain: structures that recorders write, and no more data than they state.

The readers of both formats trust the file: a view may compute rows for ever, a compressed chunk
may grow a thousandfold, and an index may name one chunk a million times.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from pathlib import Path

from av_grounding.files import parse_yaml, read_text

MAX_CHUNK_BYTES = 1 << 29
"""Of one MCAP record or chunk when unpacked: the largest raw image is 0.4 GB."""
MAX_METADATA_BYTES = 1 << 19
"""Of metadata.yaml: a thousand topics, or several thousand files."""
MAX_METADATA_DEPTH = 20
MCAP_MAGIC = b"\x89MCAP0\r\n"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
FOOTER_BYTES = 37
OPCODE_CHUNK_INDEX = 0x08
_TABLES = ("messages", "topics")


def inflate(data: bytes | memoryview, compression: str, size: int) -> bytes:
    """Compressed data of exactly `size` bytes; ValueError, before there are more, for others."""
    if size > MAX_CHUNK_BYTES:
        raise ValueError(f"{size} bytes in one piece: expected at most {MAX_CHUNK_BYTES}")
    found = inflate_at_most(data, compression, size)
    if len(found) != size:
        raise ValueError(f"compressed data is not the {size} bytes that it states")
    return found


def inflate_at_most(data: bytes | memoryview, compression: str, limit: int) -> bytes:
    """The first `limit` + 1 bytes of compressed data; ValueError where it is damaged."""
    if compression == "":
        return bytes(data[: limit + 1])
    if compression == "zstd":
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as file:
                return file.read(limit + 1)
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged zstd data ({error})") from None
    if compression == "lz4":
        import lz4.frame

        try:
            return lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=limit + 1)
        except (RuntimeError, EOFError) as error:
            raise ValueError(f"damaged lz4 data ({error})") from None
    raise ValueError(f"compression {compression[:20]!r}: expected zstd or lz4")


def inflate_message(data: bytes | memoryview) -> bytes | memoryview:
    """A message as it was before it was compressed by itself, if it was.

    Only metadata.yaml says that it was; but no serialised message begins as zstd does. The
    compressed one states no size.
    """
    if bytes(data[:4]) != ZSTD_MAGIC:
        return data
    found = inflate_at_most(data, "zstd", MAX_CHUNK_BYTES)
    if len(found) > MAX_CHUNK_BYTES:
        raise ValueError(f"a message of over {MAX_CHUNK_BYTES} bytes")
    return found


class Unpacked:
    """Storage files that were compressed as a whole, unpacked into a folder of its own."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[Path, Path] = {}

    def file(self, path: Path) -> Path:
        """The unpacked file, as far as it goes; ValueError before it would fill the disk."""
        if path in self._files:
            return self._files[path]
        import zstandard

        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="av_grounding-")
        target = Path(self._folder.name, path.stem)
        room = shutil.disk_usage(self._folder.name).free // 2
        with open(path, "rb") as packed, open(target, "wb") as file:
            reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
            try:
                while piece := reader.read(1 << 20):
                    if file.tell() + len(piece) > room:
                        raise ValueError(
                            f"{path.name} unpacks to more than half of the free space in "
                            f"{self._folder.name}: set TMPDIR to a larger disk"
                        )
                    file.write(piece)
            except zstandard.ZstdError:
                pass  # damaged: what there is says so itself
        if target.suffix == ".db3":
            _drop_part_of_a_page(target)
        self._files[path] = target
        return target


def _drop_part_of_a_page(path: Path) -> None:
    """Cut a database to whole pages: SQLite takes zeros for what a page lacks, without a word."""
    with open(path, "r+b") as file:
        page_bytes = int.from_bytes(file.read(18)[16:], "big")
        size = path.stat().st_size
        if page_bytes and size % page_bytes:
            file.truncate(size - size % page_bytes)


def bound_rosbags() -> None:
    """Have rosbags unpack no chunk beyond what it states; it would look at the size afterwards."""
    from rosbags.rosbag2 import storage_mcap

    storage_mcap.DECOMPRESSORS.update(
        lz4=lambda data, size: inflate(data, "lz4", size),
        zstd=lambda data, size: inflate(data, "zstd", size),
    )


def check_bag(path: Path, files: list[Path]) -> None:
    """ValueError for a bag that rosbags should not read as a whole."""
    if (path / "metadata.yaml").is_file():
        parse_yaml(read_text(path / "metadata.yaml", MAX_METADATA_BYTES), MAX_METADATA_DEPTH)
    for file in files:
        if file.suffix == ".mcap":
            check_mcap(file)
        else:
            check_database(file)


def check_write_ahead(files: list[Path]) -> None:
    """ValueError where a database has messages in its log, which rosbags would not see."""
    for file in files:
        log = file.with_name(f"{file.name}-wal")
        if file.suffix == ".db3" and log.is_file() and log.stat().st_size:
            raise ValueError(f"{log.name} was never merged (the recorder was killed?)")


def check_mcap(path: Path) -> None:
    """ValueError unless the index names every chunk once, and each within limits."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size < len(MCAP_MAGIC) + FOOTER_BYTES:
            raise ValueError("too short for an MCAP file")
        file.seek(size - FOOTER_BYTES)
        footer = file.read(FOOTER_BYTES)
        (at,) = struct.unpack_from("<Q", footer, 9)
        if not footer.endswith(MCAP_MAGIC) or at == 0:
            return
        chunks: set[int] = set()
        while at + 9 <= size - FOOTER_BYTES:
            file.seek(at)
            opcode, length = struct.unpack("<BQ", file.read(9))
            if length > size - at:
                raise ValueError("an index that goes beyond the file")
            if opcode == OPCODE_CHUNK_INDEX:
                _check_chunk(file.read(length), chunks, size)
            at += 9 + length


def _check_chunk(index: bytes, chunks: set[int], size: int) -> None:
    try:
        start, length = struct.unpack_from("<QQ", index, 16)
        (offsets_bytes,) = struct.unpack_from("<I", index, 32)
        name_at = 36 + offsets_bytes + 8
        (name_bytes,) = struct.unpack_from("<I", index, name_at)
        _, num_unpacked = struct.unpack_from("<QQ", index, name_at + 4 + name_bytes)
    except struct.error:
        raise ValueError("a chunk index that is cut short") from None
    if start in chunks or start + length > size or num_unpacked > MAX_CHUNK_BYTES:
        raise ValueError("an index of chunks that overlap, are not there or are too large")
    chunks.add(start)


def check_database(path: Path) -> None:
    """ValueError where tables of a bag are computed instead of stored.

    What cannot be read at all is left to those who read it.
    """
    database = connect(path)
    try:
        kinds = database.execute(
            "SELECT name, type, sql FROM sqlite_master WHERE name IN ('messages', 'topics')"
        ).fetchall()
        for name, kind, sql in kinds:
            if kind != "table" or "virtual" in str(sql).lower().split()[:3]:
                raise ValueError(f"{name} is a {kind} that is computed: not a bag's database")
        for table in _TABLES:
            columns = database.execute(f"PRAGMA table_xinfo({table})").fetchall()
            if any(column[-1] for column in columns):
                raise ValueError(f"{table} has columns that are computed: not a bag's database")
    except sqlite3.Error:
        return
    finally:
        database.close()


def connect(path: Path) -> sqlite3.Connection:
    """Read-only, and able to read a file that is shorter than its header says."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    # Or SQLite refuses every file that is shorter than its header says.
    database.execute("PRAGMA writable_schema=ON")
    database.execute("PRAGMA trusted_schema=OFF")
    return database
