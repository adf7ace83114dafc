"""A trunk and an aligner of its own for every head, behind the one interface of a backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from av_grounding.modeling.conv_audio import ConvAudioBackbone
from av_grounding.modeling.effects_audio import EffectsBackbone
from av_grounding.modeling.prototypes import PrototypeAligner

TRUNKS = {"conv": ConvAudioBackbone, "effects": EffectsBackbone}


class TrunkPerHead(nn.Module):
    """Waveform (b, s) to the features of all heads' trunks, one after another in the channels.

    `TrunkPerHead(sound="effects", speech="conv", speech_options={...})`: the name of each head's
    trunk, and what its constructor is to know. All have tokens on one grid in time.
    """

    def __init__(self, **trunks: Any) -> None:
        super().__init__()
        kinds = {name: kind for name, kind in trunks.items() if not name.endswith("_options")}
        if unknown := sorted({str(kind) for kind in kinds.values()} - set(TRUNKS)):
            raise ValueError(f"trunks {', '.join(unknown)}; expected {' or '.join(TRUNKS)}")
        self.trunks = nn.ModuleDict(
            {
                name: TRUNKS[kind](**trunks.get(f"{name}_options", {}))
                for name, kind in kinds.items()
            }
        )
        strides = {name: trunk.token_samples for name, trunk in self.trunks.items()}
        if len(set(strides.values())) != 1:
            raise ValueError(f"tokens of {strides} samples; expected one stride for all trunks")
        self.token_samples = next(iter(strides.values()))
        self.dims = [trunk.dim for trunk in self.trunks.values()]
        self.dim = sum(self.dims)
        self.context_s = max(trunk.context_s for trunk in self.trunks.values())

    def forward(self, waveform: Float[Tensor, "b s"]) -> Float[Tensor, "b d t"]:
        features = [trunk(waveform) for trunk in self.trunks.values()]
        num = min(one.shape[-1] for one in features)
        return torch.cat([one[..., :num] for one in features], dim=1)


class AlignerPerHead(nn.Module):
    """Features of `TrunkPerHead` to tokens (b, k, v, t), by one `PrototypeAligner` a head."""

    stride = 1

    def __init__(
        self,
        dim_in: int,
        num_heads: int,
        num_things: int,
        *,
        eps: float = 1e-5,
        dims: Sequence[int],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(dims) != num_heads or sum(dims) != dim_in:
            raise ValueError(f"trunks of {list(dims)} channels for {num_heads} heads")
        self.dims = list(dims)
        self.heads = nn.ModuleList(
            PrototypeAligner(dim, num_things, eps=eps, **(options or {})) for dim in dims
        )

    def forward(self, x: Float[Tensor, "b d t"]) -> Float[Tensor, "b k v t"]:
        parts = x.split(self.dims, dim=1)
        return torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], 1)
