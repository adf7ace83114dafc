"""Pictures for a bank of regions and batches of them with sound, of the drawn world or of clips.

A batch is what `RegionContrast` takes; number m depends on the seed and on m alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from av_grounding.files import one_line
from av_grounding.image import ResizeTransform
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.scene_bank import SceneBank
from av_grounding.training.data.clips import Clip, ClipSet
from av_grounding.training.data.order import EndlessOrder
from av_grounding.training.data.region_bank import RegionBank
from av_grounding.training.data.synthetic_batches import SyntheticBatches

logger = logging.getLogger(__name__)


class ScenePictures:
    """Both views of every scene of a bank."""

    num_views = 2

    def __init__(self, scenes: SceneBank) -> None:
        self.scenes, self.num_scenes = scenes, len(scenes.images)

    def digest(self) -> str:
        return json.dumps(asdict(self.scenes.spec), sort_keys=True)

    def views(self, scene: int) -> list[UInt8[np.ndarray, "H W 3"]]:
        return list(self.scenes.images[scene])


class ClipPictures:
    """A few pictures of every clip, as large as the model sees them."""

    def __init__(
        self, clips: ClipSet, num_views: int, *, short_side_px: int, patch_px: int
    ) -> None:
        self.clips, self.num_scenes, self.num_views = clips, len(clips), num_views
        self.short_side_px, self.patch_px = short_side_px, patch_px

    def digest(self) -> str:
        digest = hashlib.sha256(f"{self.num_views} {self.short_side_px} {self.patch_px}".encode())
        for path in self.clips.paths():
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def views(self, scene: int) -> list[UInt8[np.ndarray, "H W 3"]]:
        """None, and a line in the log, where the clip cannot be read."""
        try:
            found = [view_of(self.clips, scene, view).image for view in range(self.num_views)]
        except ValueError as error:
            logger.warning("left out: %s", one_line(error))
            return []
        return [self.resized(image) for image in found]

    def resized(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        return ResizeTransform.fit(*image.shape[:2], self.short_side_px, self.patch_px).apply(
            image
        )


def view_of(clips: ClipSet, number: int, view: int) -> Clip:
    """View `view` of a clip: always the same picture, with the sound around it."""
    return clips.read(number, np.random.default_rng((number, view)))


class SceneRegions(SyntheticBatches):
    """Each drawn picture with the sound of one of its things; which one is not told."""

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
        features, valid = self.bank.batch(numbers, rng.integers(2, size=self.batch_size))
        classes, sounds = [], []
        present = np.zeros((self.batch_size, len(CLASSES)), bool)
        for row, members in zip(present, self.scenes.classes[numbers], strict=True):
            members = members[members >= 0]
            row[members] = True
            classes.append(int(rng.choice(members)))
            sounds.append(self.with_noise(self.draw_sound(CLASSES[classes[-1]], rng), rng))
        return {
            "regions": torch.from_numpy(features),
            "region_valid": torch.from_numpy(valid),
            "sound": torch.from_numpy(np.stack(sounds).astype(np.float32)),
            "sound_class": torch.tensor(classes),
            "present": torch.from_numpy(present),
        }


class ClipRegions(Dataset):
    """Regions of one picture of each clip with the middle of its sound (002 section 3.2).

    ValueError where fewer clips than a batch takes can be read.
    """

    def __init__(
        self, clips: ClipSet, regions: Path, seed: int, *, batch_size: int, num_samples: int
    ) -> None:
        self.clips, self.regions, self.seed, self.num_samples = clips, regions, seed, num_samples
        self.readable = np.flatnonzero(self.bank.num_regions[:, 0])
        starts = np.cumsum([0, *clips.sizes])
        shard = np.searchsorted(starts, self.readable, side="right") - 1
        sizes = [size for size in np.bincount(shard).tolist() if size]
        self.order = EndlessOrder(sizes, batch_size, seed)

    def __len__(self) -> int:
        return 2**62

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "bank"}

    @cached_property
    def bank(self) -> RegionBank:
        return RegionBank.open(self.regions, len(self.clips))

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        chosen = self.readable[self.order[number]]
        views = rng.integers(self.bank.num_regions.shape[1], size=len(chosen))
        features, valid = self.bank.batch(chosen, views)
        sounds = [
            middle(view_of(self.clips, int(clip), int(view)).waveform, self.num_samples)
            for clip, view in zip(chosen, views, strict=True)
        ]
        return {
            "regions": torch.from_numpy(features),
            "region_valid": torch.from_numpy(valid),
            "sound": torch.from_numpy(np.stack(sounds)),
        }


def middle(waveform: Float32[np.ndarray, " s"], num_samples: int) -> Float32[np.ndarray, " n"]:
    """The middle of a longer clip, zeros behind a shorter one."""
    start = max(0, (len(waveform) - num_samples) // 2)
    cut = waveform[start : start + num_samples]
    return np.pad(cut, (0, num_samples - len(cut)))
