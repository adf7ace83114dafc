"""Pictures as messages: every encoding, padded rows, either byte order, damaged ones."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.transports.messages import (
    IMAGE_ENCODINGS,
    CameraInfo,
    MalformedCounter,
    MalformedMessage,
    camera_info_fields,
    compressed_image_fields,
    decode_camera_info,
    decode_compressed_image,
    decode_depth,
    decode_image,
    image_fields,
)
from tests.helpers import objects

STAMP_NS = 1_700_000_000_123_456_789


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def flat_picture(height, width, rgb):
    return np.broadcast_to(np.array(rgb, np.uint8), (height, width, 3)).copy()


def with_alpha(pixels):
    return np.dstack([pixels, np.full(pixels.shape[:2], 77, pixels.dtype)])


def yuv_row(image, order):
    """Full-range colours as video-range YUV 4:2:2 of a picture whose pixel pairs are alike."""
    r, g, b = (image[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    out = np.zeros((*image.shape[:2], 2))
    luma, chroma = (1, 0) if order == "uyvy" else (0, 1)
    out[..., luma] = y
    out[:, 0::2, chroma] = u[:, 0::2]
    out[:, 1::2, chroma] = v[:, 0::2]
    return np.rint(out).astype(np.uint8)


def encoded(image, encoding):
    """Independent of the code under test: pixels of `image` in an encoding."""
    swapped = image[..., ::-1]
    name = encoding.removesuffix("8").removesuffix("16")
    if encoding in ("8UC3", "8UC4"):
        name = "bgr" if encoding == "8UC3" else "bgra"
    if encoding in ("8UC1", "16UC1"):
        name = "mono"
    pixels = {"rgb": image, "bgr": swapped, "rgba": with_alpha(image), "bgra": with_alpha(swapped)}
    pixels["mono"] = image[..., :1]
    if encoding in ("yuv422", "uyvy"):
        return yuv_row(image, "uyvy")
    if encoding in ("yuv422_yuy2", "yuyv"):
        return yuv_row(image, "yuyv")
    result = pixels[name]
    if "16" in encoding:
        return result.astype(np.uint16) * 257
    return result


def message_of(image, encoding, padding=0, is_bigendian=0):
    pixels = encoded(image, encoding)
    if is_bigendian:
        pixels = pixels.byteswap()
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(image.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
    height, width = image.shape[:2]
    return objects.image(padded.tobytes(), encoding, height, width, padded.shape[1], is_bigendian)


EXACT = [name for name in IMAGE_ENCODINGS if not name.startswith(("bayer", "y", "u", "nv"))]
GREY = ("mono", "8UC1", "16UC1")


@pytest.mark.parametrize("encoding", EXACT)
@pytest.mark.parametrize("is_bigendian", [0, 1])
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 7),
    seed=st.integers(0, 9),
)
def test_every_exact_encoding_comes_back(encoding, is_bigendian, height, width, padding, seed):
    image = picture(height, width, seed)
    frame = decode_image(message_of(image, encoding, padding, is_bigendian))
    expected = np.repeat(image[..., :1], 3, axis=2) if encoding.startswith(GREY) else image
    assert frame.image.dtype == np.uint8
    np.testing.assert_array_equal(frame.image, expected)
    assert frame.stamp_ns == STAMP_NS
    assert frame.frame_id == "optical"


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
@pytest.mark.parametrize("rgb", [(250, 20, 30), (10, 240, 40), (30, 20, 230), (128, 128, 128)])
def test_yuv_keeps_colours(encoding, rgb):
    image = flat_picture(4, 6, rgb)
    decoded = decode_image(message_of(image, encoding, padding=3)).image
    assert np.abs(decoded.astype(int) - image).max() <= 4


@pytest.mark.parametrize(
    ("encoding", "red_at", "blue_at"),
    [
        ("bayer_rggb8", (0, 0), (1, 1)),
        ("bayer_bggr8", (1, 1), (0, 0)),
        ("bayer_gbrg8", (1, 0), (0, 1)),
        ("bayer_grbg8", (0, 1), (1, 0)),
    ],
)
def test_bayer_patterns_begin_where_their_name_says(encoding, red_at, blue_at):
    mosaic = np.full((12, 12), 120, np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    mosaic[blue_at[0] :: 2, blue_at[1] :: 2] = 40
    frame = decode_image(objects.image(mosaic.tobytes(), encoding, 12, 12, 12))
    np.testing.assert_array_equal(frame.image[4:8, 4:8], np.full((4, 4, 3), (200, 120, 40)))


def semi_planar(image, encoding, padding):
    """nv12 or nv21 of a flat picture, independent of the code under test: rows of both planes."""
    height, width = image.shape[:2]
    (y, u), (_, v) = yuv_row(image, "yuyv")[0, :2]
    rows = np.full((height * 3 // 2, width + padding), 0xEE, np.uint8)
    rows[:height, :width] = y
    rows[height:, 0:width:2], rows[height:, 1:width:2] = (u, v) if encoding == "nv12" else (v, u)
    return objects.image(rows.tobytes(), encoding, height, width, width + padding)


@pytest.mark.parametrize("encoding", ["nv12", "nv21", "NV12"])
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("rgb", [(250, 20, 30), (10, 240, 40), (30, 20, 230), (128, 128, 128)])
def test_two_planes_keep_colours(encoding, padding, rgb):
    image = flat_picture(4, 6, rgb)
    message = semi_planar(image, encoding.lower(), padding)
    message.encoding = encoding
    decoded = decode_image(message).image
    assert decoded.shape == (4, 6, 3)
    assert np.abs(decoded.astype(int) - image).max() <= 4


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"height": 3}, "size"), ({"width": 5}, "size"), ({"data": b"x" * 30}, "truncated")],
)
def test_two_planes_that_do_not_fit_are_named(change, kind):
    message = semi_planar(flat_picture(4, 6, (1, 2, 3)), "nv21", 0)
    vars(message).update(change)
    with pytest.raises(MalformedMessage) as caught:
        decode_image(message)
    assert caught.value.kind == kind


def test_rgb_is_a_view_of_the_message():
    message = message_of(picture(6, 5), "rgb8", padding=2)
    frame = decode_image(message)
    message.data[0] ^= 0xFF
    assert frame.image[0, 0, 0] == message.data[0]


@pytest.mark.parametrize("container", [bytes, list, np.array, memoryview])
def test_data_of_any_middleware(container):
    image = picture(3, 4)
    message = message_of(image, "rgb8")
    raw = bytes(message.data)
    message.data = np.frombuffer(raw, np.uint8) if container is np.array else container(raw)
    np.testing.assert_array_equal(decode_image(message).image, image)


def test_the_last_row_may_lack_its_padding():
    image = picture(3, 4)
    message = message_of(image, "bgr8", padding=5)
    message.data = message.data[:-5]
    np.testing.assert_array_equal(decode_image(message).image, image)
    message.data = message.data[:-1]
    with pytest.raises(MalformedMessage, match="bytes of image data"):
        decode_image(message)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"height": 0}, "size"),
        ({"width": 0}, "size"),
        ({"height": 40_000}, "size"),
        ({"height": 30_000, "width": 30_000, "step": 90_000}, "size"),
        ({"step": 11}, "step"),
        ({"step": 0}, "step"),
        ({"step": 4_000_000_000}, "truncated"),
        ({"height": 5}, "truncated"),
        ({"data": []}, "truncated"),
        ({"data": [300]}, "data"),
        ({"encoding": "h264"}, "encoding"),
        ({"encoding": ""}, "encoding"),
        ({"header": objects.header(-1)}, "stamp"),
    ],
)
def test_malformed_images_are_named(change, kind):
    message = message_of(picture(4, 4), "rgb8")
    vars(message).update(change)
    with pytest.raises(MalformedMessage) as caught:
        decode_image(message)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)


def test_yuv_needs_an_even_width():
    with pytest.raises(MalformedMessage, match="even"):
        decode_image(objects.image(bytes(30), "yuv422", 3, 5, 10))


@settings(max_examples=20)
@given(st.binary(max_size=64), st.integers(0, 5), st.integers(0, 5), st.integers(0, 20))
def test_random_bytes_never_crash(data, height, width, step):
    for encoding in IMAGE_ENCODINGS:
        try:
            frame = decode_image(objects.image(data, encoding, height, width, step))
        except MalformedMessage:
            continue
        assert frame.image.shape == (height, width, 3)


@pytest.mark.parametrize(
    ("encoding", "dtype", "unit"), [("32FC1", "f4", 1.0), ("16UC1", "u2", 1e-3)]
)
@pytest.mark.parametrize("order", "<>")
def test_depth_in_metres(encoding, dtype, unit, order):
    metres = np.array([[0.5, 1.25, 0.0], [3.0, 2.0, 9.875]])
    raw = (metres / unit).astype(order + dtype)
    message = objects.image(raw.tobytes(), encoding, 2, 3, raw.strides[0], int(order == ">"))
    np.testing.assert_allclose(decode_depth(message), metres, atol=1e-6)
    message.encoding = "rgb8"
    with pytest.raises(MalformedMessage, match="depth encoding"):
        decode_depth(message)


@settings(max_examples=10)
@given(st.sampled_from(["rgb8", "bgr8"]), st.integers(1, 8), st.integers(1, 8))
def test_image_fields_round_trip(encoding, height, width):
    image = picture(height, width)
    fields = image_fields(encoded(image, encoding), encoding, 7_000_000_009, "c")
    frame = decode_image(objects.as_object(fields))
    np.testing.assert_array_equal(frame.image, image)
    assert (frame.stamp_ns, frame.frame_id) == (7_000_000_009, "c")


def smooth_picture():
    y, x = np.mgrid[0:48, 0:64]
    return np.dstack([4 * x, 5 * y, 255 - 4 * x]).astype(np.uint8)


def test_jpeg_round_trip_keeps_colours():
    image = smooth_picture()
    fields = compressed_image_fields(image, 42, "c", quality=95)
    frame = decode_compressed_image(objects.as_object(fields))
    assert np.abs(frame.image.astype(int) - image).mean() < 3
    assert frame.stamp_ns == 42


def test_png_is_exact_and_padding_is_fine():
    image = smooth_picture()
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    frame = decode_compressed_image(objects.compressed(data + bytes(100), "png"))
    np.testing.assert_array_equal(frame.image, image)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_cut_off_files_are_named(suffix):
    data = cv2.imencode(suffix, picture(48, 64))[1].tobytes()
    for length in (0, 1, 9, 20, 40, len(data) // 2, len(data) - 9):
        with pytest.raises(MalformedMessage) as caught:
            decode_compressed_image(objects.compressed(data[:length]))
        assert caught.value.kind in ("truncated", "encoding", "damaged")


def test_a_picture_that_claims_a_silly_size_is_not_decoded():
    data = bytearray(cv2.imencode(".png", picture(8, 8))[1].tobytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(MalformedMessage, match="60000x60000"):
        decode_compressed_image(objects.compressed(bytes(data)))
    jpeg = bytearray(cv2.imencode(".jpg", picture(8, 8))[1].tobytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(MalformedMessage, match="65535x65535"):
        decode_compressed_image(objects.compressed(bytes(jpeg)))


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_random_files_never_crash(data):
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"):
        message = objects.compressed(start + data + b"\xff\xd9IEND")
        with pytest.raises(MalformedMessage):
            decode_compressed_image(message)


def test_compressed_depth_is_refused():
    with pytest.raises(MalformedMessage, match="compressedDepth"):
        decode_compressed_image(objects.compressed(b"\xff\xd8", "16UC1; compressedDepth png"))


def camera(**changes):
    values = {
        "height": 480,
        "width": 640,
        "k": np.array([[500.0, 0.0, 319.5], [0.0, 510.0, 239.5], [0.0, 0.0, 1.0]]),
        "p": np.array([[400.0, 0.0, 300.0, 0.0], [0.0, 410.0, 200.0, 0.0], [0.0, 0.0, 1.0, 0.0]]),
        "d": np.zeros(5),
        "r": np.eye(3),
    }
    return CameraInfo(**{**values, **changes})


def test_camera_info_round_trip():
    original = camera(d=np.array([0.1, -0.2, 0.001, 0.002, 0.05]))
    decoded = decode_camera_info(objects.as_object(camera_info_fields(original, 3, "optical")))
    for name in ("k", "p", "d", "r"):
        np.testing.assert_array_equal(getattr(decoded, name), getattr(original, name))
    assert (decoded.height, decoded.width, decoded.frame_id) == (480, 640, "optical")
    assert decoded.is_calibrated
    assert not camera(k=np.zeros((3, 3))).is_calibrated


def project(info, ray):
    x, y = cv2.projectPoints(ray[None], np.zeros(3), np.zeros(3), info.k, info.d)[0].ravel()
    return x, y


@settings(max_examples=20)
@given(st.floats(5, 630), st.floats(5, 470), st.booleans())
def test_a_ray_projects_back_onto_its_pixel(x_px, y_px, is_distorted):
    info = camera(d=np.array([-0.1, 0.02, 0.001, -0.001, 0.0]) * is_distorted)
    ray = info.ray(x_px, y_px)
    assert np.linalg.norm(ray) == pytest.approx(1.0)
    assert project(info, ray) == pytest.approx((x_px, y_px), abs=0.05)


def test_rays_of_rectified_images_follow_p():
    ray = camera(d=np.ones(5)).ray(300.0, 200.0, is_rectified=True)
    np.testing.assert_allclose(ray, [0, 0, 1])


@settings(max_examples=20)
@given(st.integers(1, 100), st.integers(1, 100), st.floats(0, 639), st.floats(0, 479))
def test_a_scaled_camera_sees_the_same_rays(height, width, x_px, y_px):
    info = camera()
    x_cell, y_cell = (x_px + 0.5) * width / 640 - 0.5, (y_px + 0.5) * height / 480 - 0.5
    scaled = info.scaled(height, width)
    assert (scaled.height, scaled.width) == (height, width)
    np.testing.assert_allclose(scaled.ray(x_cell, y_cell), info.ray(x_px, y_px), atol=1e-9)
    rectified = (info.ray(x_px, y_px, is_rectified=True), True)
    np.testing.assert_allclose(
        scaled.ray(x_cell, y_cell, is_rectified=rectified[1]), rectified[0], atol=1e-9
    )


def test_malformed_camera_info():
    message = objects.as_object(camera_info_fields(camera(), 3, "c"))
    message.k = message.k[:8]
    with pytest.raises(MalformedMessage, match="k of 8 values"):
        decode_camera_info(message)
    message = objects.as_object(camera_info_fields(camera(d=np.ones(3)), 3, "c"))
    with pytest.raises(MalformedMessage, match="3 coefficients"):
        decode_camera_info(message)


def test_malformed_messages_are_counted_by_kind(caplog):
    counter = MalformedCounter()
    for _ in range(3):
        counter.add("/image", MalformedMessage("step", "step of 1 byte"))
    counter.add("/image", ValueError("something else"))
    assert counter.total == 4
    assert counter.as_dict() == {"/image other": 1, "/image step": 3}
    assert sum("step of 1 byte" in record.getMessage() for record in caplog.records) == 1
    assert counter.last_message == "/image: something else"
