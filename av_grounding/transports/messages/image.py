"""Pictures: sensor_msgs Image and CompressedImage from and to NumPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.files import brief
from av_grounding.image_header import MAX_SIDE_PX
from av_grounding.transports.messages.fields import (
    Fields,
    MalformedMessage,
    as_array,
    as_bytes,
    header_fields,
    header_of,
)
from av_grounding.transports.messages.jpeg import coded_size
from av_grounding.types import Frame

MAX_NUM_PX = 1 << 27
"""134 megapixels: beyond any camera, and a decoded image of that size is 0.4 GB."""


class _Layout(NamedTuple):
    """How an encoding's pixels lie in memory, and the OpenCV conversion that makes them RGB."""

    dtype: str
    num_channels: int
    conversion: str | None


_LAYOUTS = {
    "rgb8": _Layout("u1", 3, None),
    "bgr8": _Layout("u1", 3, "COLOR_BGR2RGB"),
    "8UC3": _Layout("u1", 3, "COLOR_BGR2RGB"),
    "rgba8": _Layout("u1", 4, "COLOR_RGBA2RGB"),
    "bgra8": _Layout("u1", 4, "COLOR_BGRA2RGB"),
    "8UC4": _Layout("u1", 4, "COLOR_BGRA2RGB"),
    "mono8": _Layout("u1", 1, "COLOR_GRAY2RGB"),
    "8UC1": _Layout("u1", 1, "COLOR_GRAY2RGB"),
    "rgb16": _Layout("u2", 3, None),
    "bgr16": _Layout("u2", 3, "COLOR_BGR2RGB"),
    "rgba16": _Layout("u2", 4, "COLOR_RGBA2RGB"),
    "bgra16": _Layout("u2", 4, "COLOR_BGRA2RGB"),
    "mono16": _Layout("u2", 1, "COLOR_GRAY2RGB"),
    "16UC1": _Layout("u2", 1, "COLOR_GRAY2RGB"),
    "yuv422": _Layout("u1", 2, "COLOR_YUV2RGB_UYVY"),
    "uyvy": _Layout("u1", 2, "COLOR_YUV2RGB_UYVY"),
    "yuv422_yuy2": _Layout("u1", 2, "COLOR_YUV2RGB_YUY2"),
    "yuyv": _Layout("u1", 2, "COLOR_YUV2RGB_YUY2"),
    # OpenCV names a Bayer pattern by its second row, ROS by its first.
    "bayer_rggb8": _Layout("u1", 1, "COLOR_BayerBG2RGB"),
    "bayer_bggr8": _Layout("u1", 1, "COLOR_BayerRG2RGB"),
    "bayer_gbrg8": _Layout("u1", 1, "COLOR_BayerGR2RGB"),
    "bayer_grbg8": _Layout("u1", 1, "COLOR_BayerGB2RGB"),
}
# A plane of luma, then one of half the height whose octets alternate between both chromas.
_SEMI_PLANAR = {"nv12": "COLOR_YUV2RGB_NV12", "nv21": "COLOR_YUV2RGB_NV21"}
_DEPTH_UNITS_M = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 1e-3), "mono16": ("u2", 1e-3)}
IMAGE_ENCODINGS = (*_LAYOUTS, *_SEMI_PLANAR)


def decode_image(message: Any) -> Frame:
    """A sensor_msgs/Image as a Frame; rgb8 without a copy, also with padded rows.

    16-bit samples keep their upper 8 bits. Raises MalformedMessage.
    """
    stamp_ns, frame_id = header_of(message)
    encoding = str(message.encoding)
    if encoding.lower() in _SEMI_PLANAR:
        return Frame(_semi_planar(message, encoding.lower()), stamp_ns, frame_id)
    layout = _LAYOUTS.get(encoding) or _LAYOUTS.get(encoding.lower())
    if layout is None:
        raise MalformedMessage(
            "encoding",
            f"image encoding {brief(encoding)}: expected one of {', '.join(IMAGE_ENCODINGS)}; "
            "convert it with image_proc or set the camera driver's pixel format",
        )
    pixels = pixels_of(message, layout.dtype, layout.num_channels)
    if pixels.shape[2] == 2 and pixels.shape[1] % 2:
        raise MalformedMessage(
            "size", f"{encoding} image {pixels.shape[1]} pixels wide: expected an even width"
        )
    if pixels.dtype.itemsize == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    if layout.conversion is not None:
        import cv2

        # Rows of any step are fine with OpenCV, overlapping or swapped ones do not occur here.
        pixels = cv2.cvtColor(pixels, getattr(cv2, layout.conversion))
    return Frame(pixels, stamp_ns, frame_id)


def _semi_planar(message: Any, encoding: str) -> UInt8[np.ndarray, "H W 3"]:
    """RGB of 4:2:0; `height` counts the picture's rows, those of the chroma lie below them."""
    height, width = int(message.height), int(message.width)
    if height % 2 or width % 2:
        raise MalformedMessage(
            "size", f"{encoding} image of {width}x{height} pixels: expected even numbers"
        )
    planes = pixels_of(message, "u1", 1, num_rows=height * 3 // 2)
    import cv2

    return cv2.cvtColor(planes, getattr(cv2, _SEMI_PLANAR[encoding]))


def decode_depth(message: Any) -> Float32[np.ndarray, "H W"]:
    """A depth image in metres (32FC1 metres, 16UC1 millimetres); 0 or NaN where unknown."""
    encoding = str(message.encoding)
    if encoding not in _DEPTH_UNITS_M:
        raise MalformedMessage(
            "encoding", f"depth encoding {brief(encoding)}: expected 32FC1 (m) or 16UC1 (mm)"
        )
    dtype, unit_m = _DEPTH_UNITS_M[encoding]
    depth = pixels_of(message, dtype, 1)[..., 0].astype(np.float32)
    return depth if unit_m == 1.0 else depth * np.float32(unit_m)


def pixels_of(
    message: Any, dtype: str, num_channels: int, num_rows: int | None = None
) -> np.ndarray:
    """(H, W, c) of an Image's data: a view unless samples are in the other byte order.

    `num_rows`: H where the data has more rows than the picture.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    check_size(height, width)
    height = num_rows or height
    item = np.dtype((">" if message.is_bigendian else "<") + dtype)
    row = width * num_channels * item.itemsize
    if step < row:
        raise MalformedMessage(
            "step", f"step of {step} bytes: a row of {width} {message.encoding} pixels has {row}"
        )
    data = as_bytes(message.data)
    # Some drivers leave the padding of the last row out.
    if data.size < step * (height - 1) + row:
        raise MalformedMessage(
            "truncated",
            f"{data.size} bytes of image data: expected {step * height} ({height} rows of {step})",
        )
    if not data.flags.c_contiguous:
        data = np.ascontiguousarray(data)
    strides = (step, num_channels * item.itemsize, item.itemsize)
    pixels = np.ndarray((height, width, num_channels), item, data, strides=strides)
    return pixels if item.isnative else pixels.astype(item.newbyteorder("="))


def check_size(height: int, width: int) -> None:
    is_sane = 0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX
    if not is_sane or height * width > MAX_NUM_PX:
        raise MalformedMessage(
            "size",
            f"image of {width}x{height} pixels: expected 1 to {MAX_SIDE_PX} a side and at most "
            f"{MAX_NUM_PX} in all",
        )


def decode_compressed_image(message: Any) -> Frame:
    """A sensor_msgs/CompressedImage holding JPEG or PNG as a Frame.

    A damaged file is malformed, although OpenCV would paint what it has. Raises MalformedMessage.
    """
    stamp_ns, frame_id = header_of(message)
    data = as_bytes(message.data)
    if "compressedDepth" in str(message.format):
        raise MalformedMessage("encoding", "compressedDepth is no picture: subscribe to an image")
    size = coded_size(data)
    import cv2

    # Where OpenCV can decode to RGB, no second image is needed.
    to_rgb = getattr(cv2, "IMREAD_COLOR_RGB", None)
    kind = cv2.IMREAD_COLOR if to_rgb is None else to_rgb
    try:
        image = cv2.imdecode(data, kind | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise MalformedMessage("damaged", f"{data.size} bytes of image: {error}") from None
    if image is None or image.shape[:2] != size:
        raise MalformedMessage("damaged", f"{data.size} bytes that do not decode as JPEG or PNG")
    if to_rgb is None:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return Frame(image, stamp_ns, frame_id)


def image_fields(pixels: np.ndarray, encoding: str, stamp_ns: int, frame_id: str) -> Fields:
    """(H, W) or (H, W, c) pixels that already are what `encoding` says, as sensor_msgs/Image."""
    pixels = np.ascontiguousarray(pixels)
    if pixels.dtype.byteorder == ">":
        pixels = pixels.astype(pixels.dtype.newbyteorder("<"))
    height, width = pixels.shape[:2]
    return Fields(
        "sensor_msgs/msg/Image",
        header=header_fields(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // height,
        data=as_array(pixels),
    )


def compressed_image_fields(
    image: UInt8[np.ndarray, "H W 3"], stamp_ns: int, frame_id: str, quality: int = 85
) -> Fields:
    """An RGB image as a sensor_msgs/CompressedImage in JPEG."""
    import cv2

    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    is_coded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert is_coded
    return Fields(
        "sensor_msgs/msg/CompressedImage",
        header=header_fields(stamp_ns, frame_id),
        format="rgb8; jpeg compressed bgr8",
        data=as_array(data),
    )
