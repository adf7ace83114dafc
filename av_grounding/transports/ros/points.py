"""A peak in space: depth along its ray, and TF into the frame that was asked for."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from rclpy.duration import Duration
from rclpy.lifecycle import Node
from rclpy.time import Time

from av_grounding.transports.messages import (
    CameraInfo,
    MalformedCounter,
    Peak,
    decode_depth,
    stamp_ns_of,
)
from av_grounding.types import Frame

logger = logging.getLogger(__name__)
MAX_DEPTH_OFFSET_S = 0.15
"""How far a depth image's stamp may be from the frame's."""
NUM_DEPTH = 8
RADIUS_CELLS = 2
TF_PATIENCE_S = 0.06
"""How long a transform that is on its way is waited for, in the thread that publishes."""


class PointLocator:
    """Keeps the last depth images, which must be registered to the camera image, and TF.

    Where a point cannot be told, `missing` counts why, by reason.
    """

    def __init__(self, node: Node, malformed: MalformedCounter, needs_tf: bool) -> None:
        self.missing: Counter[str] = Counter()
        self._malformed = malformed
        self._topic = node.resolve_topic_name("depth")
        self._lock = threading.Lock()
        self._depths: deque[tuple[int, Any]] = deque(maxlen=NUM_DEPTH)
        self._buffer: Any = None
        self._listener: Any = None
        if needs_tf:
            from tf2_ros import Buffer, TransformListener

            self._buffer = Buffer(cache_time=Duration(seconds=10.0))
            self._listener = TransformListener(self._buffer, node, spin_thread=False)

    def put_depth(self, message: Any) -> None:
        """Keep a depth image; for the executor."""
        try:
            stamp_ns = stamp_ns_of(message.header.stamp)
        except ValueError as error:
            self._malformed.add(self._topic, error)
            return
        with self._lock:
            self._depths.append((stamp_ns, message))

    def close(self) -> None:
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None
        self._buffer = None
        with self._lock:
            self._depths.clear()

    def locate(
        self,
        frame: Frame,
        peak: Peak,
        camera: CameraInfo,
        target_frame: str,
        is_rectified: bool = False,
    ) -> tuple[Float64[np.ndarray, "3"], str] | None:
        """Position of a peak in metres and the frame it is in, or None (counted)."""
        if not camera.is_calibrated:
            return self._none("the camera is not calibrated")
        depth = self._depth_at(frame.stamp_ns)
        if depth is None:
            return self._none("no depth image near the frame's stamp")
        distance_m = median_depth(depth, peak, frame.image.shape[:2])
        if distance_m is None:
            return self._none("no depth at the peak")
        ray = camera.ray(peak.x_px, peak.y_px, is_rectified=is_rectified)
        # A depth image holds distances along the optical axis.
        point = ray * (distance_m / ray[2])
        if not target_frame or target_frame == frame.frame_id:
            return point, frame.frame_id
        transformed = self._transformed(point, target_frame, frame)
        return None if transformed is None else (transformed, target_frame)

    def _none(self, reason: str) -> None:
        self.missing[reason] += 1
        if self.missing[reason] == 1:
            logger.warning("no point: %s (said once; counted)", reason)

    def _depth_at(self, stamp_ns: int) -> Float32[np.ndarray, "H W"] | None:
        with self._lock:
            offsets = [(abs(stamp - stamp_ns), message) for stamp, message in self._depths]
        near = [item for item in offsets if item[0] <= MAX_DEPTH_OFFSET_S * 1e9]
        if not near:
            return None
        try:
            return decode_depth(min(near, key=lambda item: item[0])[1])
        except ValueError as error:
            self._malformed.add(self._topic, error)
            return None

    def _transformed(
        self, point: Float64[np.ndarray, "3"], target_frame: str, frame: Frame
    ) -> Float64[np.ndarray, "3"] | None:
        buffer = self._buffer
        if buffer is None:
            return self._none("target_frame was set after configure: clean up and configure again")
        from tf2_ros import TransformException

        stamp = Time(nanoseconds=frame.stamp_ns)
        gives_up_s = time.monotonic() + TF_PATIENCE_S
        while True:
            try:
                found = buffer.lookup_transform(target_frame, frame.frame_id, stamp).transform
                break
            except TransformException:
                if time.monotonic() >= gives_up_s:
                    return self._none(f"no transform from {frame.frame_id} to {target_frame}")
                time.sleep(0.01)
        return rotated(found.rotation, point) + np.array(
            [found.translation.x, found.translation.y, found.translation.z]
        )


def rotated(quaternion: Any, point: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3"]:
    """A point turned by a geometry_msgs/Quaternion of unit length."""
    axis = np.array([quaternion.x, quaternion.y, quaternion.z])
    twice = 2.0 * np.cross(axis, point)
    return point + quaternion.w * twice + np.cross(axis, twice)


def median_depth(
    depth: Float32[np.ndarray, "H W"], peak: Peak, image_size: tuple[int, int]
) -> float | None:
    """Median of the known depths around a peak in metres; None where none is known.

    `depth` shows the same view as the image of `image_size` (H, W), in any resolution.
    """
    rows, columns = depth.shape
    row = int((peak.y_px + 0.5) * rows / image_size[0])
    column = int((peak.x_px + 0.5) * columns / image_size[1])
    patch = depth[
        max(0, row - RADIUS_CELLS) : row + RADIUS_CELLS + 1,
        max(0, column - RADIUS_CELLS) : column + RADIUS_CELLS + 1,
    ]
    known = patch[np.isfinite(patch) & (patch > 0.0)]
    return float(np.median(known)) if known.size else None
