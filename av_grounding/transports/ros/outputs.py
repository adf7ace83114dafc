"""What the node says: publishers of every topic, written by the thread that runs the session."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.lifecycle import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosidl_runtime_py.utilities import get_message

from av_grounding.config import GroundingConfig
from av_grounding.transports.messages import (
    CameraInfo,
    Fields,
    build,
    peaks_of,
    point_fields,
)
from av_grounding.transports.ros.points import PointLocator
from av_grounding.transports.ros.qos import mismatches, publisher_events
from av_grounding.transports.topics.outputs import OutputOptions, encode_outputs
from av_grounding.transports.topics.separated import AUDIO, SeparatedSound
from av_grounding.transports.topics.sources import Recent
from av_grounding.transports.topics.table import TOPICS, Topic, name_of, topics_of
from av_grounding.types import Frame, Grounding

logger = logging.getLogger(__name__)
NS_PER_MS = 1e6


class RosOutputs:
    """A Sink with a lifecycle publisher for every topic of a model's heads.

    Publishers live from `configure` to `cleanup`. What nobody subscribes to is not computed.
    """

    def __init__(
        self,
        node: Node,
        heads: Iterable[str],
        config: GroundingConfig,
        *,
        separates: bool = False,
        max_sources: int = 0,
    ) -> None:
        self._node = node
        self.config = config
        """May change at any time."""
        self.camera: Callable[[], CameraInfo | None] = lambda: None
        self.locator: PointLocator | None = None
        self.separated: SeparatedSound | None = None
        """Of the stream whose answers are written, where its model separates."""
        self.num_published = 0
        self.last_published_s: float | None = None
        self.age_ms = Recent()
        """From a frame's stamp to the moment its heatmaps were handed to the middleware."""
        self.is_clock_missing = False
        """Whether ages cannot be told, since the node follows a /clock that does not come."""
        # /diagnostics is the node's own, which has something to say in every state.
        topics = topics_of(
            heads, separates=separates and _has_audio_messages(), max_sources=max_sources
        )
        self._topics = {n: t for n, t in topics.items() if not n.startswith("/")}
        self._publishers = {n: self._publisher(topic) for n, topic in self._topics.items()}

    @property
    def incompatible(self) -> list[str]:
        """One line for each subscription of now whose QoS does not match."""
        return [
            line
            for publisher, profile in self._publishers.values()
            for line in mismatches(
                publisher.topic_name,
                self._node.get_subscriptions_info_by_topic(publisher.topic_name),
                profile,
                is_ours_publishing=True,
            )
        ]

    @property
    def is_wanted(self) -> bool:
        """Whether anybody subscribes to anything that has to be computed."""
        return any(map(self._is_wanted, self._publishers))

    def write(self, frame: Frame, grounding: Grounding) -> None:
        config, camera = self.config, self.camera()
        options = OutputOptions.of(config, frame.image.shape[:2])
        is_first = True
        for name, fields in encode_outputs(frame, grounding, options, camera, self._is_wanted):
            self._publish(name, fields)
            if is_first and grounding.heard_ns is None:
                # All heatmaps are handed over within a fraction of a millisecond.
                self._take_age(frame)
            is_first = False
        if is_first and grounding.heard_ns is None:
            self._take_age(frame)
        if self.locator is not None and camera is not None:
            self._write_points(frame, grounding, camera, options)
        if self.separated is not None:
            for name, fields in self.separated.after(frame, config.separation, self._is_wanted):
                self._publish(name, fields)
        self.num_published += 1
        self.last_published_s = time.monotonic()

    def close(self) -> None:
        """Nothing: the publishers outlive an activation, see `destroy`."""

    def destroy(self) -> None:
        """Give the publishers back."""
        publishers, self._publishers = self._publishers, {}
        for publisher, _ in publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def _take_age(self, frame: Frame) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        # A simulated clock that nobody sets stands at zero.
        self.is_clock_missing = now_ns == 0
        if now_ns:
            self.age_ms.add((now_ns - frame.stamp_ns) / NS_PER_MS)

    def _write_points(
        self, frame: Frame, grounding: Grounding, camera: CameraInfo, options: OutputOptions
    ) -> None:
        assert self.locator is not None
        for head, answer in grounding.heads.items():
            name = name_of("point", head)
            if not self._is_wanted(name):
                continue
            peaks = peaks_of(head, answer, frame.image.shape[:2], options.threshold(head), 1)
            if not peaks:
                continue
            located = self.locator.locate(
                frame, peaks[0], camera, self.config.target_frame, self.config.image_rectified
            )
            if located is not None:
                xyz_m, frame_id = located
                self._publish(name, point_fields(xyz_m, frame.stamp_ns, frame_id))

    def _is_wanted(self, name: str) -> bool:
        if name not in self._publishers:
            return False
        head = self._topics[name].head
        is_enabled = not head or self.config.head(head).enabled
        return is_enabled and self._publishers[name][0].get_subscription_count() > 0

    def _publish(self, name: str, fields: Fields) -> None:
        if name in self._publishers:
            self._publishers[name][0].publish(build(fields, get_message))

    def _publisher(self, topic: Topic) -> tuple[Any, QoSProfile]:
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=topic.depth,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.VOLATILE,
        )
        resolved = self._node.resolve_topic_name(topic.name)
        publisher = self._node.create_lifecycle_publisher(
            get_message(topic.type_name),
            topic.name,
            profile,
            event_callbacks=publisher_events(resolved),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        return publisher, profile


def _has_audio_messages() -> bool:
    """Whether ros-drivers' audio_common_msgs is there; said where it is not."""
    try:
        get_message(TOPICS["audio"].type_name)
    except (ImportError, AttributeError, LookupError, ValueError) as error:
        logger.warning(
            "no topic %s: audio_common_msgs of ros-drivers is missing (%s)", AUDIO, error
        )
        return False
    return True
