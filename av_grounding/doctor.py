"""What this machine has, what it lacks, and the command that mends each lack."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from av_grounding import extras
from av_grounding.config import MODEL_ENVIRONMENT_VARIABLE, find_bundles, read_vocabulary
from av_grounding.files import one_line, read_json
from av_grounding.modeling.segmenters import MIN_VERSIONS

if TYPE_CHECKING:
    from rich.table import Table

State = Literal["ok", "missing", "optional"]
MINIMUM_PYTHON = (3, 10)
# Packages with native parts, which can be installed and still not load.
NATIVE_MODULES = {
    "opencv-python": "cv2",
    "av": "av",
    "soxr": "soxr",
    "webrtcvad-wheels": "webrtcvad",
}
INSTALL_PACKAGE = f"{sys.executable} -m pip install -c constraints.txt -e '.[synthetic]'"
INSTALL_OPENCV_LIBRARIES = "sudo apt-get install -y libgl1 libglib2.0-0"
INSTALL_PORTAUDIO = "sudo apt-get install -y libportaudio2"
INSTALL_ESPEAK = "pip install espeakng-loader"


class Finding(NamedTuple):
    """One thing looked for: `missing` is necessary, `optional` can be done without."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything; takes seconds, because it loads the model runtime."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _extras,
        _espeak,
        _microphones,
        _cameras,
        _accelerator,
        _bundles,
        _segmenters,
        _ros,
    )
    return [finding for check in checks for finding in check()]


def table(findings: list[Finding]) -> Table:
    """The findings for a terminal."""
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("✓", "green"), "missing": ("✗", "red"), "optional": ("–", "yellow")}
    result = Table(box=None, pad_edge=False, show_header=False)
    result.add_column()
    result.add_column(no_wrap=True)
    result.add_column(overflow="fold")
    for finding in findings:
        mark, style = marks[finding.state]
        result.add_row(Text(mark, style=style), Text(finding.name), Text(finding.detail))
    return result


def remedies(findings: list[Finding]) -> list[str]:
    """One line for each thing that is missing and can be mended, to copy from."""
    return [f"{finding.name}: {finding.remedy}" for finding in findings if finding.remedy]


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info[:2] >= MINIMUM_PYTHON:
        yield Finding("Python", "ok", f"{version} ({sys.executable})")
    else:
        yield Finding("Python", "missing", version, "sudo apt-get install -y python3 python3-venv")


def _segmenters() -> Iterator[Finding]:
    """The networks that paper 002 takes its regions from; classical proposals need none."""
    from packaging.version import Version

    try:
        installed = Version(importlib.metadata.version("transformers"))
    except importlib.metadata.PackageNotFoundError:
        return  # said among the packages
    lacks = [kind for kind, least in MIN_VERSIONS.items() if installed < Version(least)]
    if lacks:
        newest = max((MIN_VERSIONS[kind] for kind in lacks), key=Version)
        detail = f"transformers {installed} has no {', '.join(lacks)}"
        remedy = f"{sys.executable} -m pip install 'transformers>={newest}'"
        yield Finding("segmenters", "optional", f"{detail}; classical proposals work", remedy)
    else:
        yield Finding("segmenters", "ok", f"{', '.join(MIN_VERSIONS)}; their weights: a folder")


def _packages() -> Iterator[Finding]:
    try:
        requirements = importlib.metadata.requires("av_grounding") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("av_grounding", "missing", "not installed", INSTALL_PACKAGE)
        return
    for requirement in requirements:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        remedy = f'{sys.executable} -m pip install "{requirement}"'
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "missing", f"not installed, needs {requirement}", remedy)
            continue
        problem = _load(NATIVE_MODULES[name]) if name in NATIVE_MODULES else None
        if problem is None:
            yield Finding(name, "ok", version)
        else:
            library = name == "opencv-python" and "cannot open shared object" in problem
            remedy = INSTALL_OPENCV_LIBRARIES if library else f"{remedy} --force-reinstall"
            yield Finding(name, "missing", f"{version} does not load: {problem}", remedy)


def _load(module: str) -> str | None:
    """Import a module; what went wrong in one line, or None."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        return " ".join(str(error).split())
    return None


def _extras() -> Iterator[Finding]:
    try:
        left_out = extras.left_out()
    except importlib.metadata.PackageNotFoundError:
        return  # already reported
    for extra, purpose in extras.PURPOSES.items():
        missing = extras.missing(extra)
        if not missing:
            yield Finding(f"[{extra}]", "ok", purpose)
            continue
        reasons = [f"wheels of {name}: {left_out[name]}" for name in missing if name in left_out]
        detail = "; ".join([f"{purpose}: no {', '.join(missing)}", *reasons])
        can_mend = len(reasons) < len(missing)
        remedy = f"{sys.executable} -m {extras.install_line(extra)}" if can_mend else ""
        yield Finding(f"[{extra}]", "optional", detail, remedy)


def _espeak() -> Iterator[Finding]:
    if extras.missing("synthetic"):
        return  # already reported
    from av_grounding.synthetic.speech import engine_version

    try:
        yield Finding("espeak-ng", "ok", engine_version())
    except (RuntimeError, OSError) as error:
        detail = f"{error}; needed by {extras.PURPOSES['synthetic']}"
        yield Finding("espeak-ng", "optional", detail, INSTALL_ESPEAK)


def _microphones() -> Iterator[Finding]:
    from av_grounding.sources.microphone import import_sounddevice

    try:
        devices = import_sounddevice().query_devices()
    except RuntimeError as error:
        yield Finding("microphones", "optional", str(error), INSTALL_PORTAUDIO)
        return
    names = [device["name"] for device in devices if device["max_input_channels"] > 0]
    if names:
        yield Finding("microphones", "ok", ", ".join(names))
    else:
        remedy = "plug one in or start the sound server; then see: arecord -l"
        yield Finding("microphones", "optional", "PortAudio sees none", remedy)


def _cameras() -> Iterator[Finding]:
    from av_grounding.sources.camera import list_cameras

    devices = list_cameras()
    permitted = [device for device in devices if os.access(device, os.R_OK | os.W_OK)]
    if permitted:
        yield Finding("cameras", "ok", ", ".join(permitted))
    elif devices:
        remedy = "sudo usermod -aG video $USER, then log in again"
        yield Finding("cameras", "optional", f"{', '.join(devices)}: not permitted", remedy)
    else:
        remedy = "plug one in; then see: ls /dev/video*"
        yield Finding("cameras", "optional", "no /dev/video*", remedy)


def _accelerator() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return  # already reported among the packages
    import torch

    if torch.cuda.is_available():
        names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Finding("CUDA", "ok", f"{torch.version.cuda}: {', '.join(names)}")
    elif torch.version.cuda is None:
        detail = f"torch {torch.__version__} is a CPU build"
        remedy = (
            ""
            if not Path("/dev/nvidia0").exists()
            else (f"{sys.executable} -m pip install --force-reinstall torch")
        )
        yield Finding("CUDA", "optional", detail, remedy)
    else:
        yield Finding("CUDA", "optional", "no device answers", "nvidia-smi")
    if importlib.util.find_spec("tensorrt") is not None:
        try:
            version = importlib.metadata.version("tensorrt")
        except importlib.metadata.PackageNotFoundError:
            version = "installed, but not by pip"  # as a system's own packages may be
        yield Finding("TensorRT", "ok", version)
    else:
        remedy = f"{sys.executable} -m pip install tensorrt" if torch.cuda.is_available() else ""
        yield Finding("TensorRT", "optional", "not installed", remedy)


def _bundles() -> Iterator[Finding]:
    named = os.environ.get(MODEL_ENVIRONMENT_VARIABLE)
    if named and not (Path(named) / "config.json").is_file():
        detail = f"{MODEL_ENVIRONMENT_VARIABLE}={named} holds no config.json"
        yield Finding("model", "missing", detail, f"unset {MODEL_ENVIRONMENT_VARIABLE}")
        return
    bundles = [Path(named)] if named else []
    bundles += [bundle for bundle in find_bundles() if bundle not in bundles]
    if bundles:
        yield Finding("model", "ok", ", ".join(map(_with_heads, bundles)))
    else:
        remedy = f"run from the source tree, or export {MODEL_ENVIRONMENT_VARIABLE}=BUNDLE"
        yield Finding("model", "missing", "no bundle below models/", remedy)


def _with_heads(bundle: Path) -> str:
    """A bundle, what it answers and how many things it knows, read without its runtime."""
    try:
        heads = read_json(bundle / "config.json")["spec"]["heads"]
        names = [head if isinstance(head, str) else head["name"] for head in heads]
        known = read_vocabulary(bundle)
        names = [f"{name}: {len(known[name])} things" if name in known else name for name in names]
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"{bundle} (config.json does not fit: {one_line(str(error))})"
    return f"{bundle} ({one_line(', '.join(names))})"


def _ros() -> Iterator[Finding]:
    distro = os.environ.get("ROS_DISTRO")
    if importlib.util.find_spec("rclpy") is not None:
        yield Finding("ROS 2", "ok", distro or "rclpy is importable")
        return
    installed = sorted(Path("/opt/ros").glob("*/setup.bash"))
    remedy = (
        f"source {installed[-1]}" if installed else "https://docs.ros.org (only the node needs it)"
    )
    yield Finding("ROS 2", "optional", "rclpy cannot be imported", remedy)
