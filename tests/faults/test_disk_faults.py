"""A disk that hangs while a run is recorded: the end of the run does not wait for it for ever."""

import errno
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest

from av_grounding.transports.bag import recorder as bag_recorder
from av_grounding.transports.bag.reader import Bag
from av_grounding.types import Frame
from tests.helpers import bags

PATIENT_S = 60.0
SAID = (
    r"the disk has not answered for 0\.5 s; kept (\d+) frames and (\d+) chunks of sound, "
    r"lost (\d+) and (\d+); see to the disk"
)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, in a file, so that it can be frozen."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    with open(image, "wb") as file:
        file.truncate(32 << 20)
    if os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "fsfreeze"))):
        pytest.skip("freezing a disk needs root, mkfs.ext4 and fsfreeze")
    for command in (["mkfs.ext4", "-q", image], ["mount", "-o", "loop", image, folder]):
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip(f"{command[0]} does not work here")
    yield folder
    subprocess.run(["fsfreeze", "--unfreeze", folder], capture_output=True)
    for _ in range(50):
        if subprocess.run(["umount", folder], capture_output=True).returncode == 0:
            break
        time.sleep(0.1)


def wait_until(holds):
    deadline_s = time.monotonic() + PATIENT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_frozen_disk_is_given_up_and_what_it_holds_is_kept(disk, monkeypatch):
    monkeypatch.setattr(bag_recorder, "GIVE_UP_S", 0.5)
    steps = bags.mixed_up(20)
    recorder = bags.BagRecorder(disk / "r.mcap", pictures="raw", flush_s=0.0)
    stream = recorder.wrap(bags.GroundingStream(bags.TinyBackend()))
    bags.push(stream, steps[: len(steps) // 2])
    taken = [sum(isinstance(s, Frame) == kind for s in steps) for kind in (True, False)]
    half = sum(isinstance(s, Frame) for s in steps[: len(steps) // 2])
    wait_until(lambda: recorder.describe()["num_frames"] == half)
    subprocess.run(["fsfreeze", "--freeze", disk], check=True)
    try:
        bags.push(stream, steps[len(steps) // 2 :])  # the stream itself waits for nothing
        began_s = time.monotonic()
        with pytest.raises(OSError, match=SAID) as told:
            recorder.close()
        assert time.monotonic() - began_s < PATIENT_S
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)
    assert told.value.errno == errno.ETIMEDOUT
    kept_frames, kept_chunks, lost_frames, lost_chunks = map(
        int, re.search(SAID, str(told.value)).groups()
    )
    assert half - 1 <= kept_frames <= half
    assert [kept_frames + lost_frames, kept_chunks + lost_chunks] == taken
    # The disk is back: the writer completes the file with what it holds, and ends.
    wait_until(lambda: not any(t.name == "av-bag" for t in threading.enumerate()))
    bag = Bag(disk / "r.mcap")
    assert bag.fault is None
    num_frames = len(list(bag.messages(["/av_grounding/image"])))
    assert kept_frames <= num_frames < taken[0]


HANGS = """
import os, sys
from tests.helpers import bags
from av_grounding.transports.bag import recorder as bag_recorder

bag_recorder.GIVE_UP_S = 0.5
recorder = bags.BagRecorder(sys.argv[1])
# A process that waits for a frozen disk cannot be killed: another call that waits stands in.
os.pwrite = lambda *_: os.read(os.pipe()[0], 1)
bags.push(recorder.wrap(bags.GroundingStream(bags.TinyBackend())), bags.mixed_up(10))
try:
    recorder.close()
except OSError as error:
    print(error)
    sys.exit(3)
"""


def test_a_program_whose_disk_hangs_can_end(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(tmp_path / "r.mcap")],
        capture_output=True,
        text=True,
        timeout=PATIENT_S,
    )
    assert done.returncode == 3, done.stderr
    assert "kept 0 frames and 0 chunks of sound, lost 10 and" in done.stdout
