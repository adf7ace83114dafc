"""Files of `torch.save` from anywhere, read as tensors and plain values: no code in them is run.

What torch makes of damage is any exception; what it makes of a trap is memory. Both end here.
"""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from av_grounding.files import brief, one_line


class UnreadableFile(ValueError):
    """Says in one line why; `refused_global` names the code that reading would run, if any."""

    def __init__(self, reason: str, refused_global: str | None = None) -> None:
        super().__init__(one_line(reason))
        self.refused_global = refused_global


def read_torch_file(path: Path, *, mmap: bool = False) -> Any:
    """What was saved, on the CPU: tensors, plain containers, and `argparse.Namespace`.

    `mmap` leaves the tensors in the file. Raises UnreadableFile, or OSError where the file cannot
    be opened.
    """
    with open(path, "rb"):
        pass
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _check_zip(path)
        # Namespace is a bag of attributes; nothing else beyond tensors and plain containers is
        # needed to read what Lightning writes.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)
    except UnreadableFile:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise UnreadableFile(_reason(error)) from None
        name = one_line(named[1], 100)
        raise UnreadableFile(
            f"it refers to {name}, which is code, and would run it", name
        ) from None
    except Exception as error:
        raise UnreadableFile(_reason(error)) from None


def plain_tensors(state: object) -> dict[str, Tensor]:
    """The tensors by name; UnreadableFile unless every one is dense and as large as its data.

    A tensor may claim any size over a few bytes, which it then takes when it is computed with.
    """
    if not isinstance(state, Mapping):
        raise UnreadableFile(f"a {type(state).__name__} in place of tensors by name")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UnreadableFile(f"{brief(name)} is a {type(tensor).__name__}, expected a tensor")
        is_dense = tensor.layout is torch.strided and not tensor.is_quantized
        if not is_dense or tensor.device.type != "cpu":
            raise UnreadableFile(f"{brief(name)} is no dense tensor with data")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UnreadableFile(f"{brief(name)} claims more values than are there")
    return dict(state)


def _check_zip(path: Path) -> None:
    """torch.save compresses nothing: whatever is to grow when it is read was not written by it."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UnreadableFile("a compressed archive, which torch.save does not write")
    if sum(member.file_size for member in members) > size:
        raise UnreadableFile("an archive that claims more than its own size")


def _reason(error: Exception) -> str:
    """Its first line, or what torch hides between lines of advice that do not apply here."""
    hidden = re.search(r"WeightsUnpickler error: (.*)", str(error))
    lines = [hidden[1]] if hidden else str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
