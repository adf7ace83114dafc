"""Downloads of large files that survive a broken line: what came already is kept and continued."""

from __future__ import annotations

import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 20
MAX_FAILURES = 6
"""Attempts in a row that bring nothing, before giving up."""


def download(
    url: str,
    path: Path,
    progress: Callable[[int, int | None], None] | None = None,
    *,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Path:
    """Fetch `url` into `path`, which appears only when whole; an existing file is kept as it is.

    `progress` gets the bytes done and the total, None if unknown. After an interruption, also of
    the program, it goes on where it stopped unless the server's file has changed. Raises OSError
    with the server's answer, or when the line stays broken.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    num_failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            if _continue(url, partial, progress, timeout_s):
                os.replace(partial, path)
                _tag_file(partial).unlink(missing_ok=True)
                return path
            reason = "the connection was closed early"
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise OSError(f"{url}: the server answered {error.code} {error.reason}") from None
            reason = f"the server answered {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        except ConnectionError as error:
            reason = str(error)
        after = partial.stat().st_size if partial.exists() else 0
        num_failures = 0 if after > before else num_failures + 1
        if num_failures >= MAX_FAILURES:
            raise OSError(
                f"{url}: {reason}; {after} bytes are kept in {partial}: try again to continue, or "
                "fetch the file by other means and name its path"
            )
        logger.info("%s: %s; continuing at byte %d", url, reason, after)
        time.sleep(pause_s * 2**num_failures)


def _continue(
    url: str,
    partial: Path,
    progress: Callable[[int, int | None], None] | None,
    timeout_s: float,
) -> bool:
    """One request for what is missing; whether the file is whole now."""
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "av-grounding"}
    tag_file = _tag_file(partial)
    tag = tag_file.read_text() if done and tag_file.exists() else None
    if tag:
        # If the file has changed, the server sends all of it instead.
        headers |= {"Range": f"bytes={done}-", "If-Range": tag}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # Nothing follows: either whole already or of another size.
            if error.headers.get("Content-Range", "").endswith(f"/{done}"):
                return True
            partial.unlink()
            return False
        raise
    with response:
        is_rest = response.status == 206
        done = done if is_rest else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        if not is_rest:
            tag_file.write_text("" if tag.startswith("W/") else tag)
        with open(partial, "ab" if is_rest else "wb") as file:
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
    return total is None or done == total


def _tag_file(partial: Path) -> Path:
    """Remembers which version of the server's file the partial one is a part of."""
    return partial.with_name(partial.name + ".etag")
