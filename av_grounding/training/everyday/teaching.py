"""One more thing from a few examples: prototypes are means, so nothing is trained.

A picture's cells give a row of the classifier, a recording's tokens a prototype of the sound head,
a name's tokens one of the speech head. A head that has no example of the thing never answers with
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from av_grounding.everyday import voices
from av_grounding.image import ResizeTransform
from av_grounding.modeling.bundle import Bundle, load_bundle, save_bundle
from av_grounding.modeling.bundle_config import read_config
from av_grounding.modeling.dual_encoder import DualEncoder

MARGIN = 3.0
"""Logits by which the mean of the pictures leads every class that was known before."""
NUM_SAYINGS = 8
"""Voices that say the name, of all that are installed, as far apart as their list allows."""
MIN_EVIDENCE = 0.3


@dataclass(frozen=True)
class ShownThing:
    """An (H, W, 3) image and where the thing is in it, (H, W)."""

    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class Taught:
    """The new bundle and, for each head and for pictures, what its own examples are taken for:
    (thing, probability), the likeliest first."""

    bundle: Path
    taken_for: Mapping[str, tuple[tuple[str, float], ...]]


@torch.no_grad()
def teach(
    source: Path,
    out: Path,
    name: str,
    *,
    pictures: Sequence[ShownThing],
    sounds: Sequence[Float32[np.ndarray, " s"]] = (),
    sayings: Sequence[Float32[np.ndarray, " s"]] = (),
) -> Taught:
    """A copy of the bundle `source` at `out` that knows `name` as well.

    `sounds` and `sayings` are at the bundle's rate. Raises ValueError for a bundle without a
    vocabulary of prototypes, a name that it has already, and examples that hold nothing.
    """
    bundle = load_bundle(source)
    model, config = bundle.model, read_config(source)
    words = {head: list(of) for head, of in config.get("vocabulary", {}).items()}
    things = list(bundle.info.get("things", []))
    if model.config.image_aligner != "classes" or len(things) != model.config.head_dim:
        raise ValueError(f"{source} has no vocabulary to add to: teach an everyday bundle")
    if name in things:
        raise ValueError(f"{name!r} is a thing of {source} already: give yours another name")
    if not pictures:
        raise ValueError(f"no picture of {name!r}; expected one at least")
    features, around = zip(*(_cells(bundle, picture) for picture in pictures), strict=True)
    row, bias = _row(model, torch.stack(features), torch.stack(around))
    heard = {"sound": _embeddings(bundle, "sound", sounds, name)}
    heard["speech"] = _embeddings(bundle, "speech", sayings, name)
    model.image_aligner.add(row, bias)
    for head, aligner in zip(model.heads, model.audio_aligner.heads, strict=True):
        found = heard.get(head)
        if found is None:
            aligner.add(-F.normalize(aligner.prototypes, dim=1).mean(dim=0, keepdim=True))
        else:
            aligner.add(found)
            words[head] = [*words.get(head, []), name]
    things.append(name)
    num_classes = model.image_aligner.classify.out_channels
    model.config = replace(
        model.config,
        head_dim=len(things),
        image_aligner_options={**model.config.image_aligner_options, "num_classes": num_classes},
    )
    info = {**bundle.info, "things": things}
    save_bundle(out, model, bundle.spec, name=bundle.name, info=info, vocabulary=words)
    return Taught(out, _taken_for(load_bundle(out), things, torch.stack(features), heard))


def say_name(name: str) -> list[Float32[np.ndarray, " s"]]:
    """The name by up to `NUM_SAYINGS` of the installed voices."""
    known = voices.list_voices()
    if not known:
        raise RuntimeError("no speech engine is installed: sudo apt-get install espeak-ng flite")
    chosen = known[:: max(1, len(known) // NUM_SAYINGS)][:NUM_SAYINGS]
    return [voices.speak(name, voice).waveform for voice in chosen]


def _cells(bundle: Bundle, picture: ShownThing) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean features of the cells that the thing covers, and of the others."""
    height, width = picture.image.shape[:2]
    spec = bundle.spec
    placement = ResizeTransform.fit(height, width, spec.short_side_px, spec.patch_px)
    pixels = torch.from_numpy(placement.apply(picture.image)).permute(2, 0, 1)[None] / 255
    features = bundle.model.image_features(pixels)[0]
    mask = torch.from_numpy(picture.mask.astype(np.float32))[None, None]
    share = F.adaptive_avg_pool2d(mask, features.shape[1:])[0, 0]
    if share.max() < 0.25:
        raise ValueError(
            f"the thing covers at most {100 * share.max():.0f} % of a cell of {spec.patch_px} "
            "pixels: expected a picture in which it is larger, or a box around it"
        )
    inside = share * (share >= 0.25)
    outside = 1 - share
    mean = torch.einsum("dhw,hw->d", features, inside) / inside.sum()
    if outside.sum() < 1:  # the thing fills the picture
        return mean, torch.zeros_like(mean)
    return mean, torch.einsum("dhw,hw->d", features, outside) / outside.sum()


def _row(
    model: DualEncoder, features: Float[Tensor, "n d"], around: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, " d"], float]:
    """A row of the classifier whose logit leads on the examples and is the mean logit around."""
    conv = model.image_aligner.classify
    weight, bias = conv.weight[:, :, 0, 0], conv.bias
    thing, other = features.mean(dim=0), around.mean(dim=0)
    lead = (features @ weight.T + bias).amax(dim=1).mean() + MARGIN
    rest = (other @ weight.T + bias).mean()
    direction = thing - other
    row = direction * (lead - rest) / direction.square().sum().clamp_min(1e-6)
    return row, float(rest - row @ other)


def _embeddings(
    bundle: Bundle, head: str, sounds: Sequence[Float32[np.ndarray, " s"]], name: str
) -> Float[Tensor, "n e"] | None:
    """One mean embedding a sound, of the tokens with evidence; None for no sounds."""
    if not len(sounds):
        return None
    model, spec = bundle.model, bundle.spec
    index = model.heads.index(head)
    aligner = model.audio_aligner.heads[index]
    found = []
    for sound in sounds:
        window = np.zeros(spec.num_window_samples, np.float32)
        part = np.asarray(sound, np.float32)[: len(window)]
        if np.abs(part).max(initial=0.0) < 1e-3:
            raise ValueError(f"a {head} example of {name!r} is silent: expected a recording of it")
        start = (len(window) - len(part)) // 2
        window[start : start + len(part)] = part
        features = model.audio_features(torch.from_numpy(window)[None])
        features = features.split(model.audio_aligner.dims, dim=1)[index]
        evidence = torch.sigmoid(aligner.evidence_logits(features))[0]
        weight = evidence * (evidence > MIN_EVIDENCE * evidence.max())
        found.append(F.normalize((aligner.embed(features)[0] * weight).sum(dim=1), dim=0))
    return torch.stack(found)


def _taken_for(
    bundle: Bundle,
    things: Sequence[str],
    features: Float[Tensor, "n d"],
    heard: Mapping[str, Float[Tensor, "n e"] | None],
) -> dict[str, tuple[tuple[str, float], ...]]:
    aligner = bundle.model.image_aligner
    posteriors = {"pictures": aligner(features[:, :, None, None])[:, 0, :, 0, 0].mean(dim=0)}
    for head, part in zip(bundle.model.heads, bundle.model.audio_aligner.heads, strict=True):
        if (found := heard[head]) is not None:
            cosines = found @ F.normalize(part.prototypes, dim=1).T
            posteriors[head] = (part.scale * cosines).softmax(dim=1).mean(dim=0)
    return {
        kind: tuple((things[i], float(values[i])) for i in values.argsort(descending=True)[:4])
        for kind, values in posteriors.items()
    }
