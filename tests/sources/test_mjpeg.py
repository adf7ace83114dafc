"""MJPEG in the ways that firmwares speak it: every picture comes, whole, in order and at once."""

import socket
import threading
import time

import cv2
import numpy as np
import pytest

from av_grounding.sources.camera import Camera
from av_grounding.sources.mjpeg import MjpegStream, NotMjpeg

BOUNDARY = "123456789000000000000987654321"
LEVELS = (40, 90, 140, 190, 240)
PERIOD_S = 0.05


def jpeg(level: int) -> bytes:
    return cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes()


def without_tables(picture: bytes) -> bytes:
    """As webcams send it: decoders know the usual Huffman tables."""
    kept, at = picture[:2], 2
    while picture[at + 1] != 0xDA:
        size = 2 + int.from_bytes(picture[at + 2 : at + 4], "big")
        kept += b"" if picture[at + 1] == 0xC4 else picture[at : at + size]
        at += size
    return kept + picture[at:]


def with_thumbnail(picture: bytes) -> bytes:
    """A picture in the picture, whose end is not the end."""
    exif = b"Exif\0\0" + jpeg(10)
    return picture[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + picture[2:]


def head(size: int | None, newline: bytes = b"\r\n") -> bytes:
    length = b"" if size is None else b"Content-Length: %d%s" % (size, newline)
    return b"Content-Type: image/jpeg" + newline + length + newline


def plain(picture: bytes) -> bytes:
    return b"--%s\r\n" % BOUNDARY.encode() + head(len(picture)) + picture + b"\r\n"


WAYS = {
    "as it should be": plain,
    "the boundary begins the next part": lambda p: b"\r\n" + plain(p)[:-2],
    "part header before the first boundary": lambda p: (
        head(len(p)) + p + b"\r\n--%s\r\n" % BOUNDARY.encode()
    ),
    "text before the first part": lambda p: b"welcome to the camera\r\n\r\n" + plain(p),
    "boundary without dashes": lambda p: plain(p)[2:],
    "no length": lambda p: plain(p).replace(head(len(p)), head(None)),
    "no length, a thumbnail": lambda p: plain(with_thumbnail(p)).replace(
        head(len(with_thumbnail(p))), head(None)
    ),
    "line feeds alone": lambda p: b"--%s\n" % BOUNDARY.encode() + head(len(p), b"\n") + p + b"\n",
    "small letters": lambda p: plain(p).replace(head(len(p)), head(len(p)).lower()),
    "no end of the picture": lambda p: plain(p[:-2]),
    "no length and no end": lambda p: plain(p[:-2]).replace(head(len(p) - 2), head(None)),
    "zeros behind the picture": lambda p: plain(p + bytes(512)),
    "a length too short": lambda p: plain(p).replace(head(len(p)), head(len(p) - 40)),
    "a length too long": lambda p: plain(p).replace(head(len(p)), head(len(p) + 40)),
    "no Huffman tables": lambda p: plain(without_tables(p)),
}
TYPES = {
    "plain": f"boundary={BOUNDARY}",
    "quoted": f'boundary="{BOUNDARY}"',
    "with dashes": f"boundary=--{BOUNDARY}",
    "none": "",
}


@pytest.fixture
def serve():
    """A function that serves parts for ever, as bytes, and returns the URL."""
    stopped, threads = threading.Event(), []

    def start(parts, content_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}", chunks=False):
        server = socket.create_server(("127.0.0.1", 0))

        def answer():
            with server, server.accept()[0] as client:
                client.recv(4096)
                coding = "Transfer-Encoding: chunked\r\n" if chunks else ""
                client.sendall(
                    f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{coding}\r\n".encode()
                )
                number = 0
                while not stopped.wait(PERIOD_S):
                    part = parts[number % len(parts)]
                    part = b"%x\r\n%s\r\n" % (len(part), part) if chunks else part
                    try:
                        client.sendall(part)
                    except OSError:
                        return
                    number += 1

        threads.append(threading.Thread(target=answer, daemon=True))
        threads[-1].start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield start
    stopped.set()
    for thread in threads:
        thread.join(10)


def check_all_come(url, num=12):
    """Each one, without waiting for the next but where a picture has no end."""
    stream, found = MjpegStream(url, 3.0), []
    for _ in range(num):
        assert stream.grab()
        is_fine, image = stream.retrieve()
        assert is_fine
        assert image.shape == (48, 64, 3)
        found.append(int(image[24, 32].mean()))
    stream.release()
    np.testing.assert_allclose(found, [LEVELS[n % len(LEVELS)] for n in range(num)], atol=2)


def test_a_camera_takes_them(serve):
    part = WAYS["part header before the first boundary"](jpeg(90))
    camera = Camera(serve([part]))
    frame = next(iter(camera)).decode()
    camera.close()
    assert abs(int(frame.image.mean()) - 90) <= 1
    assert camera.num_reconnects == 0


@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_picture_comes(serve, way, chunks):
    check_all_come(serve([WAYS[way](jpeg(level)) for level in LEVELS], chunks=chunks))


@pytest.mark.parametrize("way", TYPES)
def test_whatever_the_boundary_is_called(serve, way):
    kind = f"multipart/x-mixed-replace; {TYPES[way]}".rstrip("; ")
    check_all_come(serve([plain(jpeg(level)) for level in LEVELS], kind))


def test_a_picture_cut_into_small_blocks_is_one(serve):
    data = b"".join(plain(jpeg(level)) for level in LEVELS)
    blocks = [data[at : at + 97] for at in range(0, len(data), 97)]
    stream = MjpegStream(serve(blocks, chunks=True), 3.0)
    assert stream.grab()
    assert stream.encoded == jpeg(LEVELS[0])
    is_fine, image = stream.retrieve()
    assert is_fine
    assert abs(int(image.mean()) - LEVELS[0]) <= 1
    stream.release()
    assert not stream.grab()


def test_silence_ends_within_its_time_and_for_good(serve):
    stream = MjpegStream(serve([b""]), 0.3)
    began_s = time.monotonic()
    assert not stream.grab()
    assert not stream.grab()
    assert time.monotonic() - began_s < 2.0
    stream.release()


def test_what_is_no_stream_of_pictures_is_left_to_others(serve):
    with pytest.raises(NotMjpeg, match="content type video"):
        MjpegStream(serve([b""], "video/mp4"), 3.0)


@pytest.mark.parametrize("kind", ["Basic", "Digest"])
def test_a_name_and_a_password_are_given_when_asked_for(kind):
    import http.server

    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Authorization"))
            if asked[-1] is None:
                self.send_response(401)
                self.send_header(
                    "WWW-Authenticate", f'{kind} realm="camera", nonce="5", qop="auth"'
                )
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            self.end_headers()
            self.wfile.write(plain(jpeg(90)))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        stream = MjpegStream(f"http://ad%40min:pass@127.0.0.1:{server.server_address[1]}/", 3.0)
        assert stream.grab()
        stream.release()
        server.shutdown()
    assert asked[0] is None
    assert asked[1].startswith(kind)
    assert kind == "Digest" or asked[1] == "Basic YWRAbWluOnBhc3M="
