"""CLIP's two sides: pictures of one size to a vector each, and names of things to vectors that
compare with them (002 section 2.2, 2.3). Both are `transformers`' and frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from av_grounding.modeling.pretrained import load_from_hub

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
TEMPLATES = (
    "a photo of a {}.",
    "a close-up of a {}.",
    "a photo of the {}.",
    "a blurry photo of a {}.",
    "a cropped photo of a {}.",
    "a dark photo of a {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "a picture of a {} outdoors.",
    "a picture of a {} in a room.",
)
"""Sentences that a name is put into. The paper takes 80 of CLIP's authors (A.1), which come as a
file of theirs."""
NAMES_AT_ONCE = 256


class ClipBackbone(nn.Module):
    """Normalised pixels (b, 3, s, s) to the projected embedding of each picture, (b, d, 1, 1).

    `options` are fields of `CLIPVisionConfig`; the defaults are ViT-B/16, as `transformers` has
    no CLIP with the paper's ResNet-50. There is no map of features: a region is a picture cut out
    of another.
    """

    pixel_mean, pixel_std = CLIP_MEAN, CLIP_STD

    def __init__(self, **options: Any) -> None:
        super().__init__()
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        config = CLIPVisionConfig(**{"patch_size": 16, **options})
        self.dim = config.projection_dim
        self.patch_px = self.stride_px = config.patch_size
        self.picture_px = config.image_size
        self.clip = CLIPVisionModelWithProjection(config)
        # A constant that no file holds needs its values also where parameters are built without.
        embeddings = self.clip.vision_model.embeddings
        numbers = torch.arange(embeddings.num_positions, device="cpu")[None]
        embeddings.register_buffer("position_ids", numbers, persistent=False)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d 1 1"]:
        size = self.picture_px
        if tuple(x.shape[-2:]) != (size, size):
            raise ValueError(
                f"picture of {x.shape[-2]}x{x.shape[-1]} pixels; expected {size}x{size}: set "
                f"crop_px={size}"
            )
        return self.clip(pixel_values=x).image_embeds[..., None, None]


class ClipText:
    """The text side of a CLIP on the hub or in a local folder, with its tokenizer.

    Raises OSError where it is not to be had and ValueError where the folder is another network.
    """

    def __init__(self, name: str | Path) -> None:
        from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(name))
            config = CLIPTextConfig.from_pretrained(str(name))
        except OSError as error:
            raise OSError(
                f"CLIP {str(name)!r} is not to be had: it is no local folder with config.json and "
                "a tokenizer, and the Hugging Face hub did not give it. Where it is out of reach, "
                "copy the folder here and name it"
            ) from error
        self._model = CLIPTextModelWithProjection(config).eval()
        load_from_hub(self._model, name)
        self.dim, self.max_tokens = config.projection_dim, config.max_position_embeddings

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors; ValueError for a sentence that is longer than the model reads."""
        lengths = [len(ids) for ids in self._tokenizer(list(sentences))["input_ids"]]
        if max(lengths, default=0) > self.max_tokens:
            longest = max(range(len(lengths)), key=lengths.__getitem__)
            raise ValueError(
                f"{sentences[longest][:40]!r}… has {lengths[longest]} tokens; expected at most "
                f"{self.max_tokens}: shorten the name"
            )
        tokens = self._tokenizer(list(sentences), padding=True, return_tensors="pt")
        return F.normalize(self._model(**tokens).text_embeds.float(), dim=1)


def class_embeddings(
    encode: Callable[[Sequence[str]], Float[Tensor, "n d"]],
    names: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "y d"]:
    """y of 002 section 2.3: of each name the mean of its sentences' unit vectors, at unit length.

    ValueError for a template without its place for the name.
    """
    if not templates or any(template.count("{}") != 1 for template in templates):
        raise ValueError("a template has no place for the name; expected one {} in each line")
    rows = []
    step = max(1, NAMES_AT_ONCE // len(templates))
    for first in range(0, len(names), step):
        some = names[first : first + step]
        vectors = encode([template.format(name) for name in some for template in templates])
        rows.append(F.normalize(vectors.unflatten(0, (len(some), -1)).mean(dim=1), dim=1))
        if progress:
            progress(min(first + step, len(names)), len(names))
    return torch.cat(rows)
