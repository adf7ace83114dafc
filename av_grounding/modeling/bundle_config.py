"""A bundle's config.json: what a program must know of a model before it reads any weights.

Nothing here needs PyTorch: a compiled bundle is run by its spec and its graphs alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from av_grounding.files import brief, one_line, parse_json, read_text, write_json
from av_grounding.identification import SourcesSpec
from av_grounding.modeling.bundle_checks import check_spec
from av_grounding.types import HeadCalibration, HeadSpec, ModelSpec, SeparationSpec

FORMAT = 2
"""Format 1 had no type, and named the answers of its heads apart from them; it is still read."""
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
LATER_FIELDS = ("token_offset_s", "separation", "compares", "sources")
OPTIONAL = ("vocabulary",)
"""Fields of config.json that a bundle may do without."""


def store_calibration(
    directory: str | Path, calibration: Mapping[str, HeadCalibration], facts: dict[str, Any]
) -> None:
    """Replace heads' calibration in a bundle's config.json; `facts` go to its info.

    Raises ValueError for a head that the bundle does not have.
    """
    spec = spec_from_json(read_config(Path(directory))["spec"])
    if unknown := sorted(set(calibration) - set(spec.head_names)):
        raise ValueError(
            f"calibration of {', '.join(unknown)}; expected only the bundle's "
            f"{', '.join(spec.head_names)}"
        )
    store_spec(directory, spec.with_heads(calibration=calibration), {"calibration": facts})


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
    if config["format"] not in (1, FORMAT):
        raise ValueError(
            f"{path} has format {brief(config['format'])}, this version reads 1 and {FORMAT}: "
            "update av_grounding"
        )
    if config["format"] == 1:
        config |= {"format": FORMAT, "type": "dual_encoder"}
        config["spec"] = _spec_of_format_1(config["spec"])
    if unknown := sorted(set(config) - {*wanted, "type", *OPTIONAL}):
        raise ValueError(
            f"{path} has unknown fields {brief(unknown)}; expected only "
            f"{', '.join([*wanted, 'type', *OPTIONAL])}: was this bundle written by a newer "
            "version?"
        )
    if not isinstance(config["weights"].get("sha256"), str):
        raise ValueError(f"{path} states no sha256 of its weights: not a bundle's config")
    return config


def _spec_of_format_1(values: dict[str, Any]) -> dict[str, Any]:
    """The spec of a bundle whose heads were names, with what is known of each beside them."""
    values = dict(values)
    try:
        calibration, floors = values.pop("calibration"), values.pop("min_token_norm", {})
        power = values.pop("salience_power", 1.0)
        values["heads"] = [
            {
                "name": name,
                "listens": "utterance" if name == "speech" else "recent",
                "calibration": calibration.get(name, {}),
                "min_token_norm": floors.get(name, 0.0),
                "salience_power": power,
            }
            for name in values["heads"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        reason = one_line(repr(error))
        raise ValueError(f"the bundle's spec does not fit this version: {reason}") from None
    return values


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    values = asdict(spec)
    values["heads"] = list(values["heads"])
    # Bundles that do without what came later can be read by versions from before.
    for name in LATER_FIELDS:
        if getattr(spec, name) == ModelSpec.__dataclass_fields__[name].default:
            del values[name]
    return values


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where a spec has tuples."""
    return {
        name: tuple(map(tuple, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }


def spec_from_json(values: dict[str, Any]) -> ModelSpec:
    try:
        heads = tuple(
            HeadSpec(**{**head, "calibration": HeadCalibration(**head.get("calibration", {}))})
            for head in values["heads"]
        )
        later = {"separation": SeparationSpec, "sources": SourcesSpec}
        given = {name: kind for name, kind in later.items() if values.get(name) is not None}
        parts = {name: kind(**_with_tuples(values[name])) for name, kind in given.items()}
        spec = ModelSpec(**{**values, "heads": heads, **parts})
        check_spec(spec)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = one_line(error)
        raise ValueError(f"the bundle's spec does not fit this version: {reason}") from None
    return spec
