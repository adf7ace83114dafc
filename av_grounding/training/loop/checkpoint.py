"""Everything that a run needs to go on as if it had never stopped, in one file.

Files are written beside and then renamed, and read with `weights_only`: nothing is unpickled.
"""

from __future__ import annotations

import errno
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from av_grounding.files import atomic_write, brief
from av_grounding.modeling.tensor_files import UnreadableFile, read_torch_file

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
FORMAT = 2
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write(path: Path, state: dict[str, Any]) -> None:
    """Save tensors and plain values; `path` holds the old content until the new one is whole.

    Raises OSError, with the old file intact, when the disk is full.
    """
    with explaining_full_disk(path), atomic_write(path) as file:
        watched = _Watched(file)
        try:
            torch.save(state, watched)
        except RuntimeError as error:  # What torch makes of the file's own error.
            raise watched.error or error from error


def read(path: Path) -> dict[str, Any]:
    """What `write` saved, on the CPU; ValueError for a file that is none or is damaged."""
    try:
        state = read_torch_file(path)
    except UnreadableFile as error:
        raise ValueError(
            f"{path}: no readable checkpoint ({error}); delete it to begin the run again"
        ) from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{path}: a checkpoint of format {brief(found)}; expected {FORMAT}: finish the run "
            "with the version that began it, or delete the file"
        )
    return state


@contextmanager
def explaining_full_disk(path: Path) -> Iterator[None]:
    """Turns a full disk, quota or file size limit into one line that says what is safe."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        kept = f"the {path.name} before is intact" if path.exists() else "nothing is kept"
        raise OSError(
            f"{path}: {os.strerror(error.errno)} while writing; {kept}: free some space and "
            "resume with the same command"
        ) from error


class _Watched:
    """A file for torch.save that remembers why a write failed: torch only says that it did."""

    def __init__(self, file: Any) -> None:
        self.file, self.error = file, None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def random_state() -> dict[str, Any]:
    """The state of all global generators of this process, as tensors and plain values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Inverse of `random_state`."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
