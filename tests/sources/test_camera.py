"""A camera over real HTTP: an MJPEG server of the standard library that can misbehave."""

from __future__ import annotations

import http.server
import itertools
import logging
import socket
import threading
import time

import cv2
import numpy as np
import pytest

from av_grounding.sources import camera as camera_module
from av_grounding.sources.camera import Camera
from av_grounding.types import EncodedFrame

COLORS = [(220, 30, 30), (30, 220, 30), (30, 30, 220)]
GARBAGE = b"\xff\xd8" + b"this is no picture" * 20


def solid(color: tuple[int, int, int], height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


class MjpegServer:
    """Serves pictures in turn as multipart/x-mixed-replace until `stop`."""

    def __init__(self, images: list[np.ndarray | bytes], port: int = 0) -> None:
        parts = [
            image
            if isinstance(image, bytes)
            else cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[
                1
            ].tobytes()
            for image in images
        ]
        stopped = self.stopped = threading.Event()
        self.num_clients = 0
        server_self = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server_self.num_clients += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for part in itertools.cycle(parts):
                        if stopped.wait(0.02):
                            break
                        head = (
                            f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}"
                        )
                        self.wfile.write(head.encode() + b"\r\n\r\n" + part + b"\r\n")
                except OSError:
                    pass
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/stream.mjpg"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def serve():
    servers: list[MjpegServer] = []

    def start(images, port: int = 0) -> MjpegServer:
        servers.append(MjpegServer(images, port))
        return servers[-1]

    yield start
    for server in servers:
        if not server.stopped.is_set():
            server.stop()


def nearest_color(image: np.ndarray) -> int:
    mean = image.reshape(-1, 3).mean(axis=0)
    distances = [np.abs(mean - color).max() for color in COLORS]
    assert min(distances) < 25
    return int(np.argmin(distances))


def decoded(camera):
    """Its frames, each decoded as it comes."""
    for frame in camera:
        if isinstance(frame, EncodedFrame):
            frame = frame.decode()
        if frame is not None:
            yield frame


def test_a_picture_that_is_replaced_is_never_decoded(serve, monkeypatch):
    from av_grounding.sources import camera as module

    asked = []
    decode = module.decode
    monkeypatch.setattr(module, "decode", lambda data: asked.append(1) or decode(data))
    camera = Camera(serve([solid(color) for color in COLORS]).url)
    frames = list(itertools.islice(camera, 9))
    camera.close()
    assert asked == []
    assert frames[-1].decode().stamp_ns == frames[-1].stamp_ns
    assert len(asked) == 1


def test_frames_are_rgb_in_order_and_stamped_when_read(serve):
    server = serve([solid(color) for color in COLORS])
    before_ns = time.time_ns()
    camera = Camera(server.url)
    frames = list(itertools.islice(decoded(camera), 9))
    camera.close()
    after_ns = time.time_ns()
    order = [nearest_color(frame.image) for frame in frames]
    assert order == [(order[0] + n) % 3 for n in range(9)]
    assert all(frame.image.shape == (120, 160, 3) for frame in frames)
    assert all(frame.image.flags.c_contiguous for frame in frames)
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(stamps)
    assert before_ns <= stamps[0]
    assert stamps[-1] <= after_ns
    assert camera.num_frames == 9
    assert frames[0].frame_id == "camera"


def test_a_damaged_picture_does_not_end_the_stream(serve):
    server = serve([solid(COLORS[0]), GARBAGE, b"", solid(COLORS[1]), solid(COLORS[2])])
    camera = Camera(server.url)
    frames = list(itertools.islice(decoded(camera), 12))
    camera.close()
    found = [nearest_color(frame.image) for frame in frames]
    assert set(found) == {0, 1, 2}
    assert len(found) == 12


def test_a_server_that_vanishes_and_returns(serve, caplog):
    caplog.set_level(logging.INFO)
    first = serve([solid(COLORS[0])])
    camera = Camera(first.url)
    stream = decoded(camera)
    assert nearest_color(next(stream).image) == 0
    second: list[MjpegServer] = []

    def restart() -> None:
        first.stop()
        time.sleep(1.0)
        second.append(serve([solid(COLORS[1], 60, 80)], first.port))

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    frame = next(frame for frame in stream if nearest_color(frame.image) == 1)
    thread.join()
    assert frame.image.shape == (60, 80, 3)
    assert camera.num_reconnects == 1
    camera.close()
    assert list(stream) == []
    lost = [r for r in caplog.records if "lost" in r.getMessage()]
    back = [r for r in caplog.records if "back after" in r.getMessage()]
    assert (len(lost), len(back)) == (1, 1)


def test_without_reconnect_the_end_is_the_end(serve):
    server = serve([solid(COLORS[0])])
    camera = Camera(server.url, reconnect=False)
    stream = decoded(camera)
    next(stream)
    server.stop()
    remaining = list(stream)
    assert all(nearest_color(frame.image) == 0 for frame in remaining)
    assert camera.num_reconnects == 0


def test_close_while_waiting_for_a_lost_camera(serve):
    server = serve([solid(COLORS[0])])
    camera = Camera(server.url)
    stream = decoded(camera)
    next(stream)
    server.stop()
    thread = threading.Thread(target=lambda: list(stream), daemon=True)
    thread.start()
    time.sleep(0.3)
    camera.close()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_unreachable_address_is_an_error_that_names_it():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=rf"127\.0\.0\.1:{port}/x.*MJPEG or RTSP"):
        Camera(f"http://127.0.0.1:{port}/x")


def test_unknown_index_lists_the_devices_there_are():
    with pytest.raises(FileNotFoundError, match="camera 97: no such device; there is ") as caught:
        Camera(97)
    for path in camera_module.list_cameras():
        assert path in str(caught.value)
    if not camera_module.list_cameras():
        assert "no /dev/video* at all" in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"camera /dev/video98"):
        Camera("/dev/video98")


def test_a_path_that_is_no_camera(tmp_path):
    (tmp_path / "video0").write_bytes(b"not a device")
    with pytest.raises(ConnectionError, match="does not deliver video"):
        Camera(str(tmp_path / "video0"))
