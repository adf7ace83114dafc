"""Archives of Qt: written here as `rcc` writes them, read, and refused where they are damaged."""

import struct
import zlib

import pytest

from av_grounding.everyday.qt_resource import QtResource

FILES = {"a/sound.ogg": b"O" * 40, "a/picture.webp": b"W" * 300, "README": b"all of it"}
PACKED = ("README",)


def written(path, *, version=3):
    """README and the folder `a` with two files; nodes in the order of a breadth-first walk."""
    names, blobs = b"", b""

    def name(text):
        nonlocal names
        at = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return at

    def blob(key):
        nonlocal blobs
        at, content = len(blobs), FILES[key]
        if key in PACKED:
            content = struct.pack(">I", len(content)) + zlib.compress(content)
        blobs += struct.pack(">I", len(content)) + content
        return at

    stamp = b"" if version == 1 else bytes(8)
    nodes = [struct.pack(">IHII", 0, 2, 2, 1)]
    nodes.append(struct.pack(">IHHHI", name("README"), 1, 0, 0, blob("README")))
    nodes.append(struct.pack(">IHII", name("a"), 2, 2, 3))
    for text in ("sound.ogg", "picture.webp"):
        nodes.append(struct.pack(">IHHHI", name(text), 0, 0, 0, blob(f"a/{text}")))
    tree = b"".join(node + stamp for node in nodes)
    start = 24
    header = struct.pack(
        ">4s5I", b"qres", version, start, start + len(tree), start + len(tree) + len(blobs), 0
    )
    path.write_bytes(header + tree + blobs + names)
    return path


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_file_is_read_plain_or_packed(tmp_path, version):
    files = QtResource(written(tmp_path / "x.rcc", version=version))
    assert files.names == ("README", "a/picture.webp", "a/sound.ogg")
    assert {name: files.read(name) for name in files.names} == FILES
    with pytest.raises(KeyError, match=r"x\.rcc has no 'b'"):
        files.read("b")


@pytest.mark.parametrize("size", [0, 3, 20, 30, 100, 200])
def test_a_file_that_is_cut_off_is_refused(tmp_path, size):
    path = written(tmp_path / "x.rcc")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"x\.rcc: no Qt resource file .*install it again"):
        _ = QtResource(path).names


def test_a_folder_that_holds_itself_is_refused(tmp_path):
    path = written(tmp_path / "x.rcc")
    data = bytearray(path.read_bytes())
    struct.pack_into(">IHII", data, 24 + 2 * 22, 0, 2, 2, 0)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="no Qt resource file"):
        _ = QtResource(path).names


def test_a_packed_file_that_is_damaged_is_named(tmp_path):
    path = written(tmp_path / "x.rcc")
    data = path.read_bytes()
    path.write_bytes(data.replace(zlib.compress(FILES["README"])[:6], b"\0" * 6))
    with pytest.raises(ValueError, match="README is damaged"):
        QtResource(path).read("README")
