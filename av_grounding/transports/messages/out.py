"""What the component says: heatmaps, peaks, rays, scores and diagnostics as fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from av_grounding.files import brief
from av_grounding.transports.messages.fields import (
    Fields,
    as_array,
    header_fields,
    stamp_fields,
)
from av_grounding.transports.messages.image import image_fields, pixels_of
from av_grounding.transports.messages.peaks import Peak

_FULL_SCALE = {"mono8": (255, np.uint8), "mono16": (65535, np.uint16)}


def heatmap_fields(
    heatmap: Float32[np.ndarray, "h w"],
    stamp_ns: int,
    frame_id: str,
    encoding: str = "32FC1",
) -> Fields:
    """A heatmap as sensor_msgs/Image: absolute values, 0 to 1 (or to full scale), never NaN."""
    values = np.clip(np.nan_to_num(heatmap, nan=0.0), 0.0, 1.0)
    if encoding == "32FC1":
        values = values.astype("<f4")
    elif encoding in _FULL_SCALE:
        full_scale, dtype = _FULL_SCALE[encoding]
        values = np.rint(values * full_scale).astype(dtype)
    else:
        raise ValueError(f"heatmap encoding {encoding!r}: expected 32FC1, mono8 or mono16")
    return image_fields(values, encoding, stamp_ns, frame_id)


def decode_heatmap(message: Any) -> Float32[np.ndarray, "h w"]:
    """The heatmap in [0, 1] that `heatmap_fields` put into a sensor_msgs/Image."""
    dtype = {"32FC1": "f4", "mono8": "u1", "mono16": "u2"}.get(str(message.encoding))
    if dtype is None:
        raise ValueError(
            f"heatmap encoding {brief(message.encoding)}: expected 32FC1, mono8 or mono16"
        )
    values = pixels_of(message, dtype, 1)[..., 0].astype(np.float32)
    scale = _FULL_SCALE.get(str(message.encoding), (1, None))[0]
    return values if scale == 1 else values / np.float32(scale)


def point3(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Fields:
    return Fields("geometry_msgs/msg/Point", x=float(x), y=float(y), z=float(z))


def _pose(position: Fields, x: float, y: float, z: float, w: float) -> Fields:
    orientation = Fields(
        "geometry_msgs/msg/Quaternion", x=float(x), y=float(y), z=float(z), w=float(w)
    )
    return Fields("geometry_msgs/msg/Pose", position=position, orientation=orientation)


def _hypothesis(name: str, score: float) -> Fields:
    return Fields("vision_msgs/msg/ObjectHypothesis", class_id=name, score=float(score))


def peaks_fields(peaks: Sequence[Peak], stamp_ns: int, frame_id: str) -> Fields:
    """vision_msgs/Detection2DArray: class_id is the peak's name, boxes in pixels of the image.

    `id` is that of the peak's source.
    """
    header = header_fields(stamp_ns, frame_id)
    still = Fields(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=_pose(point3(), 0.0, 0.0, 0.0, 1.0),
        covariance=as_array(np.zeros(36), "d"),
    )

    def detection(peak: Peak) -> Fields:
        center = Fields(
            "vision_msgs/msg/Pose2D",
            position=Fields(
                "vision_msgs/msg/Point2D", x=float(peak.center_x_px), y=float(peak.center_y_px)
            ),
            theta=0.0,
        )
        box = Fields(
            "vision_msgs/msg/BoundingBox2D",
            center=center,
            size_x=float(peak.size_x_px),
            size_y=float(peak.size_y_px),
        )
        result = Fields(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=_hypothesis(peak.name, peak.score),
            pose=still,
        )
        return Fields(
            "vision_msgs/msg/Detection2D", header=header, results=[result], bbox=box, id=peak.id
        )

    return Fields(
        "vision_msgs/msg/Detection2DArray",
        header=header,
        detections=[detection(peak) for peak in peaks],
    )


def score_fields(head: str, score: float, stamp_ns: int, frame_id: str) -> Fields:
    """vision_msgs/Classification: the evidence behind a head's heatmap, in [0, 1]."""
    return Fields(
        "vision_msgs/msg/Classification",
        header=header_fields(stamp_ns, frame_id),
        results=[_hypothesis(head, score)],
    )


def rays_fields(rays: Sequence[Float64[np.ndarray, "3"]], stamp_ns: int, frame_id: str) -> Fields:
    """geometry_msgs/PoseArray at the camera's origin whose +x points along each unit vector."""
    poses = [_pose(point3(), *_rotation_of_x_onto(ray)) for ray in rays]
    return Fields(
        "geometry_msgs/msg/PoseArray", header=header_fields(stamp_ns, frame_id), poses=poses
    )


def _rotation_of_x_onto(ray: Float64[np.ndarray, "3"]) -> tuple[float, float, float, float]:
    """The shortest rotation that turns +x onto a unit vector, as a quaternion (x, y, z, w)."""
    ahead, across = float(ray[0]), float(ray[1]) ** 2 + float(ray[2]) ** 2
    if ahead < 0.0 and across < 1e-30:  # straight back: any half turn about an axis across x
        return 0.0, 0.0, 1.0, 0.0
    # 1 + x of a unit vector; the sum itself would lose all digits of one that points back.
    w = 1.0 + ahead if ahead >= 0.0 else across / (1.0 - ahead)
    quaternion = np.array([0.0, -float(ray[2]), float(ray[1]), w])
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return float(x), float(y), float(z), float(w)


def point_fields(
    xyz_m: Float64[np.ndarray, "3"] | Sequence[float], stamp_ns: int, frame_id: str
) -> Fields:
    """geometry_msgs/PointStamped of a position in metres in `frame_id`."""
    return Fields(
        "geometry_msgs/msg/PointStamped",
        header=header_fields(stamp_ns, frame_id),
        point=point3(*xyz_m),
    )


@dataclass(frozen=True)
class Status:
    """One line of /diagnostics; `level` is 0 OK, 1 WARN, 2 ERROR, 3 STALE."""

    name: str
    level: int = 0
    message: str = "ok"
    values: Mapping[str, Any] | None = None
    hardware_id: str = "av_grounding"


def diagnostics_fields(stamp_ns: int, statuses: Sequence[Status]) -> Fields:
    """diagnostic_msgs/DiagnosticArray; floats are written with 6 digits."""

    def text(value: Any) -> str:
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    def status_fields(status: Status) -> Fields:
        values = [
            Fields("diagnostic_msgs/msg/KeyValue", key=key, value=text(value))
            for key, value in (status.values or {}).items()
        ]
        return Fields(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=status.level,
            name=status.name,
            message=status.message,
            hardware_id=status.hardware_id,
            values=values,
        )

    header = Fields("std_msgs/msg/Header", stamp=stamp_fields(stamp_ns), frame_id="")
    return Fields(
        "diagnostic_msgs/msg/DiagnosticArray",
        header=header,
        status=[status_fields(status) for status in statuses],
    )
