"""What the node says: publishers of every topic, written by the thread that runs the session."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosidl_runtime_py.utilities import get_message

from av_grounding.config import GroundingConfig
from av_grounding.transports.messages import (
    HEADS,
    TOPICS,
    CameraInfo,
    Fields,
    OutputOptions,
    build,
    encode_outputs,
    find_peaks,
    point_fields,
)
from av_grounding.transports.ros.points import PointLocator
from av_grounding.transports.ros.qos import publisher_events
from av_grounding.transports.topics.sources import Recent
from av_grounding.types import Frame, Grounding

logger = logging.getLogger(__name__)
NS_PER_MS = 1e6


class RosOutputs:
    """A Sink with a lifecycle publisher for every topic of `messages.TOPICS`.

    Publishers live from `configure` to `cleanup`. What nobody subscribes to is not computed.
    """

    def __init__(self, node: Node, config: GroundingConfig) -> None:
        self._node = node
        self.config = config
        """May change at any time."""
        self.camera: Callable[[], CameraInfo | None] = lambda: None
        self.locator: PointLocator | None = None
        self.num_published = 0
        self.last_published_s: float | None = None
        self.age_ms = Recent()
        """From a frame's stamp to the moment its heatmaps were handed to the middleware."""
        self.incompatible: list[str] = []
        self._publishers = {
            name: self._publisher(name) for name in TOPICS if not name.startswith("/")
        }

    def write(self, frame: Frame, heatmaps: Grounding) -> None:
        config, camera = self.config, self.camera()
        options = OutputOptions.of(config, frame.image.shape[:2])
        is_first = True
        for name, fields in encode_outputs(frame, heatmaps, options, camera, self._is_wanted):
            self._publish(name, fields)
            if is_first:
                # All heatmaps are handed over within a fraction of a millisecond.
                self._take_age(frame)
                is_first = False
        if is_first:
            self._take_age(frame)
        if self.locator is not None and camera is not None:
            self._write_points(frame, heatmaps, camera, options)
        self.num_published += 1
        self.last_published_s = time.monotonic()

    def close(self) -> None:
        """Nothing: the publishers outlive an activation, see `destroy`."""

    def destroy(self) -> None:
        """Give the publishers back."""
        publishers, self._publishers = self._publishers, {}
        for publisher in publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def _take_age(self, frame: Frame) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        self.age_ms.add((now_ns - frame.stamp_ns) / NS_PER_MS)

    def _write_points(
        self, frame: Frame, heatmaps: Grounding, camera: CameraInfo, options: OutputOptions
    ) -> None:
        assert self.locator is not None
        for head in HEADS:
            if not self._is_wanted(f"{head}/point"):
                continue
            size = frame.image.shape[:2]
            peaks = find_peaks(getattr(heatmaps, head), size, options.threshold(head), 1)
            if not peaks:
                continue
            located = self.locator.locate(
                frame, peaks[0], camera, self.config.target_frame, self.config.image_rectified
            )
            if located is not None:
                xyz_m, frame_id = located
                self._publish(f"{head}/point", point_fields(xyz_m, frame.stamp_ns, frame_id))

    def _is_wanted(self, name: str) -> bool:
        head = name.partition("/")[0]
        if head in HEADS and not getattr(self.config, head).enabled:
            return False
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _publish(self, name: str, fields: Fields) -> None:
        publisher = self._publishers.get(name)
        if publisher is not None:
            publisher.publish(build(fields, get_message))

    def _publisher(self, name: str) -> Any:
        topic = TOPICS[name]
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=topic.depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.VOLATILE,
        )
        resolved = self._node.resolve_topic_name(name)
        return self._node.create_lifecycle_publisher(
            get_message(topic.type_name),
            name,
            profile,
            event_callbacks=publisher_events(resolved, self.incompatible.append),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
