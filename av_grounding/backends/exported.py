"""Exports found in a bundle's directory: checked against the bundle, loaded as backends.

BUNDLE/<backend>/export.json              what the graphs are, of which weights, and hashes
BUNDLE/<backend>/parity.json, parity.md   how far they are from the eager model
BUNDLE/<backend>/…                        the graphs
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from av_grounding.files import parse_json, read_text, sha256
from av_grounding.modeling.bundle_config import read_config, spec_from_json
from av_grounding.types import Backend, ModelSpec

FORMAT = 3
"""Before it an image graph gave tokens of cells alone, and no features to take means of."""
EXPORT_FILE = "export.json"
MAX_BYTES = 1 << 18

Facts = dict[str, Any]
"""The content of an export.json."""


def _load_cpu(
    bundle: Path, directory: Path, spec: ModelSpec, facts: Facts, device: str
) -> Backend:
    from av_grounding.backends.cpu import CpuBackend

    if device not in ("auto", "cpu"):
        raise ValueError(f"device {device!r} for backend 'cpu'; expected auto or cpu")
    return CpuBackend(directory, spec, facts)


def _load_tensorrt(
    bundle: Path, directory: Path, spec: ModelSpec, facts: Facts, device: str
) -> Backend:
    from av_grounding.backends.tensorrt import load_tensorrt

    return load_tensorrt(
        bundle,
        "cuda" if device == "auto" else device,
        facts["precision"],
        image_size=tuple(facts["image_size"]),
    )


LOADERS: dict[str, Callable[[Path, Path, ModelSpec, Facts, str], Backend]] = {
    "cpu": _load_cpu,
    "tensorrt": _load_tensorrt,
}


def has_export(bundle: Path, name: str) -> bool:
    return (bundle / name / EXPORT_FILE).is_file()


def load_exported(
    bundle: Path, name: str, device: str = "auto", directory: Path | None = None
) -> Backend:
    """The bundle's export for a backend, under the spec that the bundle has now.

    `directory` is where the export lies, by default in the bundle. Raises FileNotFoundError where
    there is none, and ValueError where it is of other weights or damaged, with the remedy.
    """
    directory = directory or bundle / name
    facts = read_facts(bundle, name, directory)
    spec = spec_from_json(read_config(bundle)["spec"])
    if spec.num_window_samples != facts["num_window_samples"]:
        raise ValueError(
            f"{directory} hears windows of {facts['num_window_samples']} samples, the bundle's "
            f"spec says {spec.num_window_samples}: run {export_command(bundle, name)}"
        )
    return LOADERS[name](bundle, directory, spec, facts, device)


def read_facts(bundle: Path, name: str, directory: Path) -> Facts:
    """What export.json states, compared with the bundle's weights and the files beside it."""
    path = directory / EXPORT_FILE
    remedy = f"run {export_command(bundle, name)}"
    weights = read_config(bundle)["weights"]["sha256"]
    if not path.is_file():
        raise FileNotFoundError(f"no export for backend {name!r} in {bundle}: {remedy}")
    try:
        facts = _checked(parse_json(read_text(path, MAX_BYTES)), name)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no valid export ({error}): {remedy}") from None
    if facts["weights"] != weights:
        raise ValueError(f"{directory} was exported from other weights: {remedy}")
    for file, expected in facts["files"].items():
        if not (directory / file).is_file() or sha256(directory / file) != expected:
            raise ValueError(f"{directory / file} is missing or damaged: {remedy}")
    return facts


def _checked(facts: Any, name: str) -> Facts:
    if (facts["format"], facts["backend"]) != (FORMAT, name):
        raise ValueError(
            f"format {facts['format']} of backend {facts['backend']!r}, expected {FORMAT} of "
            f"{name!r}"
        )
    height, width = facts["image_size"]
    facts["image_size"] = [int(height), int(width)]
    facts["image_outputs"] = [str(one) for one in facts.get("image_outputs", ())]
    facts["max_audio_batch"] = int(facts.get("max_audio_batch", 1))
    facts["num_window_samples"] = int(facts["num_window_samples"])
    facts["num_parameters"] = int(facts.get("num_parameters", 0))
    if "front" in facts:
        names = ("receptive_samples", "stride_samples")
        facts["front"] = {key: int(facts["front"][key]) for key in names}
    for file in facts["files"]:
        if Path(file).name != file:
            raise ValueError(f"file {file!r} lies elsewhere")
    for key in ("precision", "device", "weights"):
        if not isinstance(facts[key], str):
            raise TypeError(f"{key} is {facts[key]!r}, expected text")
    return facts


def export_command(bundle: Path, name: str) -> str:
    return f"av-grounding export --model {bundle} --backend {name} --out {bundle}"
