"""One of two processes: gradients of one batch, then a run that one rank's SIGTERM stops."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.modeling.region_model import RegionConfig, RegionModel
from av_grounding.modeling.separator import SeparatingConfig, SeparatingEncoder
from av_grounding.training.loop import distributed
from av_grounding.training.loop.distributed import gather_with_gradient
from av_grounding.training.loop.loop import Interrupted, Loop, LoopConfig, train
from av_grounding.training.losses import objectives, regularizers
from av_grounding.training.recipes.denseav import DenseavConfig, HeadMaxContrast
from av_grounding.training.recipes.oassl import OasslConfig, ObjectAware
from av_grounding.training.recipes.oneavm import OneAvm, OneAvmConfig
from av_grounding.training.recipes.seac import RegionContrast, SeacConfig
from av_grounding.training.recipes.sss import MixAndSeparate, SssConfig

NUM_LOCAL = 2
RECIPES = ("sss", "denseav", "seac", "oneavm", "oassl")
MODEL = ModelConfig(image_options={"dim": 8}, audio_options={"dim": 8, "num_mels": 16}, head_dim=4)
REGIONS = RegionConfig(
    image_options={"dim": 8},
    audio_options={"dim": 8, "num_mels": 16},
    image_aligner_options={"width": 8, "depth": 1, "num_attention_heads": 2, "dropout": 0.0},
    head_dim=4,
)
SEPARATOR = SeparatingConfig(
    image_options={"dim": 8},
    audio_options={"dim": 8, "num_mels": 16, "widths": (4, 4)},
    head_dim=4,
    embedding_dim=4,
)
LOOP = LoopConfig(
    steps=5,
    warmup_steps=0,
    learning_rate=1e-3,
    num_workers=0,
    precision="fp32",
    log_every=1,
    tensorboard=False,
)


class StillNorms:
    """Batch norms keep still: on a CPU their statistics are each process's own."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.eval()
        return self


class Contrast(StillNorms, nn.Module):
    """A small recipe with negatives from all ranks, masks, a roll over the batch, and a
    parameter that gets no gradient."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = DualEncoder(MODEL)
        self.log_gamma = nn.Parameter(torch.tensor(1.0))
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, batch, step):
        cells = self.model.encode_image(batch["pixels"].float() / 255.0).flatten(3)
        audio = self.model.encode_audio(batch["sound"])
        cells, audio = gather_with_gradient(cells), gather_with_gradient(audio)
        labels = gather_with_gradient(batch["label"])
        silent = gather_with_gradient(batch["silent"])
        peaks = objectives.head_max_peaks(audio, cells, 4.0)
        scores = self.log_gamma.exp() * objectives.pool_time(peaks)
        volume = regularizers.paired_volume(audio, cells.roll(1, dims=0))
        mask = torch.where(silent, 1.0, 0.0)[:, None].expand(-1, volume.shape[2])
        return {
            "contrast": objectives.info_nce(scores, labels[:, None] != labels),
            "splice": regularizers.splice(volume, mask),
        }


class Samples(Dataset):
    """Batch m holds the samples from m * size on."""

    def __init__(self, size):
        self.size = size

    def __getitem__(self, number):
        rows = [self.sample(number * self.size + i) for i in range(self.size)]
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def sample(self, index):
        generator = torch.Generator().manual_seed(index)
        return {
            "pixels": torch.randint(256, (3, 32, 32), generator=generator, dtype=torch.uint8),
            "sound": torch.randn(16_000, generator=generator),
            "label": torch.tensor(index % 3),
            "silent": torch.tensor(index % 4 == 1),
        }


class Clips(Dataset):
    """Batch m of clips as the recipes take them, with classes that several clips share."""

    def __init__(self, size, is_mixed):
        self.size, self.is_mixed = size, is_mixed

    def __getitem__(self, number):
        rows = [self.sample(number * self.size + i) for i in range(self.size)]
        return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}

    def sample(self, index):
        generator = torch.Generator().manual_seed(index)

        def picture():
            return torch.randint(256, (3, 32, 32), generator=generator, dtype=torch.uint8)

        sound, speech = 0.1 * torch.randn(2, 16_000, generator=generator)
        present = torch.arange(3) != (index + 2) % 3
        clip = {
            "sound": sound, "speech": speech,
            "sound_silent": torch.rand(12, generator=generator).round(),
            "speech_silent": torch.rand(12, generator=generator).round(),
            "sound_class": torch.tensor(index % 3), "speech_class": torch.tensor((index + 1) % 3),
            "present": present,
        }  # fmt: skip
        if self.is_mixed:
            pictures = {"sound_pixels": picture(), "speech_pixels": picture()}
            return clip | pictures | {"mixture": sound + speech}
        return clip | {"pixels": picture()}


class Captioned(Clips):
    """Batch m of clips with captions, as paper 004's recipe takes them."""

    def __init__(self, size):
        super().__init__(size, is_mixed=False)

    def sample(self, index):
        generator = torch.Generator().manual_seed(100 + index)
        clip = super().sample(index)
        return {
            "pixels": clip["pixels"], "audio": clip["sound"],
            "foreground": torch.randn(2, 6, generator=generator),
            "foreground_valid": torch.tensor([True, index % 2 == 0]),
            "background": torch.randn(6, generator=generator),
            "background_valid": torch.tensor(index != 2),
            "heard": torch.arange(3) == index % 3,
        }  # fmt: skip


class StillObjectAware(StillNorms, ObjectAware):
    pass


class StillMixAndSeparate(StillNorms, MixAndSeparate):
    pass


class StillDenseav(StillNorms, HeadMaxContrast):
    pass


class Partners(Clips):
    """Clips with a picture each, in pairs of partners that no rank parts."""

    def __init__(self, size):
        super().__init__(size, False)

    def __getitem__(self, number):
        return super().__getitem__(number) | {"partner": torch.arange(self.size) ^ 1}

    def sample(self, index):
        clip = super().sample(index)
        own = {"audio": clip["sound"], "audio_class": clip["sound_class"]}
        return own | {key: clip[key] for key in ("pixels", "present")}


class StillOneAvm(StillNorms, OneAvm):
    pass


class RegionClips(Clips):
    """Regions and a clip each, every two neighbours mixed."""

    def __init__(self, size):
        super().__init__(size, False)

    def __getitem__(self, number):
        return super().__getitem__(number) | {"mixture": torch.arange(self.size) // 2}

    def sample(self, index):
        clip = super().sample(index)
        generator = torch.Generator().manual_seed(index + 1000)
        own = {
            "regions": torch.randn(5, 8, generator=generator),
            "region_valid": torch.arange(5) < 2 + index % 4,
        }
        return own | {key: clip[key] for key in ("sound", "sound_class", "present")}


class StillSeac(StillNorms, RegionContrast):
    pass


def recipe(name):
    """A recipe of the package, on all cells and all pairs, and its data by batch size."""
    torch.manual_seed(0)
    if name == "oassl":
        config = OasslConfig(weight_contrast=1.0, transport_iterations=20)
        model = DualEncoder(replace(MODEL, heads=("sound",)))
        return StillObjectAware(model, config, 6), Captioned
    model = DualEncoder(MODEL)
    options = {"num_non_negative": 0, "sharpness_start": 4.0, "sharpness_end": 4.0}
    if name == "sss":
        return StillMixAndSeparate(model, SssConfig(**options)), lambda size: Clips(size, True)
    if name == "oneavm":
        config = OneAvmConfig(**options, condition="attended", uniform_conditions=0.0)
        return StillOneAvm(SeparatingEncoder(SEPARATOR), config), Partners
    if name == "seac":
        return StillSeac(RegionModel(REGIONS), SeacConfig(masks_negatives=True)), RegionClips
    config = DenseavConfig(**options)
    return StillDenseav(model, config), lambda size: Clips(size, False)


def first_gradients(size, directory, name="contrast"):
    """The first step's loss and gradients, before any update."""
    module, data = (Contrast(), Samples) if name == "contrast" else recipe(name)
    loop = Loop(module.train(), LOOP, directory)
    terms = loop.wrapped(data(size)[distributed.rank()], 0)
    loop.accelerator.backward(sum(terms.values()))
    gradients = {n: p.grad for n, p in loop.recipe.named_parameters() if p.grad is not None}
    return {"terms": {k: v.detach() for k, v in terms.items()}, "gradients": gradients}


def main(directory):
    torch.set_num_threads(1)
    result = first_gradients(NUM_LOCAL, directory / "first")
    for name in RECIPES:
        result[name] = first_gradients(NUM_LOCAL, directory / name, name)
    try:
        gather_with_gradient(torch.zeros(2 + distributed.rank(), 1))
    except ValueError as error:
        result["refusal"] = str(error)

    def stop_the_other(step, row):
        """Called on the main process alone: it signals the other one."""
        if step == 1:
            os.kill(int((directory / "pid").read_text()), signal.SIGTERM)

    if distributed.rank() == 1:
        (directory / "pid").write_text(str(os.getpid()))
    try:
        train(Contrast(), Samples(NUM_LOCAL), LOOP, directory / "run", on_step=stop_the_other)
    except Interrupted as stopped:
        result["stopped"] = (str(stopped), stopped.exit_code)
    trained = train(Contrast(), Samples(NUM_LOCAL), LOOP, directory / "run")
    result["weights"] = trained.state_dict()
    torch.save(result, directory / f"result_{distributed.rank()}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
