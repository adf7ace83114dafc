"""Workers that are killed, interrupted or orphaned while they write shards."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from av_grounding.training.data.folder import list_clips
from av_grounding.training.data.shard_writer import ShardConfig, write_shards
from tests.helpers.make_clips import make_folder

CONFIG = ShardConfig(short_side_px=32, num_frames=2, files_per_shard=1, validation_fraction=0.0)
SOON_S = 20.0
"""On a machine that others use as well; what these tests guard against takes for ever."""


@pytest.fixture
def listing(tmp_path):
    return list_clips(make_folder(tmp_path / "source"))


@pytest.fixture
def endless(listing, tmp_path):
    """The same clips, of which one never ends: its sound is a pipe into which nobody writes."""
    pipe = tmp_path / "endless.wav"
    os.mkfifo(pipe)
    return replace(listing, clips=(replace(listing.clips[0], sound=pipe), *listing.clips[1:]))


class AtTheEndless:
    """As `progress`: does something once, when all other clips are done."""

    def __init__(self, action):
        self._action = action

    def __call__(self, done, total):
        if done == total - 1:
            self.at_s = time.monotonic()
            self._action()


def kill_one():
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


def is_alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_killed_worker_ends_the_run_with_its_remedy_and_the_next_one_goes_on(
    listing, endless, tmp_path
):
    progress = AtTheEndless(kill_one)
    said = r"killed.*4 of 5 shards.*fewer --workers than 2"
    with pytest.raises(RuntimeError, match=said) as told:
        write_shards(endless, tmp_path / "out", CONFIG, num_workers=2, progress=progress)
    assert time.monotonic() - progress.at_s < SOON_S
    assert "\n" not in str(told.value)
    assert multiprocessing.active_children() == []
    assert not (tmp_path / "out/shards.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tar")}
    assert len(kept) >= 2
    seen = []
    write_shards(listing, tmp_path / "out", CONFIG, progress=lambda *counts: seen.append(counts))
    assert seen == [(4, 5), (5, 5)]
    write_shards(listing, tmp_path / "straight", CONFIG)
    for path in (tmp_path / "straight").rglob("*.tar"):
        other = tmp_path / "out" / path.relative_to(tmp_path / "straight")
        assert other.read_bytes() == path.read_bytes()
    assert all(path.stat().st_mtime_ns == at_ns for path, at_ns in kept.items())
    assert list((tmp_path / "out").rglob("*.partial")) == []


def test_an_interrupt_waits_for_no_worker(endless, tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    progress = AtTheEndless(interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_shards(endless, tmp_path / "out", CONFIG, num_workers=2, progress=progress)
    assert time.monotonic() - progress.at_s < SOON_S
    assert multiprocessing.active_children() == []


PARENT = """
import multiprocessing, sys
from dataclasses import replace
from pathlib import Path
from tests.training.data.test_shard_workers import CONFIG, list_clips, write_shards

source, pipe, out = map(Path, sys.argv[1:])
listing = list_clips(source)
first = replace(listing.clips[0], sound=pipe)

def tell(done, total):
    if done == total - 1:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)

write_shards(replace(listing, clips=(first, *listing.clips[1:])), out, CONFIG, num_workers=2,
             progress=tell)
"""


def test_workers_do_not_outlive_a_killed_run(endless, tmp_path):
    pipe = endless.clips[0].sound
    arguments = (tmp_path / "source", pipe, tmp_path / "out")
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )
    # A run that hangs would hold up the test.
    watchdog = threading.Timer(120.0, process.kill)
    watchdog.start()
    workers = [int(word) for word in process.stdout.readline().split()]
    watchdog.cancel()
    process.kill()
    process.communicate()
    assert len(workers) == 2
    deadline_s = time.monotonic() + SOON_S
    while left := [pid for pid in workers if is_alive(pid)]:
        assert time.monotonic() < deadline_s, f"still there: {left}"
        time.sleep(0.05)
