"""Training batches of stages: a picture, the sum of what sounds in it, and captions of both parts.

Batch `step` depends on the seed and the step alone.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from av_grounding.modeling.text_encoder import WordVectors
from av_grounding.synthetic.acoustics import active_rms
from av_grounding.synthetic.objects import CLASSES
from av_grounding.synthetic.stage import MAX_SOUNDING
from av_grounding.synthetic.stage_bank import ROLES, StageBank
from av_grounding.training.data.synthetic_batches import SyntheticBatches, to_pixels

LEVEL_RANGE_DB = 3.0
CAPTIONS = ("full", "labels", "shuffled")


def foreground_caption(class_name: str) -> str:
    """What a captioner is to say of an object that sounds."""
    return f"an image of a sounding {class_name}"


def label_caption(class_name: str) -> str:
    """What a label alone says of it."""
    return f"an image of a {class_name}"


def background_caption(silent: list[str]) -> str:
    """What it is to say of all the rest: silent objects, and the surface behind them."""
    return " and ".join([*(f"an image of a silent {name}" for name in silent), "a patterned wall"])


class StageBatches(SyntheticBatches):
    """Batches of the oassl recipe (see `ObjectAware`), from the banks in `stages` and `audio`."""

    def __init__(
        self,
        data: Path,
        seed: int,
        *,
        batch_size: int,
        text_dim: int,
        captions: str = "full",
        lookalike_share: float = 0.0,
        **window: int,
    ) -> None:
        """`captions` and `lookalike_share`: see `StagesConfig`."""
        super().__init__(data, seed, **window)
        if not 0.0 <= lookalike_share <= 0.5:
            raise ValueError(f"lookalike_share is {lookalike_share}; expected 0 to 0.5")
        self.lookalike_share = lookalike_share
        if captions not in CAPTIONS:
            raise ValueError(f"captions is {captions!r}; expected one of {', '.join(CAPTIONS)}")
        self.batch_size, self.words, self.captions = batch_size, WordVectors(text_dim), captions

    @property
    def text_dim(self) -> int:
        return self.words.dim

    @cached_property
    def stages(self) -> StageBank:
        return StageBank(self.data / "stages")

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, 2, step))
        bank, size = self.stages, self.batch_size
        rows = self.draw_rows(rng)
        pixels = bank.images[rows]
        flip = rng.random(size) < 0.5
        pixels[flip] = pixels[flip, :, ::-1]
        foreground = np.zeros((size, MAX_SOUNDING, self.words.dim), np.float32)
        valid = np.zeros((size, MAX_SOUNDING), bool)
        heard = np.zeros((size, len(CLASSES)), bool)
        backgrounds, clips = [], []
        for number, row in enumerate(rows):
            roles = bank.roles[row]
            sounding = bank.classes[row, roles == ROLES.index("sounding")]
            silent = bank.classes[row, roles > ROLES.index("sounding")]
            names = [CLASSES[index] for index in sounding]
            describe = label_caption if self.captions == "labels" else foreground_caption
            captions = [describe(name) for name in names]
            foreground[number, : len(names)] = self.words.encode(captions)
            valid[number, : len(names)] = True
            heard[number, sounding] = True
            backgrounds.append(background_caption([CLASSES[index] for index in silent]))
            clips.append(self.with_noise(self.draw_mixture(names, rng), rng))
        texts = {
            "foreground": torch.from_numpy(foreground),
            "foreground_valid": torch.from_numpy(valid),
            "background": torch.from_numpy(self.words.encode(backgrounds)),
            "background_valid": torch.full((size,), self.captions != "labels"),
        }
        if self.captions == "shuffled":
            texts = {name: value.roll(1, dims=0) for name, value in texts.items()}
        return {
            "pixels": to_pixels(pixels),
            "audio": torch.from_numpy(np.stack(clips)),
            **texts,
            "heard": torch.from_numpy(heard),
        }

    @cached_property
    def sounding(self) -> dict[int, np.ndarray]:
        """Class -> the stages on which it sounds."""
        is_sounding = self.stages.roles == ROLES.index("sounding")
        return {
            index: np.flatnonzero((is_sounding & (self.stages.classes == index)).any(axis=1))
            for index in range(len(CLASSES))
        }

    def draw_rows(self, rng: np.random.Generator) -> np.ndarray:
        """Different stages for a batch, some of them partners of others, see `lookalike_share`."""
        bank, size = self.stages, self.batch_size
        chosen = rng.choice(len(bank.classes), size, replace=False).tolist()
        for place in range(round(self.lookalike_share * size)):
            row = chosen[place]
            still = (bank.roles[row] == ROLES.index("bystander")) & ~bank.active[row]
            silent = bank.classes[row, still]
            if len(silent):
                partners = self.sounding[int(rng.choice(silent))]
                partner = int(rng.choice(partners)) if len(partners) else row
                if partner not in chosen:
                    chosen[-1 - place] = partner
        return np.sort(chosen)

    def draw_mixture(self, class_names: list[str], rng: np.random.Generator) -> np.ndarray:
        """Sounds of these classes, each up to 3 dB under the loudest possible."""
        total = np.zeros(self.num_samples, np.float32)
        for name in class_names:
            sound = self.draw_sound(name, rng)
            level = 0.1 * 10 ** (-float(rng.uniform(0.0, LEVEL_RANGE_DB)) / 20)
            total += sound * np.float32(level / max(active_rms(sound), 1e-6))
        return total / max(1.0, float(np.abs(total).max()))
