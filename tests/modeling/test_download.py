"""Downloads against a real local server that breaks off, changes the file or refuses."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from av_grounding.modeling import download as module
from av_grounding.modeling.download import download

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


class Server(ThreadingHTTPServer):
    """Serves `content` under any path; breaks off after `cuts` bytes, one entry a request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.cuts, self.code = CONTENT, '"one"', [], None
        self.has_ranges = True
        self.ranges = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hub/weights.bin?sig=1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.code:
            self.send_error(server.code)
            return
        start = 0
        is_part = wanted and server.has_ranges and self.headers["If-Range"] == server.etag
        if is_part:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(server.content)}")
                self.end_headers()
                return
        body = server.content[start:]
        self.send_response(206 if is_part else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.etag)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body if cut is None else body[:cut])


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_broken_line_is_continued_where_it_broke(server, tmp_path):
    server.cuts = [1_200_000, 0, 500_000]
    steps = []
    path = download(server.url, tmp_path / "a" / "w", lambda *s: steps.append(s), pause_s=0)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1200000-", "bytes=1200000-", "bytes=1700000-"]
    assert steps[-1] == (3_000_000, 3_000_000)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert [p.name for p in path.parent.iterdir()] == ["w"]
    download(server.url, path)
    assert len(server.ranges) == 4  # What is there is not fetched again.


def test_an_interrupted_program_continues_and_a_whole_partial_is_taken(server, tmp_path):
    def interrupt(done, total):
        if done >= 2 << 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path / "w", interrupt)
    assert not (tmp_path / "w").exists()
    (tmp_path / "w.partial").write_bytes(CONTENT)
    download(server.url, tmp_path / "w", pause_s=0)
    assert server.ranges[1] == "bytes=3000000-"
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_changed_file_is_fetched_anew(server, tmp_path):
    server.cuts = [1_000_000]
    other = bytes(reversed(CONTENT))

    def change(done, total):
        server.content, server.etag = other, '"two"'

    download(server.url, tmp_path / "w", change, pause_s=0)
    assert (tmp_path / "w").read_bytes() == other


def test_a_server_without_ranges_is_asked_for_all(server, tmp_path):
    server.has_ranges, server.cuts = False, [1_000_000]
    download(server.url, tmp_path / "w", pause_s=0)
    assert hashlib.sha256((tmp_path / "w").read_bytes()).digest() == (
        hashlib.sha256(CONTENT).digest()
    )


def test_what_does_not_come_is_an_error_with_a_remedy(server, tmp_path, monkeypatch):
    server.code = 404
    with pytest.raises(OSError, match="the server answered 404"):
        download(server.url, tmp_path / "w")
    server.code = 503
    monkeypatch.setattr(module, "MAX_FAILURES", 2)
    with pytest.raises(OSError, match=r"answered 503; 0 bytes are kept .* name its path"):
        download(server.url, tmp_path / "w", pause_s=0)
    assert server.ranges == [None] * 3
    server.code = None
    server.cuts = [0, 0]
    with pytest.raises(OSError, match="closed early"):
        download(server.url, tmp_path / "w", pause_s=0)
    assert not (tmp_path / "w").exists()


def test_no_server_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FAILURES", 1)
    with pytest.raises(OSError, match="refused"):
        download("http://127.0.0.1:9/w", tmp_path / "w", pause_s=0)
