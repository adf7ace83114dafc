"""Bundles: a model as a directory of `config.json` and `model.safetensors`.

Nothing is ever unpickled. Weights load strictly: missing, unexpected and wrong-shaped keys are
listed, and the file must have the hash that config.json states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from av_grounding.files import (
    brief,
    one_line,
    parse_json,
    read_text,
    replacing,
    sha256,
    write_json,
)
from av_grounding.modeling.bundle_checks import check_model, check_spec
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.types import HeadCalibration, ModelSpec

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
MAX_LISTED = 20


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: the model in eval mode (float32), its spec, and the rest of config.json."""

    model: DualEncoder
    spec: ModelSpec
    name: str
    info: dict[str, Any] = field(default_factory=dict)


def save_bundle(
    directory: str | Path,
    model: DualEncoder,
    spec: ModelSpec,
    *,
    name: str,
    info: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a bundle; each file appears whole or not at all. Returns the directory."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for key, value in model.state_dict().items()
    }
    weights = directory / WEIGHTS_FILE
    try:
        with replacing(weights) as partial:
            save_file(state, partial)
    except SafetensorError as error:  # the disk is full, as a rule
        raise OSError(f"{weights} could not be written: {error}") from None
    config = {
        "format": FORMAT,
        "name": name,
        "model": model.config.to_json(),
        "spec": spec_to_json(spec),
        "weights": {"sha256": sha256(weights), "dtype": str(dtype).removeprefix("torch.")},
        "info": info or {},
    }
    write_json(directory / CONFIG_FILE, config)
    return directory


def load_bundle(directory: str | Path) -> Bundle:
    """Read a bundle strictly.

    Raises FileNotFoundError for a missing file and ValueError for anything in it that does not
    fit, each naming what was found and what to do.
    """
    directory = Path(directory)
    config = read_config(directory)
    weights = directory / WEIGHTS_FILE
    if not weights.is_file():
        raise FileNotFoundError(f"no {WEIGHTS_FILE} in {directory}: the bundle is incomplete")
    expected = config["weights"]["sha256"]
    if (found := sha256(weights)) != expected:
        raise ValueError(
            f"{weights} has sha256 {found[:12]}…, its config.json says "
            f"{one_line(expected[:12])}…: "
            "the file is damaged or belongs to another bundle; copy the bundle again"
        )
    spec = spec_from_json(config["spec"])
    try:
        model = _build(config["model"])
    except ValueError as error:
        raise ValueError(
            f"{directory / CONFIG_FILE}: no model can be built from it ({error}): copy the "
            "bundle again"
        ) from None
    load_weights(model, weights)
    return Bundle(model.eval(), spec, config["name"], config["info"])


def _build(values: dict[str, Any]) -> DualEncoder:
    """The model without values: nothing is drawn at random, no memory taken before they come."""
    check_model(values)
    try:
        with torch.device("meta"):
            return DualEncoder(ModelConfig.from_json(values))
    except Exception as error:  # constructors raise whatever they stumble over
        raise ValueError(one_line(error) or type(error).__name__) from None


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Give `model` the tensors of a safetensors file, each in the dtype that the model states.

    Tensors that are in this dtype already stay in the file, which is mapped into memory.
    """
    target = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            keys = set(file.keys())
            problems = [f"missing {key}" for key in sorted(set(target) - keys)]
            problems += [f"unexpected {key}" for key in sorted(keys - set(target))]
            for key in sorted(keys & set(target)):
                shape = tuple(file.get_slice(key).get_shape())
                if shape != tuple(target[key].shape):
                    problems.append(f"{key} is {shape}, expected {tuple(target[key].shape)}")
            if problems:
                rest = [f"{len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
                listed = "; ".join(brief(p)[1:-1] for p in [*problems[:MAX_LISTED], *rest])
                raise ValueError(f"{path} does not fit its config.json: {listed}")
            state = {key: file.get_tensor(key).to(target[key].dtype) for key in keys}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file ({error}): copy the bundle again"
        ) from None
    model.load_state_dict(state, assign=True)


def store_calibration(
    directory: str | Path, calibration: Mapping[str, HeadCalibration], facts: dict[str, Any]
) -> None:
    """Replace heads' calibration in a bundle's config.json; `facts` go to its info.

    Raises ValueError for a head that the bundle does not have.
    """
    spec = spec_from_json(read_config(Path(directory))["spec"])
    if unknown := sorted(set(calibration) - set(spec.heads)):
        raise ValueError(
            f"calibration of {', '.join(unknown)}; expected only the bundle's "
            f"{', '.join(spec.heads)}"
        )
    calibration = {**spec.calibration, **calibration}
    store_spec(directory, replace(spec, calibration=calibration), {"calibration": facts})


def store_spec(directory: str | Path, spec: ModelSpec, info: dict[str, Any]) -> None:
    """Replace the spec in a bundle's config.json; `info` joins what is there."""
    path = Path(directory) / CONFIG_FILE
    config = read_config(path.parent)
    config["spec"] = spec_to_json(spec)
    config["info"] |= info
    write_json(path, config)


def read_config(directory: Path) -> dict[str, Any]:
    """The bundle's config.json, checked for form."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no bundle at {directory}: it has no {CONFIG_FILE}")
    try:
        config = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): copy the bundle again") from None
    wanted = {"format": int, "name": str} | dict.fromkeys(
        ("model", "spec", "weights", "info"), dict
    )
    for key, kind in wanted.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise ValueError(
                f"{path} has no valid {key!r} ({kind.__name__}): not a bundle's config"
            )
    if config["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {brief(config['format'])}, this version reads {FORMAT}: update "
            "av_grounding"
        )
    if not isinstance(config["weights"].get("sha256"), str):
        raise ValueError(f"{path} states no sha256 of its weights: not a bundle's config")
    return config


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    values = asdict(spec)
    values["heads"] = list(spec.heads)
    return values


def spec_from_json(values: dict[str, Any]) -> ModelSpec:
    try:
        calibration = {
            head: HeadCalibration(**numbers) for head, numbers in values["calibration"].items()
        }
        spec = ModelSpec(**{**values, "heads": tuple(values["heads"]), "calibration": calibration})
        check_spec(spec)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"the bundle's spec does not fit this version: {reason}") from None
    return spec
