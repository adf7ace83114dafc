"""From a recipe's settings to the recipe."""

from __future__ import annotations

from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.training.recipes.contrast import Contrast
from av_grounding.training.recipes.denseav import DenseavConfig, HeadMaxContrast
from av_grounding.training.recipes.sss import MixAndSeparate, SssConfig

RECIPES = {SssConfig: MixAndSeparate, DenseavConfig: HeadMaxContrast}


def make_recipe(model: DualEncoder, config: SssConfig | DenseavConfig) -> Contrast:
    return RECIPES[type(config)](model, config)
