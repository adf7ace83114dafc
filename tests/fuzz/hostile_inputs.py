"""Hostile inputs by name: each a target of `fuzz_targets`, bytes, and how many are honest."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tests.fuzz import fuzz_seeds


def png(width, height, *chunks):
    """A PNG whose header and further chunks are given, each with a right checksum."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), *chunks, (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    return data


def jpeg(height, width, *, progressive=False):
    """A small JPEG that claims another size."""
    import cv2

    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1] if progressive else []
    data = bytearray(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), options)[1].tobytes())
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def png_chunk_of_gigabytes():
    data = png(16, 12)
    at = data.index(b"IEND") - 4
    return "picture-message", data[:at] + b"\x7f\xff\xff\xf0IDAT" + data[at:], 16 * 12 * 3


def jpeg_of_gigapixels():
    return "picture-message", jpeg(65500, 65500), 1000


def jpeg_trap_behind_a_stuffed_marker():
    small = jpeg(64, 64)
    at = small.index(b"\xff\xdb")
    hidden = b"\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    trap = b"\xff\x00" + (len(hidden) + 2).to_bytes(2, "big") + hidden
    return "picture-message", small[:at] + trap + small[at:], 64 * 64 * 3


def jpeg_of_8k_pixels():
    """An honest one: what it costs is the measure."""
    import cv2

    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (432, 768, 3), np.uint8)
    image = cv2.resize(small, (7680, 4320))
    return "picture-message", cv2.imencode(".jpg", image)[1].tobytes(), image.nbytes


def bmp_of_gigapixels():
    header = b"BM" + struct.pack("<IHHI", 54, 0, 0, 54)
    info = struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)
    return "picture-file", header + info, 54


def yaml_of_aliases():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    return "config", "\n".join(lines).encode(), 4000


def yaml_nested_deeply():
    return "config", b"[" * 100_000, 100_000


def yaml_of_long_numbers():
    return "config", b"/**: {ros__parameters: {max_rate: 0x" + b"f" * 200_000 + b"}}", 200_000


def bundle_of(**changes):
    config = json.loads(fuzz_seeds.bundle_configs(("conv",))[0])
    for path, value in changes.items():
        section, _, name = path.partition("__")
        config[section][name] = value
    return "bundle-config", json.dumps(config).encode(), 30_000


def bundle_with_a_wide_window():
    return bundle_of(model__audio_options={"widths": [1, 1, 1], "dim": 10**9, "num_mels": 10**9})


def bundle_with_many_layers():
    name, config, size = bundle_of(
        model__image_backbone="dino", model__image_options={"depth": 10**9}
    )
    return name, config, size


def bundle_that_names_a_hub():
    return bundle_of(
        model__image_backbone="vit",
        model__image_options={"attn_implementation": "somebody/kernels"},
    )


def bundle_that_hears_for_ages():
    return bundle_of(spec__window_s=1e15)


def safetensors_header_of_gigabytes():
    return "weights", struct.pack("<Q", 1 << 40) + b"{}" * 100, 200


def safetensors_of_nothing():
    return "weights", b"", 1


class _Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def pickle_that_asks_for_memory():
    return "pickle", pickle.dumps(_Call(bytearray, 1 << 40), protocol=2), 1000


def checkpoint_that_is_a_zip_bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("archive/data.pkl", "w") as member:
            for _ in range(300):
                member.write(bytes(1_000_000))
        file.writestr("archive/version", "3")
    return "checkpoint", buffer.getvalue(), len(buffer.getvalue())


def tensor_that_claims_terabytes():
    import torch

    buffer = io.BytesIO()
    claimed = torch.zeros(1).as_strided((1 << 20, 1 << 20), (0, 0))
    torch.save({"a": claimed}, buffer)
    return "checkpoint", buffer.getvalue(), len(buffer.getvalue())


def mcap_chunk_that_grows():
    """A chunk of a few kB that unpacks to 200 MB and says 1 kB."""
    return _chunk(1000)


def mcap_chunk_that_says_so():
    return _chunk(600_000_000)


def _chunk(stated):
    import zstandard

    packer = zstandard.ZstdCompressor().compressobj()
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()
    name = b"zstd"
    body = struct.pack("<QQQI", 0, 1, stated, 0) + struct.pack("<I", len(name)) + name
    body += struct.pack("<Q", len(packed)) + packed
    header = struct.pack("<I", 4) + b"ros2" + struct.pack("<I", 0)
    data = b"\x89MCAP0\r\n\x01" + struct.pack("<Q", len(header)) + header
    return "bag-mcap", data + b"\x06" + struct.pack("<Q", len(body)) + body, len(body)


def mcap_record_of_gigabytes():
    return "bag-mcap", b"\x89MCAP0\r\n\x05" + struct.pack("<Q", 1 << 29) + bytes(100), 1000


def database(*statements):
    import sqlite3
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db3"
        connection = sqlite3.connect(path)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        return "bag-sqlite", path.read_bytes(), path.stat().st_size


TOPICS = (
    "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, "
    "serialization_format TEXT, offered_qos_profiles TEXT)",
    "INSERT INTO topics VALUES (1, '/image', 'sensor_msgs/msg/Image', 'cdr', '')",
)


def database_whose_rows_never_end():
    return database(
        *TOPICS,
        "CREATE VIEW messages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT x AS id, 1 AS topic_id, x AS timestamp, x'00' AS data FROM n",
    )


def database_whose_rows_are_computed():
    return database(
        *TOPICS,
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB GENERATED ALWAYS AS (zeroblob(900000000)) VIRTUAL)",
        "INSERT INTO messages(topic_id, timestamp) VALUES (1, 1)",
    )


def database_of_other_types():
    return database(
        *TOPICS,
        "INSERT INTO topics VALUES (2, 5, x'00', 'cdr', '')",
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data)",
        "INSERT INTO messages VALUES (1, 1, 'yesterday', x'00'), (2, 1, 1, 'text'), (3, 2, -1, 7)",
    )


def metadata_of_aliases():
    text = yaml_of_aliases()[1]
    return "bag-metadata", text, len(text)


def tar_header(**values):
    info = tarfile.TarInfo("a.jpg")
    info.size = values.pop("size", 0)
    for name, value in values.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def tar_that_leads_back():
    """A negative size: the next header is this one."""
    return "tar", tar_header(size=-512) + bytes(1024), 1536


def tar_of_terabytes():
    return "tar", tar_header(size=1 << 42) + bytes(1024), 1536


def tar_of_nested_headers():
    """Every header says that the next one is the real one."""
    link = tar_header(size=512, type=tarfile.GNUTYPE_LONGNAME) + b"a" * 512
    return "tar", link * 3000 + bytes(1024), 3000 * 1024


def json_nested_deeply():
    return "lists", bytes([0]) + b"[" * 200_000, 200_000


def message_of_terabytes():
    """A sequence that says it has 2^32 - 1 bytes."""
    seed = fuzz_seeds.cdr()[0]
    length = (12 * 16 * 3).to_bytes(4, "little")
    return "cdr", seed.replace(length, b"\xff\xff\xff\xff"), len(seed)


CASES = {
    function.__name__: function
    for function in (
        png_chunk_of_gigabytes, jpeg_of_gigapixels, jpeg_trap_behind_a_stuffed_marker,
        jpeg_of_8k_pixels, bmp_of_gigapixels, yaml_of_aliases, yaml_nested_deeply,
        yaml_of_long_numbers, bundle_with_a_wide_window, bundle_with_many_layers,
        bundle_that_names_a_hub, bundle_that_hears_for_ages, safetensors_header_of_gigabytes,
        safetensors_of_nothing, pickle_that_asks_for_memory,
        checkpoint_that_is_a_zip_bomb, tensor_that_claims_terabytes, mcap_chunk_that_grows,
        mcap_chunk_that_says_so, mcap_record_of_gigabytes, database_whose_rows_never_end,
        database_whose_rows_are_computed, database_of_other_types, metadata_of_aliases,
        tar_that_leads_back, tar_of_terabytes, tar_of_nested_headers, json_nested_deeply,
        message_of_terabytes,
    )
}  # fmt: skip
