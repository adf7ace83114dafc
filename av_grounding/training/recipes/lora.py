"""LoRA on the image backbone's attention (000 section 3.3.2; 001 section 3.5), by peft."""

from __future__ import annotations

import logging
from copy import deepcopy

from av_grounding.modeling.dual_encoder import DualEncoder

logger = logging.getLogger(__name__)
TARGET = "qkv"


def add_lora(model: DualEncoder, rank: int, alpha: int, dropout: float) -> DualEncoder:
    """Freeze the image backbone but for low-rank updates of its query, key and value.

    Changes the model in place and returns it. Raises ImportError without peft and ValueError for
    a backbone without such attention.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(
            "LoRA needs peft: pip install 'av_grounding[train]', or --set pretrained.lora_rank=0"
        ) from error
    if not any(name.endswith(TARGET) for name, _ in model.image_backbone.named_modules()):
        raise ValueError(
            f"image backbone {model.config.image_backbone!r} has no layer {TARGET!r} for LoRA; "
            "expected dino: set pretrained.lora_rank=0"
        )
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=[TARGET], bias="none"
    )
    inject_adapter_in_model(config, model.image_backbone)
    return model


def merged(model: DualEncoder) -> DualEncoder:
    """A copy with every low-rank update added to its layer: a plain model again, which ships."""
    model = deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if hasattr(layer, "lora_A") and hasattr(layer, "get_base_layer"):
                layer.merge()
                setattr(parent, name, layer.get_base_layer())
    return model.requires_grad_(True)
