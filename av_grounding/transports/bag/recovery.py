"""Reading the storage files of a rosbag2 that was never closed, or lost a part."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from av_grounding.transports.bag.limits import (
    MAX_CHUNK_BYTES,
    MCAP_MAGIC,
    check_database,
    connect,
    inflate,
)

OPCODE_MESSAGE, OPCODE_CHUNK, OPCODE_DATA_END, OPCODE_FOOTER = 0x05, 0x06, 0x0F, 0x02
OPCODE_SCHEMA, OPCODE_CHANNEL = 0x03, 0x04


def is_text(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)


def is_message(log_ns: object, data: object) -> bool:
    """Whether values are a log time and bytes: SQLite's columns hold what they were given."""
    is_time = type(log_ns) is int and 0 <= log_ns < 1 << 63
    return is_time and isinstance(data, (bytes, memoryview))


class Recovery:
    """What can be read of one file, and in `fault` what is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: str | None = None
        self.topics: dict[str, tuple[str, int]] = {}
        """Name -> ROS type and number of readable messages."""
        self.definitions = ""
        self.start_ns, self.end_ns = 0, 0

    def messages(self, names: Collection[str] | None) -> Iterator[tuple[str, int, bytes]]:
        """(topic, log time, serialised message) in the order of the file; None: every topic."""
        raise NotImplementedError

    def survey(self) -> None:
        """Count what there is and note when it begins and ends."""
        for number, (topic, log_ns, _) in enumerate(self.messages(None)):
            type_name, num_messages = self.topics[topic]
            self.topics[topic] = (type_name, num_messages + 1)
            self.start_ns = min(self.start_ns, log_ns) if number else log_ns
            self.end_ns = max(self.end_ns, log_ns)


def open_file(path: Path) -> Recovery:
    """Look through a whole .mcap or .db3 file for what is readable; never raises for damage."""
    return McapSalvage(path) if path.suffix == ".mcap" else SqliteSalvage(path)


class McapSalvage(Recovery):
    """An MCAP file read from the front: chunks whose CRC is right, and messages outside of any."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._schemas: dict[int, Any] = {}
        self._channels: dict[int, Any] = {}
        self._num_damaged = 0
        self._is_complete = False
        self.survey()
        self.definitions = " ".join(
            s.data.decode(errors="replace") for s in self._schemas.values()
        )
        faults = []
        if not self._is_complete:
            faults.append("it was not closed (the program that wrote it was killed?)")
        if self._num_damaged:
            faults.append(f"{self._num_damaged} damaged parts were left out")
        self.fault = ", and ".join(faults) or None

    def messages(self, names: Collection[str] | None) -> Iterator[tuple[str, int, bytes]]:
        from mcap.records import Message

        with open(self.path, "rb") as file:
            for opcode, body in self._records(file):
                for record in self._contents(opcode, body):
                    channel = (
                        self._channels.get(record.channel_id)
                        if isinstance(record, Message)
                        else self._note(record)
                    )
                    if channel is None or not is_message(record.log_time, record.data):
                        continue
                    if channel.topic in (self.topics if names is None else names):
                        yield channel.topic, record.log_time, record.data

    def _records(self, file: Any) -> Iterator[tuple[int, bytes]]:
        """Whole records up to where the file ends, stops making sense or says that it is over."""
        self._is_complete = False
        size = os.fstat(file.fileno()).st_size
        if file.read(8) != MCAP_MAGIC:
            self._num_damaged = 1
            return
        while len(head := file.read(9)) == 9:
            opcode, length = struct.unpack("<BQ", head)
            # Space that was claimed and never written is zero.
            if opcode == 0 or length > min(MAX_CHUNK_BYTES, size):
                return
            if opcode in (OPCODE_DATA_END, OPCODE_FOOTER):
                self._is_complete = True
                return
            body = file.read(length)
            if len(body) < length:
                return
            yield opcode, body

    def _contents(self, opcode: int, body: bytes) -> list[Any]:
        """Messages in the order of their log times, after what describes them."""
        from mcap.data_stream import ReadDataStream
        from mcap.records import Channel, Chunk, Message, Schema
        from mcap.stream_reader import breakup_chunk

        try:
            stream = ReadDataStream(BytesIO(body))
            if opcode == OPCODE_CHUNK:
                chunk = Chunk.read(stream)
                content = inflate(chunk.data, chunk.compression, chunk.uncompressed_size)
                chunk = replace(chunk, compression="", data=content)
                records = breakup_chunk(chunk, validate_crc=True)
                others = [r for r in records if not isinstance(r, Message)]
                found = [r for r in records if isinstance(r, Message)]
                return others + sorted(found, key=lambda message: message.log_time)
            if opcode == OPCODE_MESSAGE:
                return [Message.read(stream, len(body))]
            if opcode == OPCODE_SCHEMA:
                return [Schema.read(stream)]
            return [Channel.read(stream)] if opcode == OPCODE_CHANNEL else []
        except Exception:  # whatever the decompressors and parsers make of damage
            self._num_damaged += 1
            return []

    def _note(self, record: Any) -> None:
        """Remember a schema or a channel."""
        from mcap.records import Schema

        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif record.id not in self._channels:
            self._channels[record.id] = record
            schema = self._schemas.get(record.schema_id)
            self.topics.setdefault(record.topic, (schema.name if schema else "unknown", 0))


class SqliteSalvage(Recovery):
    """A sqlite3 storage file, row by row until the database stops making sense."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            check_database(path)
            with closing(connect(self.path)) as database:
                rows = database.execute("SELECT name, type FROM topics").fetchall()
            self.topics = {
                name: (type_name, 0) for name, type_name in rows if is_text(name, type_name)
            }
        except (sqlite3.Error, ValueError) as error:
            self.fault = f"not a readable database ({error})"
            return
        self.survey()

    def messages(self, names: Collection[str] | None) -> Iterator[tuple[str, int, bytes]]:
        try:
            with closing(connect(self.path)) as database:
                topics = dict(database.execute("SELECT id, name FROM topics").fetchall())
                wanted = {
                    number: name
                    for number, name in topics.items()
                    if name in (self.topics if names is None else names)
                }
                # In the order of writing: an index may be what is damaged.
                query = "SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY rowid"
                for number, log_ns, data in database.execute(query):
                    if number in wanted and is_message(log_ns, data):
                        yield wanted[number], log_ns, data
        except sqlite3.Error as error:
            self.fault = f"the database ends early ({error})"
