"""Compiled files, each beside a JSON that says what it was built from and where it runs.

Compiled code cannot be read by anyone, and on another machine it fails late or not at all. So it
is never opened before the JSON beside it has been compared with this machine and its own bytes.
The comparison finds damage and mistakes, not malice: who can write the file can write the JSON.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from av_grounding.files import brief, parse_json, read_text, sha256, write_json

FORMAT = 1
PARTIAL = ".partial-"
LABELS = {
    "sm": "SM", "gpu": "GPU", "cuda": "CUDA", "tensorrt": "TensorRT", "torch": "torch",
    "torch_tensorrt": "torch-tensorrt", "bundle": "bundle", "graph": "graph", "shapes": "shapes",
    "precision": "precision", "graph_version": "graph version",
}  # fmt: skip


def sidecar_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def store(path: Path, facts: Mapping[str, str], write: Callable[[Path], None]) -> None:
    """Let `write` fill a file, then put it at `path` with its facts beside it.

    Each file appears whole or not at all. Where the program is killed between the two, the hash
    tells that they do not belong together.
    """
    # Distinct per process; the suffix stays last, since compilers insist on their own.
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    try:
        write(partial)
        side = {
            "format": FORMAT,
            "sha256": sha256(partial),
            "num_bytes": partial.stat().st_size,
            "facts": dict(facts),
        }
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    write_json(sidecar_of(path), side)


def read(path: Path, expected: Mapping[str, str], remedy: str) -> bytes:
    """The bytes of an artefact that fits `expected`.

    Raises FileNotFoundError where a file is missing, and ValueError where the facts differ (each
    difference is named) or the file is not the one that they were written for.
    """
    side = _checked_sidecar(path, expected, remedy)
    content = path.read_bytes()
    _compare_hash(path, side, hashlib.sha256(content).hexdigest(), remedy)
    return content


def read_facts(path: Path, remedy: str) -> dict[str, str]:
    """What the JSON beside `path` states; nothing is compared."""
    return _read_sidecar(path, remedy)["facts"]


def differences(
    built: Mapping[str, str], here: Mapping[str, str], names: Mapping[str, str] = LABELS
) -> str:
    """Where two sets of facts differ, in one line; empty where `built` has all that is `here`."""
    changed = [name for name in here if built.get(name) != here[name]]
    if not changed:
        return ""
    label = [names.get(name, name) for name in changed]
    was = [f"{label[i]} {built.get(name, 'unknown')}" for i, name in enumerate(changed)]
    now = [f"{label[i]} {here[name]}" for i, name in enumerate(changed)]
    return f"built for {', '.join(was)}; this is {', '.join(now)}"


def _checked_sidecar(path: Path, expected: Mapping[str, str], remedy: str) -> dict:
    side = _read_sidecar(path, remedy)
    if difference := differences(side["facts"], expected):
        raise ValueError(f"{path.name} was {difference}: {remedy}")
    return side


def _read_sidecar(path: Path, remedy: str) -> dict:
    side_path = sidecar_of(path)
    for needed in (path, side_path):
        if not needed.is_file():
            raise FileNotFoundError(f"no {needed.name} in {needed.parent}: {remedy}")
    try:
        side = parse_json(read_text(side_path))
        is_known = side["format"] == FORMAT and isinstance(side["facts"], dict)
        if not is_known or not isinstance(side["sha256"], str):
            raise ValueError(f"format {brief(side['format'])}, expected {FORMAT}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{side_path} cannot be read ({error}): {remedy}") from None
    return side


def _compare_hash(path: Path, side: dict, found: str, remedy: str) -> None:
    if found != side["sha256"]:
        num_bytes, expected = path.stat().st_size, side.get("num_bytes")
        raise ValueError(
            f"{path} is damaged ({num_bytes} bytes of sha256 {found[:12]}…, expected {expected} "
            f"of {side['sha256'][:12]}…): {remedy}"
        )
