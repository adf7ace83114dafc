"""MJPEG over HTTP as cameras' firmware speaks it, which often is not quite multipart.

Pictures are found by their own bytes: part headers may come before the first boundary, boundaries
have dashes or none, and lengths are missing. What a part header says of the length is used.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from jaxtyping import UInt8

from av_grounding.image_header import check_if_known

BLOCK_BYTES = 1 << 16
MAX_PICTURE_BYTES = 1 << 25
END = b"\xff\xd9"
_BEGIN = re.compile(rb"\xff\xd8\xff")
_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,9})[ \t]*\r?\n", re.IGNORECASE)
# Neither a stuffed zero nor a restart, of which the coded pixels are full, nor filling.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_MAX_HEADER = 4096


class NotMjpeg(Exception):
    """The server answers, but not with pictures one after the other."""


class MjpegStream:
    """The pictures of a URL, in OpenCV's words: `grab` takes one, `retrieve` decodes it.

    So a picture that nobody wants costs no decoding. Raises NotMjpeg, or OSError where there is
    no connection.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.encoded = b""
        """The picture taken last, as the camera sent it."""
        self._timeout_s = timeout_s
        self._waiting = bytearray()
        self._is_lost = False
        try:
            self._response = _get(url, timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            raise NotMjpeg(f"status {error.code}") from error
        except (http.client.HTTPException, ValueError) as error:
            raise NotMjpeg(str(error)) from error
        kind = self._response.headers.get_content_maintype()
        if kind != "multipart":
            self.release()
            raise NotMjpeg(f"content type {kind}")

    def grab(self) -> bool:
        """Wait for the next picture; False, from then on, where none comes in time."""
        due_s = time.monotonic() + self._timeout_s
        while not self._is_lost:
            picture = self._cut()
            if picture is not None:
                self.encoded = picture
                return True
            try:
                block = self._response.read1(BLOCK_BYTES)
            except (OSError, ValueError, http.client.HTTPException):
                block = b""
            self._waiting += block
            self._is_lost = not block or time.monotonic() > due_s
        return False

    def retrieve(self) -> tuple[bool, UInt8[np.ndarray, "H W 3"] | None]:
        """Whether it decodes, and the picture as blue, green, red."""
        image = decode(self.encoded)
        return image is not None, image

    def release(self) -> None:
        self._is_lost = True
        self._response.close()

    def _cut(self) -> bytes | None:
        """The next picture out of what has come; None where it is not whole yet."""
        waiting = self._waiting
        begin = _BEGIN.search(waiting)
        if begin is None:
            del waiting[: max(0, len(waiting) - _MAX_HEADER)]
            return None
        lengths = _LENGTH.findall(waiting, max(0, begin.start() - _MAX_HEADER), begin.start())
        size = int(lengths[-1]) if lengths else 0
        stop = begin.start() + size
        if not 0 < size <= MAX_PICTURE_BYTES:
            stop = _end(waiting, begin.start())
        elif len(waiting) < stop:
            stop = None
        elif not _is_whole(bytes(waiting[begin.start() : stop])):
            # Its end is missing, or the length is wrong.
            is_between = waiting[stop : stop + 1] in (b"\r", b"\n", b"-")
            stop = stop if is_between else _end(waiting, begin.start())
        if stop is None:
            if len(waiting) > begin.start() + MAX_PICTURE_BYTES:
                del waiting[: begin.end()]
            return None
        picture = bytes(waiting[begin.start() : stop])
        del waiting[:stop]
        return picture


def decode(encoded: bytes) -> UInt8[np.ndarray, "H W 3"] | None:
    """A picture that was grabbed, as blue, green, red; None where it does not decode."""
    import cv2

    data = encoded if _is_whole(encoded) else encoded + END
    try:
        check_if_known(data, "picture")
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (ValueError, cv2.error):
        return None


def _is_whole(picture: bytes) -> bool:
    return picture.rstrip(b"\0\r\n").endswith(END)


def _end(data: bytearray, at: int) -> int | None:
    """Where the JPEG that begins at `at` ends: its own end, or the beginning of the next one."""
    at += 2
    while marker := _MARKER.search(data, at):
        kind = data[marker.start() + 1]
        if kind == END[1]:
            return marker.end()
        if kind == 0xD8:
            return marker.start()
        if marker.end() + 2 > len(data):
            return None
        # A segment, which may hold a thumbnail with an end of its own.
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return None


def _get(url: str, timeout_s: float) -> http.client.HTTPResponse:
    """The answer to a GET; a name and a password in the URL are given when they are asked for."""
    import ssl

    parts = urllib.parse.urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        given = (urllib.parse.unquote(word or "") for word in (parts.username, parts.password))
        passwords.add_password(None, plain, *given)
    # Cameras sign their certificates themselves; FFmpeg does not look at them either.
    context = ssl._create_unverified_context()
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
    )
    request = urllib.request.Request(plain, headers={"User-Agent": "av-grounding"})
    return opener.open(request, timeout=timeout_s)
