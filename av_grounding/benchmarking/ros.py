"""What the bridge costs: raw and JPEG images at 30 Hz into a running node, and an overload.

    python -m av_grounding.benchmarking.ros --out out/ros_bench [--duration 20]

Another process publishes; the node runs here. `decode` is message to RGB array, `take` the
middleware's part before it (deserialising). In the overload the model is slowed to five periods
of the camera; `age_taken` is how old the newest frame is when the model takes it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosidl_runtime_py.utilities import get_message

from av_grounding.files import write_json
from av_grounding.streaming.report import LatencyHistogram
from av_grounding.transports.bag.encoding import exact_audio_fields
from av_grounding.transports.messages import (
    Fields,
    audio_fields,
    build,
    compressed_image_fields,
    image_fields,
)
from av_grounding.transports.ros.node import GroundingNode
from av_grounding.types import AudioChunk

NAMESPACE = "/benchmark"
RATE_HZ = 30.0
JPEG_BYTES = 60_000
OVERLOAD = 5
KINDS = ("1080p", "vga", "jpeg")
SIZES = {"1080p": (1080, 1920), "vga": (480, 640), "jpeg": (480, 640)}
SETTLE_S = 3.0
"""Discovery, first allocations and caches are over after this long."""


def picture(kind: str) -> Fields:
    """The message of a kind; raw images are bgr8, as most drivers send."""
    rng = np.random.default_rng(0)
    height, width = SIZES[kind]
    coarse = rng.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    pixels = coarse.repeat(8, axis=0).repeat(8, axis=1)
    if kind != "jpeg":
        return image_fields(pixels, "bgr8", 1, "camera")
    noise = rng.integers(0, 32, pixels.shape, np.uint8)
    noisy = np.clip(pixels.astype(np.int16) + noise, 0, 255).astype(np.uint8)
    coded = (compressed_image_fields(noisy, 1, "camera", quality) for quality in range(95, 5, -5))
    return next(fields for fields in coded if len(fields["data"]) <= JPEG_BYTES)


def has_audio_data_stamped() -> bool:
    """Whether audio_common_msgs is that of ros-drivers; the other is mgonzs13's."""
    try:
        get_message("audio_common_msgs/msg/AudioDataStamped")
    except AttributeError:
        return False
    return True


def publish(kind: str, duration_s: float, rate_hz: float) -> None:
    """The camera and the microphone, in a process of their own."""
    rclpy.init()
    node = Node("camera", namespace=NAMESPACE)
    profile = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    message = build(picture(kind), get_message)
    topic = "image/compressed" if kind == "jpeg" else "image"
    images = node.create_publisher(type(message), topic, profile)
    noise = np.random.default_rng(1).normal(0, 2000, 1600).astype(np.int16)
    # Two packages of one name: what is installed is published.
    sound_fields = audio_fields if has_audio_data_stamped() else exact_audio_fields
    sound_type = sound_fields(AudioChunk(noise, 1, 16_000)).type_name
    sound = node.create_publisher(get_message(sound_type), "audio", 100)
    started_s, number, chunk = time.monotonic(), 0, 0
    while (elapsed_s := time.monotonic() - started_s) < duration_s:
        now_ns = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 1_000_000_000)
        images.publish(message)
        number += 1
        if elapsed_s * 10 >= chunk:
            chunk += 1
            fields = sound_fields(AudioChunk(noise, now_ns, 16_000), "mic")
            sound.publish(build(fields, get_message))
        time.sleep(max(0.0, started_s + number / rate_hz - time.monotonic()))
    node.destroy_node()
    rclpy.shutdown()


def take_ms(kind: str, repetitions: int = 30) -> float:
    """p50 of deserialising one message, which happens before a callback is called."""
    message = build(picture(kind), get_message)
    octets = serialize_message(message)
    durations = []
    for _ in range(repetitions):
        started_s = time.perf_counter()
        deserialize_message(octets, type(message))
        durations.append(time.perf_counter() - started_s)
    return 1e3 * float(np.median(durations))


def measure(kind: str, duration_s: float, model: str, overload: int = 1) -> dict[str, Any]:
    """One kind of image at 30 Hz for so long, with a model `overload` periods slow if above 1."""
    overrides = {
        "model.path": model,
        "audio.sample_rate": 16_000,
        "image_transport": "compressed" if kind == "jpeg" else "raw",
    }
    node = GroundingNode(
        namespace=NAMESPACE,
        parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()],
    )
    node.autostart()
    session = node._session
    assert session is not None
    ages = LatencyHistogram()
    push_frame = session.stream.push_frame

    def watched(image: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        ages.record((time.time_ns() - stamp_ns) * 1e-9)
        started_s = time.monotonic()
        heatmaps = push_frame(image, stamp_ns, frame_id)
        if overload > 1:
            time.sleep(max(0.0, started_s + overload / RATE_HZ - time.monotonic()))
        return heatmaps

    session.stream.push_frame = watched  # type: ignore[method-assign]
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    camera = multiprocessing.get_context("spawn").Process(
        target=publish, args=(kind, duration_s + SETTLE_S, RATE_HZ)
    )
    camera.start()
    memory_mb = []
    video = session.inputs.video
    while camera.is_alive():
        camera.join(1.0)
        if video.num_received > RATE_HZ * SETTLE_S:
            memory_mb.append(resident_mb())
    counters = session.runner.counters
    num_dropped = (
        video.num_replaced + counters["num_frames_replaced"] + counters["num_frames_too_old"]
    )
    result = {
        "received": video.num_received,
        "answered": counters["num_frames_published"],
        "dropped": num_dropped,
        "take_p50_ms": take_ms(kind),
        "decode_p50_ms": 1e3 * video.decoding_s.percentile(50),
        "decode_p99_ms": 1e3 * video.decoding_s.percentile(99),
        "ground_p50_ms": 1e3 * session.stream.grounding_s.percentile(50),
        "e2e_p50_ms": node._outputs.age_ms.percentile(50) if node._outputs else None,
        "e2e_p99_ms": node._outputs.age_ms.percentile(99) if node._outputs else None,
        "age_taken_p50_periods": ages.percentile(50) * RATE_HZ,
        "age_taken_p99_periods": ages.percentile(99) * RATE_HZ,
        "memory_mb": [memory_mb[0], memory_mb[-1]] if memory_mb else [],
    }
    executor.shutdown()
    thread.join(5.0)
    node.destroy_node()
    return result


def resident_mb() -> float:
    """Memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    """Measure all and write OUT/ros_bench.json."""
    from av_grounding.config import default_bundle

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--duration", type=float, default=20.0, metavar="S")
    parser.add_argument("--model", default=str(default_bundle()))
    arguments = parser.parse_args()
    rclpy.init()
    results = {kind: measure(kind, arguments.duration, arguments.model) for kind in KINDS}
    results["overload"] = measure("vga", arguments.duration, arguments.model, OVERLOAD)
    rclpy.shutdown()
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "ros_bench.json"
    write_json(path, results)
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
