"""Files appear whole or not at all, whoever else writes them."""

import subprocess
import sys

import pytest

from av_grounding.files import atomic_write, write_text

WRITE = "import sys, pathlib; from av_grounding.files import write_text; \
write_text(pathlib.Path(sys.argv[1]), 'theirs')"


def test_two_processes_that_write_one_file_do_not_meet(tmp_path):
    path = tmp_path / "bank.bin"
    with atomic_write(path) as file:
        file.write(b"mine, ")
        file.flush()
        subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
        assert path.read_bytes() == b"theirs"
        file.write(b"and whole")
    assert path.read_bytes() == b"mine, and whole"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_stood_there(tmp_path):
    path = tmp_path / "settings.json"
    write_text(path, "old")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"new, but n")
            raise OSError(28, "no space is left")

    with pytest.raises(OSError, match="no space"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
