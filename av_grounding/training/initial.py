"""Weights to begin with, from a bundle that may be of another type (003 table 4)."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from av_grounding.modeling.bundle import load_bundle
from av_grounding.modeling.dual_encoder import DualEncoder

logger = logging.getLogger(__name__)
BACKBONES = frozenset({"image_backbone", "audio_backbone"})


def start_from(model: DualEncoder, bundle: Path, *, whole: bool = False) -> tuple[str, ...]:
    """Give `model` the bundle's parts that fit it whole, by name and shapes; which those are.

    Of the aligners' rows, which lie head by head, it takes those of its own heads by name.
    ValueError where nothing fits; with `whole` also where the encoders differ, or a head is
    missing.
    """
    source = load_bundle(bundle).model
    if whole:
        check_encoders(model, source, bundle)
    taken = []
    for name, part in model.named_children():
        theirs = getattr(source, name, None)
        side = name.partition("_")[0]
        # What stands on a backbone means nothing on another one.
        needs = {f"{side}_backbone"} if side in ("image", "audio") else BACKBONES
        stands = name in BACKBONES or needs <= {*taken}
        if theirs is None or not stands or not set(model.heads) <= set(source.heads):
            continue
        state = {
            key: of_heads(value, source.heads, model.heads) if is_by_head(name, key) else value
            for key, value in theirs.state_dict().items()
        }
        shapes = {key: value.shape for key, value in state.items()}
        if shapes == {key: value.shape for key, value in part.state_dict().items()}:
            part.load_state_dict(state)
            taken.append(name)
    if not taken:
        raise ValueError(
            f"nothing of {bundle} fits this model: expected a bundle with the same backbones; "
            "leave init out, or set model.image_backbone and its options as they are there"
        )
    logger.info("%s begin as in %s", ", ".join(taken), bundle)
    return tuple(taken)


def check_encoders(model: DualEncoder, source: DualEncoder, bundle: Path) -> None:
    """ValueError unless `source` is the same model, with further heads or without."""
    if missing := sorted(set(model.heads) - set(source.heads)):
        raise ValueError(
            f"{bundle} has no head {' and '.join(missing)}, it has {', '.join(source.heads)}: "
            "expected a bundle with the heads that are trained"
        )
    wanted = replace(model.config, heads=source.heads)
    if json.dumps(source.config.to_json()) != json.dumps(wanted.to_json()):
        raise ValueError(
            f"{bundle} holds other encoders than the run's settings: expected the same model, "
            "but for its heads"
        )


def is_by_head(part: str, key: str) -> bool:
    return part.endswith("_aligner") and key.split(".")[0] in ("project", "evidence")


def of_heads(value: Tensor, theirs: tuple[str, ...], ours: tuple[str, ...]) -> Tensor:
    """The rows of our heads."""
    rows = dict(zip(theirs, value.chunk(len(theirs)), strict=True))
    return torch.cat([rows[head] for head in ours])
