"""A model as it ships to a runtime: low-rank updates merged, parametrisations folded, one grid.

The given model stays as it is; its copy shares every parameter that is not changed.
"""

from __future__ import annotations

from copy import deepcopy
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from av_grounding.modeling.conv_image import ConvImageBackbone
from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.modeling.efficientnet_lite import EfficientNetLiteBackbone
from av_grounding.modeling.resnet import ResNetBackbone
from av_grounding.modeling.vision_transformer import DinoBackbone

UNMASKED = "unmasked_sdpa"
EDGE = 3
"""Cells beyond the border that a bicubic weight may fall on."""


class _FixedGridDino(DinoBackbone):
    """Whose `pos_embed` is that of the one grid it is used for."""

    def positions(self, h: int, w: int) -> Tensor:
        return self.pos_embed


class _AnyGridDino(DinoBackbone):
    """Whose positions are products of matrices, in a graph that knows no size yet.

    `F.interpolate` by a factor cannot be exported for sizes that are still open.
    """

    def positions(self, h: int, w: int) -> Tensor:
        size = self.num_cells
        rows, columns = _cubic(h, size), _cubic(w, size)
        # The square that the positions were learned on is not interpolated.
        is_learned = (torch.ones(h).sum() - size).abs() + (torch.ones(w).sum() - size).abs() == 0
        rows = torch.where(is_learned, _same(h, size), rows)
        columns = torch.where(is_learned, _same(w, size), columns)
        grid = self.pos_embed[0, 1:].unflatten(0, (size, size))
        grid = torch.einsum("hi,wj,ijc->hwc", rows, columns, grid)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(0, 1)[None]], dim=1)


def _same(num: int, size: int) -> Tensor:
    return (torch.arange(num)[:, None] == torch.arange(size)).float()


def _cubic(num: int, size: int) -> Tensor:
    """(num, size) weights of bicubic interpolation by (num + 0.1) / size, as PyTorch has it."""
    at = (torch.arange(num) + 0.5) * (size / (torch.ones(num).sum() + 0.1)) - 0.5
    distance = (at[:, None] - torch.arange(-EDGE, size + EDGE)).abs()
    near = (1.25 * distance - 2.25) * distance * distance + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    far = torch.where(distance < 2, far, 0.0)
    weights = torch.where(distance <= 1, near, far)
    # Beyond the border its last value goes on.
    first, inner, last = weights.split([EDGE + 1, size - 2, EDGE + 1], dim=1)
    return torch.cat([first.sum(1, keepdim=True), inner, last.sum(1, keepdim=True)], dim=1)


def is_resizable(model: DualEncoder) -> bool:
    """Whether `folded` can leave the image size open."""
    any_size = (ConvImageBackbone, EfficientNetLiteBackbone, DinoBackbone, ResNetBackbone)
    return isinstance(model.image_backbone, any_size)


def folded(
    model: DualEncoder, height: int, width: int, *, is_any_size: bool = False
) -> DualEncoder:
    """A copy in eval mode, without gradients, for images of height x width pixels or of any size.

    Any size is for those that `is_resizable`.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = deepcopy(model, shared).eval()
    with torch.no_grad():
        _merge_low_rank(model)
        for module in model.modules():
            if parametrize.is_parametrized(module):
                _fold_parametrizations(module)
        if is_any_size:
            if isinstance(model.image_backbone, DinoBackbone):
                model.image_backbone.__class__ = _AnyGridDino
        else:
            _fix_positions(model, height, width)
    for part in (model.image_backbone, model.audio_backbone):
        _forget_masks(part)
    return model


def _merge_low_rank(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if hasattr(layer, "lora_A") and hasattr(layer, "get_base_layer"):
                # Merging writes into the layer's weight, which the caller's model shares.
                own = deepcopy(layer)
                own.merge()
                setattr(parent, name, own.get_base_layer())


def _fold_parametrizations(module: nn.Module) -> None:
    """Weight norm and the like as plain parameters.

    `parametrize.remove_parametrizations` changes the class that the original module shares.
    """
    values = {name: getattr(module, name).detach() for name in module.parametrizations}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _fix_positions(model: DualEncoder, height: int, width: int) -> None:
    backbone, patch_px = model.image_backbone, model.patch_px
    if isinstance(backbone, DinoBackbone):
        table = backbone.positions(height // patch_px, width // patch_px)
        backbone.pos_embed = nn.Parameter(table, requires_grad=False)
        backbone.__class__ = _FixedGridDino
    elif model.config.image_backbone == "vit":
        embeddings = backbone.vit.embeddings
        num_cells = (height // patch_px) * (width // patch_px)
        tokens = torch.empty(1, 1 + num_cells, backbone.dim, device=model.pixel_mean.device)
        table = embeddings.interpolate_pos_encoding(tokens, height, width)
        embeddings.position_embeddings = nn.Parameter(table, requires_grad=False)
        embeddings.interpolate_pos_encoding = MethodType(_own_positions, embeddings)


# A method, since a copy of the embeddings must look at its own values, not at the original's.
def _own_positions(embeddings: nn.Module, tokens: Tensor, height: int, width: int) -> Tensor:
    return embeddings.position_embeddings


def _forget_masks(backbone: nn.Module) -> None:
    """Attention of `transformers` without a mask of all ones, which it builds while exporting.

    It builds none for an attention function of ours, as a window has no padding to mask.
    """
    try:
        from transformers import AttentionInterface
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
    except ImportError:  # before 4.50, which builds none either
        return
    AttentionInterface.register(UNMASKED, sdpa_attention_forward)
    for module in backbone.modules():
        if getattr(module, "config", None) is not None:
            module.config._attn_implementation = UNMASKED
