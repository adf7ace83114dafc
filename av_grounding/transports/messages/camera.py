"""The camera: sensor_msgs CameraInfo from and to NumPy, and the rays of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from av_grounding.files import brief
from av_grounding.transports.messages.fields import (
    Fields,
    MalformedMessage,
    as_array,
    header_fields,
    header_of,
)
from av_grounding.transports.messages.image import check_size

MAX_CALIBRATION = 1e9
MIN_FOCAL_PX = 1e-3
"""A focal length below this is none: by convention an uncalibrated camera says 0."""


@dataclass(frozen=True)
class CameraInfo:
    """A calibrated pinhole camera: what of sensor_msgs/CameraInfo rays and scaling need."""

    height: int
    width: int
    k: Float64[np.ndarray, "3 3"]
    p: Float64[np.ndarray, "3 4"]
    d: Float64[np.ndarray, " n"]
    r: Float64[np.ndarray, "3 3"]
    distortion_model: str = "plumb_bob"
    frame_id: str = "camera"

    @property
    def is_calibrated(self) -> bool:
        """Whether K says where rays go."""
        return bool(self.k[0, 0] > MIN_FOCAL_PX and self.k[1, 1] > MIN_FOCAL_PX)

    def scaled(self, height: int, width: int) -> CameraInfo:
        """The same camera with an image of another size; pixel centres at whole numbers."""
        x, y = width / self.width, height / self.height
        scale = np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])
        return CameraInfo(
            *(height, width, scale @ self.k, scale @ self.p, self.d, self.r),
            *(self.distortion_model, self.frame_id),
        )

    def ray(
        self, x_px: int | float, y_px: int | float, *, is_rectified: bool = False
    ) -> Float64[np.ndarray, "3"]:
        """Unit vector from the camera through a pixel, in the optical frame (x right, z ahead).

        `is_rectified`: the pixel is one of the rectified image, which P describes.
        """
        if is_rectified and min(self.p[0, 0], self.p[1, 1]) > MIN_FOCAL_PX:
            x, y = (x_px - self.p[0, 2]) / self.p[0, 0], (y_px - self.p[1, 2]) / self.p[1, 1]
        else:
            x, y = self._undistorted(float(x_px), float(y_px))
        direction = np.array([x, y, 1.0])
        return direction / np.linalg.norm(direction)

    def _undistorted(self, x_px: float, y_px: float) -> tuple[float, float]:
        y = (y_px - self.k[1, 2]) / self.k[1, 1]
        x = (x_px - self.k[0, 2] - self.k[0, 1] * y) / self.k[0, 0]
        if not self.d.any():
            return x, y
        import cv2

        point = np.array([[[x_px, y_px]]])
        if self.distortion_model in ("equidistant", "fisheye"):
            point = cv2.fisheye.undistortPoints(point, self.k, self.d[:4])
        else:
            point = cv2.undistortPoints(point, self.k, self.d)
        # Coefficients of no real lens have no inverse there: the pinhole's answer must do.
        is_sane = bool((np.abs(point) < MAX_CALIBRATION).all())
        return (float(point[0, 0, 0]), float(point[0, 0, 1])) if is_sane else (x, y)


def decode_camera_info(message: Any) -> CameraInfo:
    """A sensor_msgs/CameraInfo; look at `is_calibrated` before rays are asked of it."""
    _, frame_id = header_of(message)
    height, width = int(message.height), int(message.width)
    check_size(height, width)
    matrices = {}
    for name, shape in (("k", (3, 3)), ("p", (3, 4)), ("r", (3, 3)), ("d", (-1,))):
        values = np.asarray(getattr(message, name), np.float64)
        is_sane = bool((np.abs(values) < MAX_CALIBRATION).all())
        if (shape != (-1,) and values.size != np.prod(shape)) or not is_sane:
            raise MalformedMessage(
                "camera_info",
                f"{name} of {values.size} values: expected {shape}, all below {MAX_CALIBRATION:g}",
            )
        matrices[name] = values.reshape(shape)
    model = str(message.distortion_model) or "plumb_bob"
    valid = (4,) if model in ("equidistant", "fisheye") else (0, 4, 5, 8, 12, 14)
    if matrices["d"].any() and matrices["d"].size not in valid:
        raise MalformedMessage(
            "camera_info",
            f"{matrices['d'].size} coefficients of {brief(model)}: expected one of {valid}",
        )
    return CameraInfo(
        *(height, width, matrices["k"], matrices["p"], matrices["d"], matrices["r"]),
        *(model, frame_id),
    )


def camera_info_fields(camera: CameraInfo, stamp_ns: int, frame_id: str) -> Fields:
    roi = Fields(
        "sensor_msgs/msg/RegionOfInterest",
        **dict.fromkeys(("x_offset", "y_offset", "height", "width"), 0),
        do_rectify=False,
    )
    return Fields(
        "sensor_msgs/msg/CameraInfo",
        header=header_fields(stamp_ns, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        **{name: as_array(getattr(camera, name), "d") for name in ("d", "k", "r", "p")},
        binning_x=0,
        binning_y=0,
        roi=roi,
    )
