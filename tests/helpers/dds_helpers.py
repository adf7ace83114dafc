"""What the bus tests share: a domain of their own on the loopback interface, and peers."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from av_grounding.transports.dds.bus import Bus
from av_grounding.transports.dds.settings import DdsSettings
from av_grounding.types import Frame, Grounding
from tests.helpers.answers import answer

PEER = Path(__file__).parent / "dds_peer.py"
LOOPBACK = (
    "<CycloneDDS><Domain><General><Interfaces><NetworkInterface address='127.0.0.1'/>"
    "</Interfaces></General></Domain></CycloneDDS>"
)
# Ids that no robot uses, different for tests that run at the same time.
DOMAIN_ID = 103 + os.getpid() % 60
HUMBLE_DOMAIN_ID = DOMAIN_ID + 64


def environment(distro="jazzy"):
    domain_id = HUMBLE_DOMAIN_ID if distro == "humble" else DOMAIN_ID
    return {"ROS_DOMAIN_ID": str(domain_id), "ROS_DISTRO": distro, "CYCLONEDDS_URI": LOOPBACK}


def elsewhere():
    """This process's variables without any that say where a bus speaks.

    Tests with a ROS set some for their own, and a peer has its settings from `environment` alone.
    """
    of_buses = ("ROS_", "CYCLONEDDS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(of_buses)}


def open_bus(distro="jazzy", namespace="/a", name="grounding"):
    return Bus(DdsSettings.from_environment(environment(distro)), name, namespace)


PEERS = []


def kill_peers():
    """End what a failed test left behind."""
    while PEERS:
        PEERS.pop().kill()


class Peer:
    """Another process on the bus; its lines of JSON are read as they come."""

    def __init__(self, *arguments, distro="jazzy"):
        self._process = subprocess.Popen(
            [sys.executable, str(PEER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=elsewhere() | environment(distro),
        )
        PEERS.append(self)
        self.pid = self._process.pid
        self.lines = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(json.loads(line))
                self._changed.notify_all()

    def wait_for(self, key, timeout_s=60):
        with self._changed:
            found = self._changed.wait_for(
                lambda: next((line for line in self.lines if key in line), None), timeout_s
            )
        assert found, f"the peer never said {key}"
        return found

    def finish(self):
        """End its stdin and return all that it said."""
        self._process.stdin.close()
        self._process.wait(60)
        self._thread.join(10)
        return self.lines

    def kill(self):
        self._process.kill()
        self._process.wait(10)


HEADS = ("sound", "speech")


def scene(index, shape=(14, 18)):
    """A frame and its answer, all different by `index`, stamped now."""
    stamp_ns = time.time_ns()
    image = np.full((96, 128, 3), index % 250, np.uint8)
    sound = np.zeros(shape, np.float32)
    sound.flat[index % sound.size] = 0.75
    speech = np.full(shape, 0.25, np.float32)
    frame = Frame(image, stamp_ns, "optical")
    heads = {"sound": answer(sound), "speech": answer(speech)}
    return frame, Grounding(heads, stamp_ns, "optical", (96, 128))


def wait_until(condition, timeout_s=30):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)
