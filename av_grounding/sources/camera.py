"""Cameras and network video, opened again when they vanish."""

from __future__ import annotations

import errno
import glob
import logging
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from av_grounding.sources.backlog import Backlog
from av_grounding.sources.mjpeg import MjpegStream, NotMjpeg, decode
from av_grounding.types import EncodedFrame, Frame

if TYPE_CHECKING:
    import cv2

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 1.0  # it is there again within two seconds of its return
# A network camera that says nothing for this long is taken as lost.
NETWORK_TIMEOUT_MS = 3000
# A driver may skip a damaged frame; only a run of failures means that the camera is gone.
MAX_READ_FAILURES = 3


class Camera:
    """Frames of a camera index, a device path, or an http(s) or rtsp URL (MJPEG, H.264).

    A frame is stamped with the system clock when the driver hands it over, and one of MJPEG is
    decoded when it is asked for, so that replaced ones cost nothing (`EncodedFrame`). Frames that
    waited while this process did not run are left out (`num_old`). After a loss the camera is
    opened again with growing pauses until `close` (`reconnect`), else the iteration ends. A video
    stream that changes its size is scaled to the first one until it is opened again; MJPEG is
    not. An index may name another device after replugging; /dev/v4l/by-id/… paths do not.

    Raises FileNotFoundError (listing the devices there are), PermissionError or ConnectionError.
    """

    def __init__(
        self, which: int | str = 0, *, reconnect: bool = True, frame_id: str = "camera"
    ) -> None:
        self.which = which
        self.reconnect = reconnect
        self.frame_id = frame_id
        self.num_frames = 0
        self.num_reconnects = 0
        self.num_old = 0
        self.num_unreadable = 0
        """Pictures of an MJPEG stream that could not be decoded when their turn came."""
        self._backlog = Backlog()
        self._closed = threading.Event()
        self._driver = threading.Lock()  # OpenCV captures are not safe to share
        capture = _open(which)
        if capture is None:
            raise _open_error(which)
        self._capture: cv2.VideoCapture | MjpegStream | None = capture
        self.frame_rate_hz = _frame_rate_hz(capture)

    def __iter__(self) -> Iterator[Frame | EncodedFrame]:
        try:
            while not self._closed.is_set():
                with self._driver:
                    frame = self._read()
                if frame is not None:
                    yield frame
                elif not self._recover():
                    return
        finally:
            with self._driver:
                self._release()

    def close(self) -> None:
        """End the iteration, also from another thread; a read in progress frees the device."""
        self._closed.set()
        if self._driver.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._driver.release()

    def _read(self) -> Frame | EncodedFrame | None:
        num_failures = 0
        while num_failures < MAX_READ_FAILURES:
            if self._closed.is_set() or self._capture is None:
                return None
            delivered = self._capture.grab()
            stamp_ns = time.time_ns()
            if delivered and self._backlog.holds(time.monotonic()):
                self.num_old += 1
                continue
            if delivered and isinstance(self._capture, MjpegStream):
                self.num_frames += 1
                encoded = self._capture.encoded
                return EncodedFrame(stamp_ns, partial(self._decoded, encoded, stamp_ns))
            if delivered:
                delivered, image = self._capture.retrieve()
            num_failures += 1
            if delivered and image is not None and image.size:
                self.num_frames += 1
                return self._frame(image, stamp_ns)
        return None

    def _frame(self, image: np.ndarray, stamp_ns: int) -> Frame:
        return Frame(np.ascontiguousarray(image[..., ::-1]), stamp_ns, self.frame_id)

    def _decoded(self, encoded: bytes, stamp_ns: int) -> Frame | None:
        image = decode(encoded)
        if image is None:
            self.num_unreadable += 1
            if self.num_unreadable == 1:
                logger.warning("camera %s: a picture cannot be decoded; counted", self.which)
            return None
        return self._frame(image, stamp_ns)

    def _recover(self) -> bool:
        with self._driver:
            self._release()
        if self._closed.is_set():
            return False
        if not self.reconnect:
            logger.warning("camera %s: no more frames", self.which)
            return False
        logger.warning("camera %s: lost; trying to open it again", self.which)
        lost_s = time.monotonic()
        backoff_s = FIRST_BACKOFF_S
        while not self._closed.wait(backoff_s):
            capture = _open(self.which)
            if capture is not None:
                self._capture = capture
                self.num_reconnects += 1
                gap_s = time.monotonic() - lost_s
                logger.warning("camera %s: back after %.1f s", self.which, gap_s)
                return True
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
        return False

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def list_cameras() -> list[str]:
    """Device paths of the video devices that exist."""
    return sorted(glob.glob("/dev/video*"), key=lambda path: (len(path), path))


def _is_url(which: int | str) -> bool:
    return isinstance(which, str) and "://" in which


def _open(which: int | str) -> cv2.VideoCapture | MjpegStream | None:
    import cv2

    if _is_url(which) and which.startswith("http"):
        try:
            return MjpegStream(which, NETWORK_TIMEOUT_MS / 1000)
        except NotMjpeg:
            pass  # another kind of video, which FFmpeg knows
        except OSError:
            return None
    # A failed try is reported by this module; OpenCV's own lines would repeat at every retry.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if _is_url(which):
            timeouts = [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, NETWORK_TIMEOUT_MS),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, NETWORK_TIMEOUT_MS),
            ]
            capture = cv2.VideoCapture(which, cv2.CAP_FFMPEG, timeouts)
        else:
            capture = cv2.VideoCapture(which, cv2.CAP_V4L2)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not a queue of old ones
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if capture.isOpened():
        return capture
    capture.release()
    return None


def _open_error(which: int | str) -> OSError:
    if _is_url(which):
        return ConnectionError(
            f"camera {which}: no video came within {NETWORK_TIMEOUT_MS / 1000:.0f} s; expected an "
            "MJPEG or RTSP stream: check the address with ffprobe or a browser"
        )
    path = f"/dev/video{which}" if isinstance(which, int) else which
    found = ", ".join(list_cameras()) or "no /dev/video* at all: is a camera plugged in?"
    if not os.path.exists(path):
        return FileNotFoundError(errno.ENOENT, f"camera {which}: no such device; there is {found}")
    if not os.access(path, os.R_OK | os.W_OK):
        return PermissionError(
            errno.EACCES,
            f"camera {path}: not permitted; sudo usermod -aG video $USER, log in again",
        )
    return ConnectionError(
        f"camera {path}: does not deliver video (in use by another program, or a metadata "
        f"device); there is {found}"
    )


def _frame_rate_hz(capture: cv2.VideoCapture | MjpegStream) -> float:
    import cv2

    if isinstance(capture, MjpegStream):
        return 0.0
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 1.0 <= rate <= 240.0 else 0.0
