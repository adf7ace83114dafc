"""Where the bundle lies that is used when none is named."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

MODEL_ENVIRONMENT_VARIABLE = "AV_GROUNDING_MODEL"
DEFAULT, DRAWN_WORLD = "everyday-small", "synthetic-small"


def default_bundle() -> Path:
    """The bundle to use where none is named.

    $AV_GROUNDING_MODEL if set, else `DEFAULT` or the first directory with a config.json below
    `models/` of the current directory, of the source tree, and of the installed package's share
    directory.
    """
    named = os.environ.get(MODEL_ENVIRONMENT_VARIABLE)
    if named:
        return Path(named)
    bundles = find_bundles()
    if not bundles:
        places = ", ".join(str(place) for place in bundle_directories())
        raise FileNotFoundError(
            f"got no model, expected a bundle (config.json + model.safetensors) in one of "
            f"{places}: name one with --model or ${MODEL_ENVIRONMENT_VARIABLE}"
        )
    return bundles[0]


def drawn_world_bundle() -> Path:
    """The bundle to use for the drawn scene where none is named: the one that knows drawings.

    $AV_GROUNDING_MODEL if set, else `DRAWN_WORLD` where it ships, else `default_bundle`.
    """
    if os.environ.get(MODEL_ENVIRONMENT_VARIABLE):
        return default_bundle()
    shipped = (bundle for bundle in find_bundles() if bundle.name == DRAWN_WORLD)
    return next(shipped, None) or default_bundle()


def find_bundles() -> list[Path]:
    """Every bundle directory that `default_bundle` would consider, the preferred one first."""
    return [
        config.parent
        for place in bundle_directories()
        for config in sorted(
            place.glob("*/config.json"), key=lambda path: (path.parent.name != DEFAULT, path)
        )
    ]


def bundle_directories() -> list[Path]:
    package = Path(__file__).resolve().parents[1]
    share = Path(sysconfig.get_path("data")) / "share" / "av_grounding"
    # A ROS install prefix: <prefix>/lib/pythonX/site-packages/av_grounding.
    prefixes = [parent / "share" / "av_grounding" for parent in package.parents]
    candidates = [Path.cwd(), package.parent, share, *prefixes]
    directories = [candidate / "models" for candidate in candidates]
    return list(dict.fromkeys(place for place in directories if place.is_dir())) or directories[:3]
