"""The engine cache with real files, real processes and real damage; engines are any bytes."""

import json
import multiprocessing
import os
import time
from dataclasses import replace

import pytest

from av_grounding.backends import artefact, engine_cache
from av_grounding.backends.engine_cache import EngineCache, EngineKey

KEY = EngineKey(
    bundle="0123456789abcdef", graph="image", precision="fp16", shapes="1x3x224x224",
    tensorrt="10.3.0", torch_tensorrt="2.5.0", cuda="12.6", sm="8.7", gpu="Orin",
    graph_version="1",
)  # fmt: skip
ENGINE = bytes(range(256)) * 4096


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def fail():
    raise AssertionError("an engine that lies in the cache is not built")


def test_built_once_and_then_loaded(cache):
    assert cache.get(KEY, lambda: ENGINE) == (ENGINE, "built")
    assert cache.get(KEY, fail) == (ENGINE, "cache")
    # A second start: nothing is kept in the object.
    assert EngineCache(cache.directory).get(KEY, fail) == (ENGINE, "cache")


@pytest.mark.parametrize("name", sorted(KEY.facts))
def test_every_part_of_the_key_separates(cache, name):
    cache.store(KEY, ENGINE)
    other = replace(KEY, **{name: "other"})
    assert cache.load(other) is None
    assert cache.get(other, lambda: b"another") == (b"another", "built")
    assert cache.load(KEY) == ENGINE


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content[:-1] + b"\x00",
        lambda content: content + b"\x00",
    ],
    ids=["half", "empty", "one byte", "longer"],
)
def test_a_damaged_engine_is_found_and_built_again(cache, caplog, damage):
    cache.store(KEY, ENGINE)
    path = cache.path(KEY)
    path.write_bytes(damage(ENGINE))
    with pytest.raises(ValueError, match=r"is damaged .* expected 1048576 of"):
        cache.load(KEY)
    assert cache.get(KEY, lambda: ENGINE) == (ENGINE, "built")
    assert "is damaged" in caplog.text
    assert cache.get(KEY, fail) == (ENGINE, "cache")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 99, "facts": {}, "sha256": ""}', "\udcff"]
)
def test_a_damaged_json_is_found_and_the_engine_built_again(cache, content):
    cache.store(KEY, ENGINE)
    side = artefact.sidecar_of(cache.path(KEY))
    side.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="cannot be read"):
        cache.load(KEY)
    assert cache.get(KEY, lambda: ENGINE) == (ENGINE, "built")


def test_an_engine_whose_json_is_missing_does_not_count(cache):
    cache.store(KEY, ENGINE)
    artefact.sidecar_of(cache.path(KEY)).unlink()
    assert cache.load(KEY) is None


def test_an_engine_from_another_machine_says_what_differs(cache):
    """Copied over by its name, as with a disk image of another robot."""
    cache.store(KEY, ENGINE)
    here = replace(KEY, sm="9.0", gpu="H200")
    for suffix in ("", ".json"):
        source = cache.path(KEY).with_name(KEY.file_name + suffix)
        source.rename(cache.path(here).with_name(here.file_name + suffix))
    with pytest.raises(
        ValueError, match=r"built for SM 8\.7, GPU Orin; this is SM 9\.0, GPU H200: it is built"
    ):
        cache.load(here)
    assert cache.get(here, lambda: b"new") == (b"new", "built")


def test_why_an_engine_is_built_though_there_is_one_is_said(cache, caplog):
    cache.store(KEY, ENGINE)
    with caplog.at_level("INFO"):
        cache.get(replace(KEY, tensorrt="10.7.0"), lambda: ENGINE)
    assert "built for TensorRT 10.3.0; this is TensorRT 10.7.0" in caplog.text


def test_a_cache_that_cannot_be_written_is_said_before_the_build(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot be written .*set XDG_CACHE_HOME") as caught:
        EngineCache(tmp_path / "file" / "engines").get(KEY, fail)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_still_serves(cache):
    cache.store(KEY, ENGINE)
    cache.directory.chmod(0o500)
    try:
        assert cache.get(KEY, fail) == (ENGINE, "cache")
        with pytest.raises(OSError, match="cannot be written"):
            cache.get(replace(KEY, sm="9.0"), fail)
    finally:
        cache.directory.chmod(0o700)


def test_an_engine_that_cannot_be_kept_is_used_all_the_same(cache, caplog, monkeypatch):
    def full(path, content):
        path.write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine_cache, "_write_bytes", full)
    assert cache.get(KEY, lambda: ENGINE) == (ENGINE, "built")
    assert "No space left" in caplog.text
    assert [path.suffix for path in cache.directory.iterdir()] in ([], [".lock"])


def test_what_a_killed_build_left_is_removed(cache):
    cache.directory.mkdir()
    left = cache.directory / f"{artefact.PARTIAL}99999-{KEY.file_name}"
    left.write_bytes(ENGINE)
    cache.get(KEY, lambda: ENGINE)
    assert not left.exists()


def test_the_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().directory == tmp_path / "av_grounding" / "engines"


def build_slowly(directory, index, builds):
    def build():
        with open(builds, "a", encoding="utf-8") as file:
            file.write(f"{index}\n")
        time.sleep(0.3)
        return ENGINE

    content, _ = EngineCache(directory).get(KEY, build)
    assert content == ENGINE


def test_of_four_processes_one_builds(cache, tmp_path):
    context = multiprocessing.get_context("fork")
    builds = tmp_path / "builds"
    processes = [
        context.Process(target=build_slowly, args=(cache.directory, index, builds))
        for index in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(builds.read_text().split()) == 1


def die_while_building(directory):
    EngineCache(directory).get(KEY, lambda: os._exit(7))


def test_a_builder_that_dies_leaves_no_lock(cache):
    process = multiprocessing.get_context("fork").Process(
        target=die_while_building, args=(cache.directory,)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 7
    assert cache.get(KEY, lambda: ENGINE) == (ENGINE, "built")


def test_readers_beside_a_writer_see_whole_engines_or_none(cache):
    """The file and its JSON are put in place one after the other: between them is no engine."""
    stop = time.monotonic() + 1.0
    process = multiprocessing.get_context("fork").Process(
        target=store_again_and_again, args=(cache.directory, stop)
    )
    process.start()
    seen = set()
    while time.monotonic() < stop:
        try:
            content = cache.load(KEY)
        except (ValueError, FileNotFoundError):
            continue
        if content is not None:
            seen.add(content[:1])
            assert content == content[:1] * len(content)
    process.join(60)
    assert process.exitcode == 0
    assert cache.load(KEY) is not None


def store_again_and_again(directory, stop):
    cache, index = EngineCache(directory), 0
    directory.mkdir(parents=True, exist_ok=True)
    while time.monotonic() < stop or index == 0:
        cache.store(KEY, bytes([index % 256]) * 100_000)
        index += 1


def test_the_facts_are_readable(cache):
    cache.directory.mkdir()
    cache.store(KEY, ENGINE)
    side = json.loads(artefact.sidecar_of(cache.path(KEY)).read_text())
    assert side["facts"] == KEY.facts
    assert side["num_bytes"] == len(ENGINE)
