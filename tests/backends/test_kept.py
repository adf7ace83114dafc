"""`auto` on a CPU: compiled at the first use, kept, and run without PyTorch from then on."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from av_grounding.backends import SWITCH, kept, load_backend
from av_grounding.backends.exported import EXPORT_FILE
from tests.helpers.make_clips import write_picture, write_sound, write_video
from tests.helpers.small_bundle import save_small_bundle

ROOT = Path(__file__).parents[2]
# Not `importorskip`: its import would send reports (see `openvino_import`).
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs OpenVINO"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_bundle(tmp_path_factory.mktemp("kept") / "small")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all tests of this file: compiling takes seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def compiling(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv(SWITCH)
    return cache


def test_the_first_use_compiles_and_the_second_takes_it(bundle, compiling, caplog):
    first = load_backend(bundle, "auto", "cpu")
    assert first.name == "cpu"
    assert first.describe()["reason"] == "auto: compiled for this processor at its first use"
    assert [line for line in caplog.messages if "compiling small for this processor" in line]
    directory = kept.directory_of(bundle)
    assert directory.is_relative_to(compiling)
    written = (directory / EXPORT_FILE).stat().st_mtime_ns
    caplog.clear()
    second = load_backend(bundle, "auto", "cpu")
    assert second.describe() == first.describe()
    assert (directory / EXPORT_FILE).stat().st_mtime_ns == written
    assert caplog.messages == []
    parity = json.loads((directory / "parity.json").read_text())
    assert parity["features"]["image"]["max"] < parity["bounds"]["image"]


def test_damage_is_said_and_compiled_again(bundle, compiling, caplog, monkeypatch):
    load_backend(bundle, "auto", "cpu")
    path = kept.directory_of(bundle) / "image.bin"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    # Compiling takes seconds, and the test before has shown it.
    monkeypatch.setattr(kept, "_compile", lambda bundle: path.write_bytes(content))
    assert load_backend(bundle, "auto", "cpu").name == "cpu"
    assert any("image.bin is missing or damaged" in line for line in caplog.messages)
    assert path.read_bytes() == content


# Each in one line, and torch runs on.
def test_without_the_runtime(bundle, compiling, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    backend = load_backend(bundle, "auto", "cpu")
    assert backend.name == "torch"
    assert "not compiled: backend 'cpu' needs openvino" in backend.describe()["reason"]


def test_a_cache_that_cannot_be_written(bundle, compiling, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    backend = load_backend(bundle, "auto", "cpu")
    assert backend.name == "torch"
    reason = backend.describe()["reason"]
    assert "cannot be written" in reason
    assert "\n" not in reason


def test_compiling_that_fails(bundle, compiling, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept.sys, "executable", "/bin/false")
    backend = load_backend(bundle, "auto", "cpu")
    assert backend.name == "torch"
    assert "not compiled: compiling failed: exit code 1" in backend.describe()["reason"]


def test_switched_off(bundle, compiling, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(SWITCH, "0")
    backend = load_backend(bundle, "auto", "cpu")
    assert backend.name == "torch"
    assert f"switched off ({SWITCH}=0)" in backend.describe()["reason"]
    assert list(tmp_path.rglob("*.xml")) == []


def test_measuring_does_not_compile(bundle, compiling, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_backend(bundle, "auto", "cpu", compiles=False).name == "torch"


def test_another_bundle_has_another_place(bundle, tmp_path, compiling):
    other = save_small_bundle(tmp_path / "other", window_s=1.28, num_tokens=16)
    assert kept.directory_of(other) != kept.directory_of(bundle)


WITHOUT = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Refused())
from av_grounding.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without_torch(compiling, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, "--json", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(compiling)},
        capture_output=True,
        text=True,
    )


def test_a_compiled_bundle_runs_and_grounds_without_torch(bundle, compiling, tmp_path):
    load_backend(bundle, "auto", "cpu")
    clip, picture, sound = (tmp_path / name for name in ("clip.mp4", "picture.png", "sound.wav"))
    write_video(clip, duration_s=0.5)
    write_picture(picture)
    write_sound(sound, duration_s=0.5)
    out = tmp_path / "out"
    for arguments in (
        ["run", clip, "--as-fast-as-possible"],
        ["run", clip, "--duration", "0.3"],
        ["ground", picture, sound],
    ):
        done = run_without_torch(compiling, *arguments, "--model", bundle, "--out", out)
        assert done.returncode == 0, done.stderr
        if arguments[0] == "run":
            report = json.loads(done.stdout)
            assert report["model"]["backend"] == "cpu"
            assert report["num_frames_published"] > 0
