"""Where Debian's packages keep the photographs and recordings of the everyday world."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDERS: dict[str, Path] = {
    "tuxpaint-stamps-default": Path("/usr/share/tuxpaint/stamps"),
    "gcompris-qt-data": Path("/usr/share/gcompris-qt/rcc"),
}
"""Package -> the folder that it fills."""


def folder(package: str) -> Path:
    """A package's folder; FileNotFoundError with the line that installs it where it is missing."""
    require((package,))
    return FOLDERS[package]


def require(packages: Iterable[str]) -> None:
    """FileNotFoundError naming all of these packages that are missing, and what installs them."""
    if missing := [name for name in packages if not FOLDERS[name].is_dir()]:
        raise FileNotFoundError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: "
            f"sudo apt-get install -y --no-install-recommends {' '.join(missing)}"
        )
