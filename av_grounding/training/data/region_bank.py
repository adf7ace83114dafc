"""The regions of every picture of a scene bank, segmented and embedded once for all epochs.

Masks and embeddings of frozen parts do not change while a region model trains, so they are kept:
masks with a bit a pixel, embeddings in half precision. Shards of `SHARD` scenes are written whole;
a build that was stopped goes on behind the last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float16
from torch import Tensor

from av_grounding.files import atomic_write, write_json
from av_grounding.modeling.region_model import RegionModel
from av_grounding.regions import packed, unpacked
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene_bank import SceneBank
from av_grounding.training.data.synthetic_batches import SyntheticBatches

SHARD = 60
INDEX = "regions.json"


@dataclass(frozen=True)
class RegionBank:
    """`features` (scenes, 2, n, d) and `num_regions` (scenes, 2); masks are read by picture."""

    directory: Path
    features: Float16[np.ndarray, "s 2 n d"]
    num_regions: np.ndarray

    @classmethod
    def build(
        cls,
        directory: Path,
        model: RegionModel,
        scenes: SceneBank,
        num_scenes: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> RegionBank:
        """The bank of the first `num_scenes`, made where `directory` does not hold it.

        ValueError for more scenes than there are. A bank of other scenes, proposals or encoders
        is made anew.
        """
        if num_scenes > len(scenes.images):
            raise ValueError(
                f"got {num_scenes} scenes, expected at most the bank's {len(scenes.images)}: "
                "raise data.num_scene_groups"
            )
        directory.mkdir(parents=True, exist_ok=True)
        key = {"of": bank_key(model, scenes), "shard": SHARD}
        if _read(directory / INDEX) != key:
            for old in directory.glob("*.npz"):
                old.unlink()
            write_json(directory / INDEX, key)
        model.eval()
        for first in range(0, num_scenes, SHARD):
            path = shard_path(directory, first)
            if not path.exists():
                pictures = scenes.images[first : first + SHARD]
                arrays = segment(model, pictures.reshape(-1, *pictures.shape[2:]))
                with atomic_write(path) as file:
                    np.savez(file, **arrays)
            if progress:
                progress(min(first + SHARD, num_scenes), num_scenes)
        return cls.open(directory, num_scenes)

    @classmethod
    def open(cls, directory: Path, num_scenes: int) -> RegionBank:
        """A finished bank; FileNotFoundError names the shard that is missing."""
        features, counts = [], []
        for first in range(0, num_scenes, SHARD):
            path = shard_path(directory, first)
            if not path.exists():
                raise FileNotFoundError(f"no {path}: make the bank with RegionBank.build")
            with np.load(path) as shard:
                features.append(shard["features"])
                counts.append(shard["num_regions"])
        most = max(one.shape[1] for one in features)
        padded = [np.pad(one, ((0, 0), (0, most - one.shape[1]), (0, 0))) for one in features]
        stacked = np.concatenate(padded)
        stacked = stacked.reshape(-1, 2, *stacked.shape[1:])[:num_scenes]
        return cls(directory, stacked, np.concatenate(counts).reshape(-1, 2)[:num_scenes])

    def masks(self, scene: int, view: int) -> Bool[np.ndarray, "n h w"]:
        """The masks of one picture."""
        with np.load(shard_path(self.directory, scene // SHARD * SHARD)) as shard:
            number = 2 * (scene % SHARD) + view
            bits = shard["masks"][number, : shard["num_regions"][number]]
            return unpacked(bits, int(shard["width"]))


@torch.no_grad()
def segment(model: RegionModel, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Regions of pictures (p, H, W, 3), padded to the most that one has."""
    proposed = [model.propose(picture) for picture in pictures]
    most = max(len(one.masks) for one in proposed)
    shape = proposed[0].masks.shape[1:]
    masks = np.zeros((len(pictures), most, *shape), bool)
    features = np.zeros((len(pictures), most, model.image_backbone.dim), np.float16)
    for number, (picture, one) in enumerate(zip(pictures, proposed, strict=True)):
        masks[number, : len(one.masks)] = one.masks
        embedded = model.region_features(picture, one.masks).float().cpu().numpy()
        features[number, : len(one.masks)] = embedded
    return {
        "masks": packed(masks),
        "width": np.int64(shape[1]),
        "features": features,
        "num_regions": np.array([len(one.masks) for one in proposed]),
    }


def bank_key(model: RegionModel, scenes: SceneBank) -> str:
    """Of all that makes a bank: scenes, proposals, views, and the image encoder's weights."""
    config = model.config
    settings = {
        "scenes": asdict(scenes.spec),
        **{name: getattr(config, name) for name in ("proposals", "proposals_options", "views")},
        **{name: getattr(config, name) for name in ("crop_px", "blur_px", "local_weight")},
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for part in (model.image_backbone, model.proposals):
        for name, value in part.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:24]


def shard_path(directory: Path, first: int) -> Path:
    return directory / f"regions-{first:06d}.npz"


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


class RegionBatches(SyntheticBatches):
    """Batches of the seac recipe (see `RegionContrast`): each picture with the sound of one thing.

    The sound of a picture's clip comes from one of its things; which one is not told.
    """

    def __init__(
        self, *args: object, regions: Path, num_scenes: int, batch_size: int, **kwargs: object
    ) -> None:
        super().__init__(*args, **kwargs)
        self.regions, self.num_scenes, self.batch_size = regions, num_scenes, batch_size

    @cached_property
    def bank(self) -> RegionBank:
        return RegionBank.open(self.regions, self.num_scenes)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, 2, step))
        numbers = np.sort(rng.choice(self.num_scenes, self.batch_size, replace=False))
        views = rng.integers(2, size=self.batch_size)
        features = self.bank.features[numbers, views].astype(np.float32)
        counts = self.bank.num_regions[numbers, views]
        classes, sounds = [], []
        present = np.zeros((self.batch_size, len(CLASSES)), bool)
        for row, members in zip(present, self.scenes.classes[numbers], strict=True):
            members = members[members >= 0]
            row[members] = True
            classes.append(int(rng.choice(members)))
            sounds.append(self.with_noise(self.draw_sound(CLASSES[classes[-1]], rng), rng))
        return {
            "regions": torch.from_numpy(features),
            "region_valid": torch.from_numpy(np.arange(features.shape[1]) < counts[:, None]),
            "sound": torch.from_numpy(np.stack(sounds).astype(np.float32)),
            "sound_class": torch.tensor(classes),
            "present": torch.from_numpy(present),
        }
