"""A network camera whose pictures tell when they were taken, and which can misbehave."""

from __future__ import annotations

import http.server
import threading
import time

import cv2
import numpy as np

RATE_HZ = 15.0
NUM_BITS = 48
"""Milliseconds since 1970 as black and white cells, 6 rows of 8."""
GARBAGE = b"\xff\xd8" + b"this is no picture" * 40


def draw_time(time_ms: int, height: int = 240, width: int = 320) -> np.ndarray:
    """(height, width, 3) uint8: the bits of `time_ms`, highest first."""
    bits = [(time_ms >> bit) & 1 for bit in reversed(range(NUM_BITS))]
    cells = np.array(bits, np.uint8).reshape(6, 8) * 255
    image = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.repeat(image[..., None], 3, axis=2)


def read_time(image: np.ndarray) -> int:
    """The milliseconds that a picture shows, after JPEG too."""
    height, width = image.shape[:2]
    rows = (np.arange(6) + 0.5) * height / 6
    columns = (np.arange(8) + 0.5) * width / 8
    cells = image[rows.astype(int)][:, columns.astype(int)].mean(axis=2) > 127
    return int("".join("1" if cell else "0" for cell in cells.ravel()), 2)


class MjpegCamera:
    """Serves pictures of the moment at 15 Hz. What goes wrong is set from the test's thread.

    `is_stalled`: the connection stands and nothing comes. `is_garbled`: what comes is no JPEG.
    `size`: (height, width) of the pictures. `stop` and `start` are a power cut.
    """

    def __init__(self) -> None:
        self.is_stalled = False
        self.is_garbled = False
        self.size = (240, 320)
        self.num_sent = 0
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def start(self) -> None:
        camera, stopped = self, threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                due_s = time.monotonic()
                while not stopped.is_set():
                    # A camera skips what it could not send in time; it does not send it later.
                    due_s = max(due_s + 1 / RATE_HZ, time.monotonic())
                    if stopped.wait(due_s - time.monotonic()):
                        break
                    if not camera.is_stalled and not self.send_part(camera.part()):
                        break
                self.close_connection = True

            def send_part(self, part: bytes) -> bool:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}"
                try:
                    self.wfile.write(head.encode() + b"\r\n\r\n" + part + b"\r\n")
                except OSError:
                    return False
                camera.num_sent += 1
                return True

            def log_message(self, *_: object) -> None:
                pass

        self._stopped = stopped
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def part(self) -> bytes:
        if self.is_garbled:
            return GARBAGE
        image = draw_time(time.time_ns() // 1_000_000, *self.size)
        return cv2.imencode(".jpg", image)[1].tobytes()

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
