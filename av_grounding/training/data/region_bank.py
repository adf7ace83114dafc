"""The regions of every picture that training sees, segmented and embedded once for all epochs.

Masks and embeddings of frozen parts do not change while a region model trains, so they are kept:
masks with a bit a pixel, embeddings in half precision, read from the disk by the batch. Other
views or another encoder embed anew and take the masks as they are. Shards of `SHARD` scenes are
written whole; a build that was stopped goes on behind the last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float32, Int, UInt8
from torch import nn

from av_grounding.files import atomic_write, write_json
from av_grounding.modeling.region_model import RegionModel
from av_grounding.regions import packed, unpacked

SHARD = 60
INDEX = "regions.json"
NOTHING = np.zeros((0, 1, 1), bool)


@runtime_checkable
class Pictures(Protocol):
    """What a bank is made of: scenes, each shown in a few pictures."""

    num_scenes: int
    num_views: int

    def digest(self) -> str:
        """Of all that makes the pictures."""
        ...

    def views(self, scene: int) -> Sequence[UInt8[np.ndarray, "H W 3"]]:
        """`num_views` pictures, or none of a scene that cannot be read."""
        ...


@dataclass(frozen=True)
class RegionBank:
    """`num_regions` (scenes, views), 0 for a scene without pictures; embeddings and masks are
    read when they are asked for."""

    directory: Path
    num_regions: Int[np.ndarray, "s v"]
    shards: tuple[Float16[np.ndarray, "p n d"], ...]

    @classmethod
    def build(
        cls,
        directory: Path,
        model: RegionModel,
        pictures: Pictures,
        num_scenes: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> RegionBank:
        """The bank of the first `num_scenes`, made where `directory` does not hold it.

        ValueError for more scenes than there are. Masks of other pictures or proposals are made
        anew, and so are embeddings by another encoder or of other views.
        """
        if num_scenes > pictures.num_scenes:
            raise ValueError(
                f"got {num_scenes} scenes, expected at most the {pictures.num_scenes} that there "
                "are: lower num_scenes, or raise data.num_scene_groups"
            )
        directory.mkdir(parents=True, exist_ok=True)
        settle(directory, {**bank_keys(model, pictures), "views": pictures.num_views})
        model.eval()
        for first in range(0, num_scenes, SHARD):
            last = min(first + SHARD, pictures.num_scenes)
            write_shard(directory, first, model, pictures, range(first, last))
            if progress:
                progress(min(last, num_scenes), num_scenes)
        return cls.open(directory, num_scenes)

    @classmethod
    def open(cls, directory: Path, num_scenes: int) -> RegionBank:
        """A finished bank; FileNotFoundError names the shard that is missing."""
        counts, shards = [], []
        num_views = read_index(directory).get("views", 1)
        for first in range(0, num_scenes, SHARD):
            masks, features = shard_paths(directory, first)
            for path in (masks, features):
                if not path.exists():
                    raise FileNotFoundError(f"no {path}: make the bank with RegionBank.build")
            with np.load(masks) as shard:
                counts.append(shard["shapes"][:, 0])
            shards.append(np.load(features, mmap_mode="r"))
        num_regions = np.concatenate(counts).reshape(-1, num_views)[:num_scenes]
        return cls(directory, num_regions, tuple(shards))

    def features(self, scene: int, view: int) -> Float16[np.ndarray, "n d"]:
        """Embeddings of the regions of one picture."""
        shard, row = self._place(scene, view)
        return self.shards[shard][row, : self.num_regions[scene, view]]

    def batch(
        self, scenes: Int[np.ndarray, " b"], views: Int[np.ndarray, " b"]
    ) -> tuple[Float32[np.ndarray, "b n d"], Bool[np.ndarray, "b n"]]:
        """Embeddings of some pictures' regions, padded to the most, and which are no padding."""
        rows = [
            self.features(*place) for place in zip(scenes.tolist(), views.tolist(), strict=True)
        ]
        valid = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
        features = np.zeros((*valid.shape, rows[0].shape[1]), np.float32)
        features[valid] = np.concatenate(rows)
        return features, valid

    def _place(self, scene: int, view: int) -> tuple[int, int]:
        shard, number = divmod(scene, SHARD)
        return shard, number * self.num_regions.shape[1] + view


@torch.no_grad()
def write_shard(
    directory: Path, first: int, model: RegionModel, pictures: Pictures, scenes: Sequence[int]
) -> None:
    """What is missing of the shard that begins with scene `first`: masks, embeddings or both."""
    masks_path, features_path = shard_paths(directory, first)
    if masks_path.exists() and features_path.exists():
        return
    kept = read_masks(masks_path) if masks_path.exists() else None
    shapes, bits, embedded = [], [], []
    for scene in scenes:
        for picture in pictures.views(scene) or [None] * pictures.num_views:
            if kept is not None:
                masks = next(kept)
            else:
                masks = NOTHING if picture is None else model.propose(picture).masks
            shapes.append(masks.shape)
            bits.append(packed(masks).ravel())
            found = np.zeros((0, model.image_backbone.dim), np.float16)
            if picture is not None:
                found = model.region_features(picture, masks).half().cpu().numpy()
            embedded.append(found)
    features = np.zeros(
        (len(embedded), max(map(len, embedded)), model.image_backbone.dim), np.float16
    )
    for row, one in zip(features, embedded, strict=True):
        row[: len(one)] = one
    if kept is None:
        with atomic_write(masks_path) as file:
            np.savez(
                file,
                shapes=np.array(shapes),
                bits=np.concatenate([np.zeros(0, np.uint8), *bits]),
            )
    with atomic_write(features_path) as file:
        np.save(file, features)


def read_masks(path: Path) -> Iterator[Bool[np.ndarray, "n h w"]]:
    """The masks of every picture of a shard, one after the other."""
    with np.load(path) as shard:
        shapes, bits = shard["shapes"].tolist(), shard["bits"]
    begin = 0
    for num, height, width in shapes:
        row_bytes = -(-width // 8)
        end = begin + num * height * row_bytes
        yield unpacked(bits[begin:end].reshape(num, height, row_bytes), width)
        begin = end


def bank_keys(model: RegionModel, pictures: Pictures) -> dict[str, Any]:
    """Digests of all that makes the masks, and of all that makes the embeddings of them."""
    config = model.config
    masks = _digest(
        model.proposals, pictures.digest(), config.proposals, config.proposals_options, SHARD
    )
    seen = (config.views, config.crop_px, config.blur_px, config.local_weight)
    return {"masks": masks, "features": _digest(model.image_backbone, masks, *seen)}


def settle(directory: Path, index: dict[str, Any]) -> None:
    """Leave in the folder only what belongs to these keys, and say so in its index."""
    before = read_index(directory)
    if before == index:
        return
    is_same = all(before.get(name) == index[name] for name in ("masks", "views"))
    for pattern in ("*.npy",) if is_same else ("*.npy", "*.npz"):
        for old in directory.glob(pattern):
            old.unlink()
    write_json(directory / INDEX, index)


def read_index(directory: Path) -> dict[str, Any]:
    try:
        return json.loads((directory / INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def shard_paths(directory: Path, first: int) -> tuple[Path, Path]:
    """Of masks and of embeddings."""
    return directory / f"masks-{first:07d}.npz", directory / f"features-{first:07d}.npy"


def _digest(module: nn.Module, *settings: Any) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:24]
