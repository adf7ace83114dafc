"""The stage before a recipe: its aligners come back changed, its backbones as they were."""

import torch
from torch.utils.data import Dataset

from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.training.loop.config import LoopConfig
from av_grounding.training.recipes.denseav import DenseavConfig, HeadMaxContrast
from av_grounding.training.runs import warm_up_aligners


class Pairs(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        generator = torch.Generator().manual_seed(number)
        return {
            "pixels": torch.rand(3, 3, 32, 32, generator=generator),
            "audio": 0.1 * torch.randn(3, 10_240, generator=generator),
            "silent": torch.zeros(3, 8),
        }


def test_only_what_is_new_learns_and_the_recipe_takes_it_over(tmp_path):
    torch.manual_seed(0)
    recipe = HeadMaxContrast(DualEncoder(ModelConfig(head_dim=8)), DenseavConfig.synthetic())
    before = {name: value.clone() for name, value in recipe.state_dict().items()}
    loop = LoopConfig(steps=2, warmup_steps=0, precision="fp32", num_workers=0, tensorboard=False)
    told = []
    warm_up_aligners(recipe, Pairs(), loop, tmp_path, lambda *row: told.append(row[:3]))
    assert told == [("aligners", 1, 2), ("aligners", 2, 2)]
    after = recipe.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert "model.image_aligner.project.weight" in changed
    assert "model.audio_aligner.project.weight" in changed
    assert not any("backbone" in name for name in changed)


def test_no_steps_change_nothing(tmp_path):
    recipe = HeadMaxContrast(DualEncoder(ModelConfig(head_dim=8)), DenseavConfig.synthetic())
    warm_up_aligners(recipe, Pairs(), LoopConfig(steps=0), tmp_path / "none", print)
    assert not (tmp_path / "none").exists()
