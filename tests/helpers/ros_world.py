"""A real ROS graph for the tests: the node in one context, whoever talks to it in another.

Both meet on a bus of their own: loopback, and a domain of this process.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosidl_runtime_py.utilities import get_message

from av_grounding.transports.bag.encoding import exact_audio_fields
from av_grounding.transports.messages import (
    CameraInfo,
    audio_fields,
    audio_info_fields,
    build,
    decode_heatmap,
    image_fields,
)
from av_grounding.types import AudioChunk

DOMAIN_ID = 1 + os.getpid() % 100
os.environ |= {
    "ROS_DOMAIN_ID": str(DOMAIN_ID),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "CYCLONEDDS_URI": (
        "<CycloneDDS><Domain><General><Interfaces><NetworkInterface name='lo'/></Interfaces>"
        "<AllowMulticast>true</AllowMulticast></General></Domain></CycloneDDS>"
    ),
}

BUNDLE = Path(__file__).parents[2] / "models" / "synthetic-small"
SECOND_NS = 1_000_000_000
PATIENCE = 4.0
"""Time-outs say when something is broken; how busy the machine is must not decide that."""
MEETING_S = 0.5
NAMESPACE = "/robot"
NODE = f"{NAMESPACE}/grounding"
IMAGE_TYPE = "sensor_msgs/msg/Image"


def is_installed(type_name):
    try:
        return get_message(type_name) is not None
    except (ModuleNotFoundError, AttributeError):
        return False


# Two packages are called audio_common_msgs: ros-drivers' and mgonzs13's.
AUDIO_PACKAGE = "audio_common_msgs/msg"
IS_ROS_DRIVERS = is_installed(f"{AUDIO_PACKAGE}/AudioDataStamped")
AUDIO_TYPE = f"{AUDIO_PACKAGE}/{'AudioDataStamped' if IS_ROS_DRIVERS else 'AudioStamped'}"
CAMERA = CameraInfo(
    120,
    160,
    np.array([[150.0, 0.0, 79.5], [0.0, 150.0, 59.5], [0.0, 0.0, 1.0]]),
    np.array([[150.0, 0.0, 79.5, 0.0], [0.0, 150.0, 59.5, 0.0], [0.0, 0.0, 1.0, 0.0]]),
    np.zeros(5),
    np.eye(3),
    frame_id="optical",
)


class Spinning:
    """A context with one node, spun in a thread of its own."""

    def __init__(self, make_node):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = make_node(self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        with suppress(ExternalShutdownException):
            self.executor.spin()

    def run(self, function, *arguments):
        """Call something in the executor's thread, as transitions are."""
        task = self.executor.create_task(function, *arguments)
        self.executor.wake()
        wait_for(task.done, 120.0)
        return task.result()

    def close(self):
        self.executor.shutdown()
        self._thread.join(10.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def wait_for(condition, timeout_s=15.0, what="the condition"):
    """Poll until the condition holds; AssertionError long after the timeout."""
    timeout_s *= PATIENCE
    ends_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < ends_s, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.02)
    return value


@contextmanager
def grounding_node(*, is_active=True, remappings=(), **parameters):
    """The node under test: `grounding_node(max_rate=5.0, **{"audio.source": "topic"})`.

    `remappings` are rules such as "image:=/camera".
    """
    from av_grounding.transports.ros.node import GroundingNode

    values = {"model.path": str(BUNDLE), "device": "cpu", "max_image_age_ms": 5000.0}
    overrides = [Parameter(name, value=value) for name, value in (values | parameters).items()]
    words = ["--ros-args", *(word for rule in remappings for word in ("-r", rule))]
    spinning = Spinning(
        lambda context: GroundingNode(
            context=context, namespace=NAMESPACE, parameter_overrides=overrides, cli_args=words
        )
    )
    try:
        if is_active:
            from rclpy.lifecycle import TransitionCallbackReturn

            node = spinning.node
            for trigger in (node.trigger_configure, node.trigger_activate):
                assert spinning.run(trigger) == TransitionCallbackReturn.SUCCESS
        yield spinning
    finally:
        spinning.close()


class Peer:
    """A robot's other nodes: publishes what the node reads, collects what it says."""

    def __init__(self):
        self.received = defaultdict(list)
        self._publishers = {}
        self._clients = {}
        self._spinning = Spinning(lambda context: Node("peer", context=context))
        self.node = self._spinning.node

    def close(self):
        self._spinning.close()

    def collect(self, *topics):
        """Subscribe to topics of the node by their names."""
        from av_grounding.config import HEADS
        from av_grounding.identification import MAX_SOURCES
        from av_grounding.transports.topics.table import topics_of

        known = topics_of(HEADS, separates=True, max_sources=MAX_SOURCES)
        types = {name: topic.type_name for name, topic in known.items()}

        for name in topics:
            resolved = name if name.startswith("/") else f"{NAMESPACE}/{name}"
            self.node.create_subscription(
                get_message(types[name]), resolved, self.received[name].append, 20
            )

    def publish(self, topic, fields, *, is_reliable=True):
        self.publisher(topic, fields.type_name, is_reliable).publish(build(fields, get_message))

    def publisher(self, topic, type_name, is_reliable=True):
        if topic not in self._publishers:
            policy = ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT
            self._publishers[topic] = self.node.create_publisher(
                get_message(type_name), topic, QoSProfile(depth=20, reliability=policy)
            )
        return self._publishers[topic]

    def insist(self, topic, make_fields, condition, timeout_s=20.0):
        """Publish anew until the condition holds: the first may pass before both have met."""
        ends_s = time.monotonic() + PATIENCE * timeout_s
        while not condition():
            assert time.monotonic() < ends_s, f"{topic}: published in vain for {timeout_s} s"
            self.publish(topic, make_fields())
            wait_until_s = time.monotonic() + 1.0
            while not condition() and time.monotonic() < wait_until_s:
                time.sleep(0.02)

    def connect(self, topic, type_name, is_reliable=True):
        """Publish a topic and wait until the node has found it."""
        publisher = self.publisher(topic, type_name, is_reliable)
        wait_for(publisher.get_subscription_count, 15.0, f"a subscription to {topic}")
        return publisher

    def call(self, service_type, name, request):
        client = self._client(service_type, name)
        future = client.call_async(request)
        wait_for(future.done, 30.0, f"{name} to answer")
        return future.result()

    def _client(self, service_type, name):
        """Kept: a server drops its answer to a client that it has not met yet (Fast DDS)."""
        if name not in self._clients:
            client = self.node.create_client(service_type, f"{NODE}/{name}")
            wait_for(client.service_is_ready, 15.0, name)
            time.sleep(MEETING_S)  # the server's side of it cannot be seen from here
            self._clients[name] = client
        return self._clients[name]

    def latest(self, topic, timeout_s=20.0):
        wait_for(lambda: self.received[topic], timeout_s, topic)
        return self.received[topic][-1]


def picture(height=120, width=160, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def image(stamp_ns, pixels=None, frame_id="optical", encoding="rgb8"):
    return image_fields(picture() if pixels is None else pixels, encoding, stamp_ns, frame_id)


def sound(samples, stamp_ns):
    """16 bits, in the messages that are installed."""
    pcm = np.clip(np.rint(np.asarray(samples) * 32767), -32768, 32767).astype(np.int16)
    fields = audio_fields if IS_ROS_DRIVERS else exact_audio_fields
    return fields(AudioChunk(pcm, stamp_ns, Scene.RATE_HZ), "mic")


class Scene:
    """Sends sound and images moment by moment, no faster than the node takes them in.

    How busy the machine is must not decide what is heard, so a step waits until the node has
    nothing left to do.
    """

    RATE_HZ = 16_000
    CHUNK_S = 0.1

    def __init__(self, peer, spinning, waveform, start_ns=None, pixels=None):
        self.peer = peer
        self.spinning = spinning
        self.waveform = np.asarray(waveform, np.float32)
        self.now_ns = time.time_ns() if start_ns is None else start_ns
        self.pixels = pixels
        self._at = 0
        self.stamps = []

    def step(self):
        """One chunk of sound, then an image stamped at its end."""
        size = round(self.CHUNK_S * self.RATE_HZ)
        chunk = self.waveform.take(range(self._at, self._at + size), mode="wrap")
        self.peer.publish("/robot/audio", sound(chunk, self.now_ns))
        self._at += size
        self.now_ns += round(self.CHUNK_S * SECOND_NS)
        self.wait_until_idle()
        self.stamps.append(self.now_ns)
        self.peer.publish("/robot/image", image(self.now_ns, self.pixels))
        self.wait_until_idle()

    def wait_until_idle(self, settle_s=0.05, timeout_s=5.0):
        """Until the node has answered or counted all that arrived."""
        session = self.spinning.node._session
        time.sleep(settle_s)
        if session is not None:
            wait_for(lambda: self._is_idle(session), timeout_s, "the node to be idle")

    def _is_idle(self, session):
        counters = session.runner.counters
        counted = ("too_old", "replaced", "unreadable", "unwanted")
        num_done = session.stream.stats["num_frames"]
        num_done += sum(counters[f"num_frames_{name}"] for name in counted)
        return (
            session.inputs.topic_audio.num_decoded <= counters["num_audio_chunks"]
            and counters["num_frames_captured"] <= num_done
            and counters["queued_audio_s"] == 0.0
        )

    def play(self, seconds):
        for _ in range(round(seconds / self.CHUNK_S)):
            self.step()

    def play_until(self, condition, what, timeout_s=40.0):
        ends_s = time.monotonic() + PATIENCE * timeout_s
        while not condition():
            assert time.monotonic() < ends_s, f"waited {timeout_s} s in vain for {what}"
            self.step()


def connect(peer):
    if not is_installed(AUDIO_TYPE):
        pytest.skip("needs audio_common_msgs, of ros-drivers or of mgonzs13")
    peer.connect("/robot/image", IMAGE_TYPE)
    peer.connect("/robot/audio", AUDIO_TYPE)
    announce(peer)


def announce(peer):
    """ros-drivers' AudioInfo: the samples themselves say nothing. mgonzs13's do."""
    if not IS_ROS_DRIVERS:
        return
    info = audio_info_fields(AudioChunk(np.zeros(1, np.int16), 0, Scene.RATE_HZ))
    peer.connect("/robot/audio_info", info.type_name)
    for _ in range(3):
        peer.publish("/robot/audio_info", info)
        time.sleep(0.1)


def stamp_ns(message):
    return message.header.stamp.sec * SECOND_NS + message.header.stamp.nanosec


def maximum(peer, head):
    messages = peer.received[f"{head}/heatmap"]
    return decode_heatmap(messages[-1]).max() if messages else 0.0


def diagnostic(peer, name):
    """The newest values of one status line, and its message."""
    for message in reversed(peer.received["/diagnostics"]):
        for status in message.status:
            if status.name == f"{NODE}: {name}":
                return {item.key: item.value for item in status.values}, status
    return {}, None
