"""Names for a bundle of regions, as CLIP's text side reads them (002 section 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from av_grounding.files import brief
from av_grounding.modeling.bundle import load_bundle, save_bundle
from av_grounding.modeling.bundle_checks import MAX_WIDTH
from av_grounding.modeling.clip import TEMPLATES, ClipText, class_embeddings


def name_classes(
    source: Path,
    out: Path,
    names: Sequence[str],
    clip: str | Path,
    templates: Sequence[str] = TEMPLATES,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """A copy of the bundle `source` at `out` whose regions are told apart by these names.

    `clip` is the CLIP whose image side the bundle has: a name on the hub or a local folder. The
    text side does not ship. Raises ValueError for a bundle of another image encoder, for names
    that are none or repeat, and for a CLIP of another width.
    """
    bundle = load_bundle(source)
    model = bundle.model
    if model.config.image_backbone != "clip":
        raise ValueError(
            f"{source} sees with {model.config.image_backbone!r}, whose space holds no text: "
            "expected a bundle of regions with CLIP (train seac --preset paper)"
        )
    names = checked_names(names)
    text = ClipText(clip)
    if text.dim != model.image_backbone.dim:
        raise ValueError(
            f"{clip} has vectors of {text.dim} numbers, {source} of {model.image_backbone.dim}: "
            "name the CLIP that the bundle was trained with"
        )
    embeddings = class_embeddings(text.encode, names, templates, progress)
    model.config = replace(model.config, num_classes=len(names))
    model.class_embeddings = nn.Parameter(embeddings.to(torch.float32), requires_grad=False)
    info = {**bundle.info, "things": names, "class_texts": str(clip)}
    return save_bundle(
        out, model, bundle.spec, name=bundle.name, info=info, vocabulary={"sound": names}
    )


def checked_names(names: Sequence[str]) -> list[str]:
    """Names with single spaces; ValueError where there are none, too many, or one twice."""
    cleaned = [" ".join(name.replace("_", " ").split()) for name in names]
    cleaned = [name for name in cleaned if name]
    if not 0 < len(cleaned) <= MAX_WIDTH:
        raise ValueError(f"{len(cleaned)} names; expected 1 to {MAX_WIDTH}, one a line")
    twice = sorted({name for name in cleaned if cleaned.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(map(brief, twice[:5]))} named twice; expected each once")
    return cleaned
