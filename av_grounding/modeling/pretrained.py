"""Pretrained backbones, from the Hugging Face hub or a local folder or file, as our modules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from av_grounding.modeling.resnet import ResNetBackbone
from av_grounding.modeling.tensor_files import UnreadableFile, plain_tensors, read_torch_file
from av_grounding.modeling.transformer_backbones import HubertBackbone
from av_grounding.modeling.vision_transformer import DinoBackbone

# The vision transformer of `transformers` under its names of version 4 and of version 5, and
# DINO's own files: each name there, and what it is here.
RENAMED = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed."),
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^layernorm\.", "norm."),
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.(q|k|v)_proj\.", r".attn.\1_proj."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
PARTS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))
UNUSED = ("pooler.", "head.", "classifier.")


def load_dino(backbone: DinoBackbone, source: str | Path) -> None:
    """Give the backbone DINO's weights: a name on the hub, its folder, or DINO's own .pth file.

    Raises OSError where the source is not to be had, and ValueError, listing every tensor that is
    missing, unexpected or of another shape, where it is another network.
    """
    path = Path(source)
    if path.is_file():
        state = _read_file(path)
    else:
        from transformers import ViTModel

        state = _from_hub(ViTModel, source, add_pooling_layer=False)
    load_exactly(backbone, convert_dino(state), source)


def convert_dino(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A vision transformer's tensors under our names, query, key and value in one matrix."""
    named = {}
    for name, tensor in state.items():
        name = name.removeprefix("vit.").removeprefix("module.").removeprefix("backbone.")
        if name.startswith(UNUSED):
            continue
        for pattern, ours in RENAMED:
            name = re.sub(pattern, ours, name)
        named[name] = tensor.float()
    for query, key, value in PARTS:
        for name in [name for name in named if f".attn.{query}." in name]:
            others = [name.replace(f".{query}.", f".{part}.") for part in (query, key, value)]
            if all(other in named for other in others):
                parts = [named.pop(other) for other in others]
                named[name.replace(f".{query}.", ".qkv.")] = torch.cat(parts)
    return named


def load_hubert(backbone: HubertBackbone, source: str | Path) -> None:
    """Give the backbone HuBERT's weights: a name on the hub, or its folder. Errors as above."""
    from transformers import HubertModel

    load_exactly(backbone.hubert, _from_hub(HubertModel, source), source)


def read_vggish(source: str | Path) -> dict[str, Tensor]:
    """VGGish's weights under the released names, from a file of PyTorch, for `load_exactly`.

    Raises OSError where there is no such file, and ValueError where it holds no weights.
    """
    path = Path(source)
    if not path.is_file():
        raise OSError(
            f"weights {str(source)!r} are not to be had: VGGish is on no hub; expected the file "
            "vggish-10086976.pth of harritaylor/torchvggish, release v0.1: name it with --set "
            "pretrained.audio=FILE"
        )
    return _read_file(path)


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        return plain_tensors(read_torch_file(path))
    except UnreadableFile as error:
        raise ValueError(f"{path} holds no weights ({error}): fetch it again") from None


def load_resnet(backbone: torch.nn.Module, source: str | Path) -> None:
    """Give the image backbone a ResNet's weights: a name on the hub, or a folder. Errors as above.

    Also ValueError for another backbone.
    """
    if not isinstance(backbone, ResNetBackbone):
        raise ValueError(
            f"weights {str(source)!r} of a ResNet for a {type(backbone).__name__}; expected "
            "model.image_backbone=resnet, or pretrained.image= for none"
        )
    load_from_hub(backbone.resnet, source)


def load_from_hub(
    module: torch.nn.Module, source: str | Path, unused: tuple[str, ...] = ()
) -> None:
    """Give a model of `transformers` its pretrained weights: a name on the hub, or a folder.

    `unused`: beginnings of names that the module goes without. Errors as above.
    """
    state = _from_hub(type(module), source)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(unused)}
    load_exactly(module, kept, source)


def load_exactly(module: torch.nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load a state that must fit in every name and shape."""
    target = module.state_dict()
    problems = [f"missing {name}" for name in sorted(target.keys() - state.keys())]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - target.keys())]
    problems += [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(target[name].shape)}"
        for name in sorted(target.keys() & state.keys())
        if state[name].shape != target[name].shape
    ]
    if problems:
        rest = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(
            f"{source} does not fit the model: {'; '.join(problems[:8])}{rest}: set model options "
            "that fit it, or name other weights"
        )
    module.load_state_dict(state)


def _from_hub(model: type, source: str | Path, **options: object) -> dict[str, Tensor]:
    """Its weights in float32. Parameters that a checkpoint lacks are an error, not random."""
    options = {**options, "output_loading_info": True}
    try:
        with _silent():
            try:
                found, report = model.from_pretrained(str(source), dtype=torch.float32, **options)
            except TypeError:  # before transformers 4.56 the option has its older name
                found, report = model.from_pretrained(
                    str(source), torch_dtype=torch.float32, **options
                )
    except OSError as error:
        raise OSError(
            f"weights {str(source)!r} are not to be had: they are no local folder, and the "
            "Hugging Face hub did not give them. Where it is out of reach, copy the folder "
            "(config.json and its weights) here and name it, as --set pretrained.image=DIR"
        ) from error
    # Fine-tuned checkpoints may lack the vector that masks inputs in pretraining; nothing uses it.
    missing = [name for name in report["missing_keys"] if not name.endswith("masked_spec_embed")]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(sorted(missing)[:8])}: not such a network")
    return found.state_dict()


@contextmanager
def _silent() -> Iterator[None]:
    """Without the report on tensors that are another part's: what matters is checked here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
