"""The names and shapes of DenseAV's released state_dict, and their way into our model.

Every key of a checkpoint is accounted for: it becomes one of our parameters, is merged into one
(LoRA), or is known to be unused. Anything missing, unexpected or of another shape is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Source prefixes of the image backbone: with LoRA (peft wraps it twice), and without.
IMAGE_PREFIXES = ("image_model.base_model.model.model.", "image_model.model.")
LORA_ALPHA = 32
TEMPERATURE = "sim_cal.w"
MAX_LISTED = 20

# (prefix in our model, prefix in the canonical source), the first that fits counts.
PREFIXES = (
    ("image_backbone.patch_embed.", "image.patch_embed.proj."),
    ("image_backbone.", "image."),
    ("audio_backbone.hubert.", "audio_model.model."),
    ("image_aligner.norm.", "image_aligner.norm.norm."),
    ("image_aligner.project.", "image_aligner.layer."),
    ("audio_aligner.clip_token", "audio_cls"),
    ("audio_aligner.norm.", "audio_aligner.mod_list.1.norm."),
    ("audio_aligner.shorten.", "audio_aligner.mod_list.2.layer."),
    ("audio_aligner.project_clip_token.", "audio_aligner.mod_list.2.cls_layer."),
    ("audio_aligner.shorten_again.", "audio_aligner.mod_list.3.layer."),
    ("audio_aligner.block.", "audio_aligner.mod_list.4.block."),
)
# Convolutions over time that the source holds as two-dimensional ones of height 1.
TIME_CONVOLUTIONS = ("audio_aligner.shorten.weight", "audio_aligner.shorten_again.weight")
# Where the channels that are split into heads lie: key -> axis. The audio aligner's block works
# on these channels throughout, so its whole residual stream is reordered with them.
HEAD_AXES = {
    "image_aligner.project.weight": 0,
    "image_aligner.project.bias": 0,
    "audio_aligner.project_clip_token.weight": 0,
    "audio_aligner.project_clip_token.bias": 0,
    "audio_aligner.shorten_again.weight": 0,
    "audio_aligner.shorten_again.bias": 0,
    "audio_aligner.block.norm1.weight": 0,
    "audio_aligner.block.norm1.bias": 0,
    "audio_aligner.block.attn.qkv.weight": 1,
    "audio_aligner.block.attn.proj.weight": 0,
    "audio_aligner.block.attn.proj.bias": 0,
    "audio_aligner.block.norm2.weight": 0,
    "audio_aligner.block.norm2.bias": 0,
    "audio_aligner.block.mlp.fc1.weight": 1,
    "audio_aligner.block.mlp.fc2.weight": 0,
    "audio_aligner.block.mlp.fc2.bias": 0,
}


@dataclass(frozen=True)
class Converted:
    """Our model's state, and the temperature γ of the contrastive loss, a fact for the bundle."""

    state: dict[str, Tensor]
    temperature: float


def canonical(name: str) -> str:
    """The one name that a tensor has in all the accepted layouts."""
    for prefix in IMAGE_PREFIXES:
        if name.startswith(prefix):
            name = "image." + name.removeprefix(prefix)
            break
    name = name.replace(".base_layer.", ".")
    name = name.replace("pos_conv_embed.conv.weight_g", POSITION + "0")
    return name.replace("pos_conv_embed.conv.weight_v", POSITION + "1")


POSITION = "pos_conv_embed.conv.parametrizations.weight.original"


def source_name(key: str) -> str:
    """The canonical source name of one of our model's keys."""
    for ours, theirs in PREFIXES:
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    raise AssertionError(f"{key} belongs to no part of DenseAV")


def convert(
    source: Mapping[str, Tensor], target: Mapping[str, Tensor], order: tuple[int, ...]
) -> Converted:
    """The checkpoint `source` as the state of a model whose own is `target` (shapes count only).

    `order[i]` is the place in the source of our head i. Raises ValueError listing every key that
    is missing, unexpected or of another shape than expected.
    """
    problems: list[tuple[str, str]] = []
    tensors: dict[str, Tensor] = {}
    originals: dict[str, str] = {}
    for name, tensor in source.items():
        plain = canonical(name)
        if plain in tensors:
            problems.append(("unexpected", f"{name} (beside {originals[plain]})"))
        tensors[plain], originals[plain] = tensor, name

    keys = {source_name(key): key for key in target}
    shapes = {name: _source_shape(key, target[key]) for name, key in keys.items()}
    width, depth = target["image_aligner.project.weight"].shape[:2]
    unused = {
        "image_aligner.cls_layer.weight": (width, depth),
        "image_aligner.cls_layer.bias": (width,),
        TEMPERATURE: (1,),
    }
    expected = shapes | unused | _lora_shapes(tensors, shapes)

    problems += [("missing", name) for name in sorted(set(expected) - set(tensors))]
    problems += [("unexpected", originals[n]) for n in sorted(set(tensors) - set(expected))]
    for name in sorted(set(tensors) & set(expected)):
        tensor = tensors[name]
        if tuple(tensor.shape) != expected[name]:
            found = f"{originals[name]} is {tuple(tensor.shape)}, expected {expected[name]}"
            problems.append(("wrong-shaped", found))
        elif not tensor.is_floating_point():
            problems.append(("not floating-point", f"{originals[name]} is {tensor.dtype}"))
        elif not torch.isfinite(tensor).all():
            problems.append(("not finite", originals[name]))
    if problems:
        raise ValueError(_describe(problems))

    state = {}
    for name, key in keys.items():
        tensor = _merged(tensors, name).to(torch.float32)
        if key in TIME_CONVOLUTIONS:
            tensor = tensor.squeeze(2)
        if key in HEAD_AXES and order != tuple(sorted(order)):
            parts = tensor.chunk(len(order), dim=HEAD_AXES[key])
            tensor = torch.cat([parts[place] for place in order], dim=HEAD_AXES[key])
        state[key] = tensor
    temperature = math.exp(min(max(float(tensors[TEMPERATURE]), math.log(0.01)), math.log(100.0)))
    return Converted(state, temperature)


def _source_shape(key: str, tensor: Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    return (*shape[:2], 1, *shape[2:]) if key in TIME_CONVOLUTIONS else shape


def _lora_shapes(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """What LoRA must consist of if there is any: both matrices of one rank on every fused qkv."""
    given = [n for n in tensors if ".lora_" in n and n.startswith("image.")]
    if not given:
        return {}
    down = [tensors[name] for name in sorted(given) if ".lora_A." in name]
    # A rank beyond the matrix itself is none: what it claims would be multiplied out.
    rank = min(down[0].shape) if down and down[0].ndim == 2 else 8
    expected = {}
    for name, shape in shapes.items():
        if name.startswith("image.") and name.endswith(".attn.qkv.weight"):
            stem = name.removesuffix(".weight")
            expected[f"{stem}.lora_A.default.weight"] = (rank, shape[1])
            expected[f"{stem}.lora_B.default.weight"] = (shape[0], rank)
    return expected


def _merged(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """The tensor with its LoRA, if any: W + (alpha / r) B A, summed in double precision."""
    stem = name.removesuffix(".weight")
    down = tensors.get(f"{stem}.lora_A.default.weight")
    if down is None:
        return tensors[name]
    up = tensors[f"{stem}.lora_B.default.weight"].double()
    return tensors[name].double() + LORA_ALPHA / down.shape[0] * (up @ down.double())


def _describe(problems: list[tuple[str, str]]) -> str:
    parts = []
    for kind in dict.fromkeys(kind for kind, _ in problems):
        names = [name for other, name in problems if other == kind]
        rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
        parts.append(f"{len(names)} {kind}: {', '.join(names[:MAX_LISTED])}{rest}")
    return "; ".join(parts)
