"""Official DenseAV checkpoints as bundles: found or downloaded, read, converted, written.

Checkpoints are data: a file that could only be read by running code in it is refused.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from av_grounding.files import brief, parse_json, read_text, sha256, write_text
from av_grounding.modeling.bundle import save_bundle
from av_grounding.modeling.bundle_config import CONFIG_FILE
from av_grounding.modeling.denseav import denseav_config, denseav_spec
from av_grounding.modeling.denseav_layout import convert
from av_grounding.modeling.download import download
from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.modeling.tensor_files import UnreadableFile, plain_tensors, read_torch_file

logger = logging.getLogger(__name__)

BASE_URL = "https://marhamilresearch4.blob.core.windows.net/denseav-public/hub/"
VARIANTS = {
    "sound": "denseav_sound.ckpt",
    "language": "denseav_language.ckpt",
    "sound_and_language": "denseav_2head.ckpt",
}
HEADS = {"sound": ("sound",), "language": ("speech",), "sound_and_language": ("sound", "speech")}
LICENCE = "MIT (DenseAV); its backbones began as DINO and HuBERT, both Apache-2.0"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors, mapped into memory, and the settings it was trained with."""

    path: Path
    state: dict[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """What an import made, and of what."""

    bundle: Path
    heads: tuple[str, ...]
    source: str
    sha256: str
    num_tensors: int
    num_parameters: int


def import_denseav(
    source: str,
    out: str | Path,
    *,
    variant: str | None = None,
    expected_sha256: str | None = None,
    normalize_audio: bool = True,
    first_head: str = "speech",
    downloads: Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    config: ModelConfig | None = None,
) -> Imported:
    """Write the bundle `out` from a variant's name, a URL, or a checkpoint file or folder.

    `variant` says what a file with one head was trained on, where its name does not. `first_head`
    is what comes first in a checkpoint of two heads; ours is always (sound, speech). `config` is
    for a geometry other than the released one; its heads are replaced.

    Raises ValueError for a checkpoint that is not DenseAV's, OSError for one that is not to be
    had; nothing is written then.
    """
    out = Path(out)
    check_destination(out)
    if first_head not in ("sound", "speech"):
        raise ValueError(f"first head {first_head!r}; expected sound or speech")
    path, origin = locate(source, downloads or default_downloads(), progress)
    weights = path / "model.safetensors" if path.is_dir() else path
    if not weights.is_file():
        raise FileNotFoundError(f"{path}: no {weights.name} there; name a checkpoint")
    digest = sha256(weights)
    if expected_sha256 and digest != expected_sha256.strip().lower():
        raise ValueError(
            f"{weights} has sha256 {digest}, expected {expected_sha256}: damaged or not the file "
            "that was meant; remove it and fetch it again"
        )
    checkpoint = read_checkpoint(path)
    variant = find_variant(checkpoint, variant or (source if source in VARIANTS else None))
    heads = HEADS[variant]
    config = _with_heads(config or denseav_config(), heads, normalize_audio)
    with torch.device("meta"):
        model = DualEncoder(config)
    order = (1, 0) if len(heads) == 2 and first_head == "speech" else tuple(range(len(heads)))
    try:
        converted = convert(checkpoint.state, model.state_dict(), order)
    except ValueError as error:
        raise ValueError(f"{weights} is no DenseAV checkpoint: {error}") from None
    model.load_state_dict(converted.state, assign=True)
    info = {
        "recipe": "denseav",
        "source": origin,
        "source_sha256": digest,
        "source_num_tensors": len(checkpoint.state),
        "variant": variant,
        "heads_in_source": [heads[place] for place in order],
        "temperature": converted.temperature,
        "calibration": "default: sigmoid(temperature * similarity - log 79)",
        "licence": LICENCE,
    }
    spec = denseav_spec(model, converted.temperature)
    save_bundle(out, model, spec, name=f"denseav-{variant}", info=info, dtype=torch.float32)
    write_text(out / "README.md", model_card(info, heads, normalize_audio))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Imported(out, heads, origin, digest, len(checkpoint.state), num_parameters)


def check_destination(out: Path) -> None:
    """Refuse to write into anything that is neither new, nor empty, nor a bundle."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; expected a folder to write the bundle into")
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG_FILE).is_file():
        raise ValueError(f"{out} holds other files; expected a new or empty folder, or a bundle")


def default_downloads() -> Path:
    """The user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("av_grounding") / "downloads"


def locate(
    source: str, downloads: Path, progress: Callable[[int, int | None], None] | None = None
) -> tuple[Path, str]:
    """The file or folder that `source` names, downloaded if need be, and where it is from."""
    url = BASE_URL + VARIANTS[source] if source in VARIANTS else source
    if not re.match(r"[a-z][a-z0-9+.-]+://", url):
        path = Path(url)
        if not path.exists():
            raise FileNotFoundError(
                f"{source}: no such file and no variant; the variants are {', '.join(VARIANTS)}"
            )
        return path, path.name
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url}: expected a URL that begins with https:// or http://")
    name = url.split("?")[0].split("#")[0].rstrip("/").rsplit("/", 1)[-1]
    return download(url, downloads / name, progress), url


def read_checkpoint(path: Path) -> Checkpoint:
    """A Lightning .ckpt, a .safetensors file or a folder with one, without running any code.

    Raises ValueError with the reason where that cannot be done.
    """
    if path.is_dir():
        path = path / "model.safetensors"
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = read_torch_file(path, mmap=True)
    except UnreadableFile as error:
        raise ValueError(_why_refused(path, error)) from None
    state, settings = content, {}
    if isinstance(content, Mapping) and "state_dict" in content:
        state, settings = content["state_dict"], content.get("hyper_parameters") or {}
    if isinstance(settings, argparse.Namespace):
        settings = vars(settings)
    try:
        tensors = plain_tensors(state)
    except UnreadableFile as error:
        raise ValueError(
            f"{path} holds no state_dict of tensors ({error}); expected a Lightning checkpoint"
        ) from None
    return Checkpoint(path, tensors, settings if isinstance(settings, Mapping) else {})


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}): fetch it again") from None
    beside = path.with_name("config.json")
    try:
        settings = parse_json(read_text(beside)) if beside.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{beside} is no JSON ({error}): fetch it again") from None
    return Checkpoint(path, state, settings if isinstance(settings, dict) else {})


def _why_refused(path: Path, error: UnreadableFile) -> str:
    if error.refused_global is None:
        return f"{path} is damaged or no checkpoint ({error}): fetch it again"
    return (
        f"{path} is refused: reading it would run code, as it refers to {error.refused_global} "
        "besides tensors and plain values; use the safetensors release of these weights, or, if "
        "you trust the file, save its state_dict as safetensors where it was made"
    )


def find_variant(checkpoint: Checkpoint, named: str | None) -> str:
    """Which of the variants it is: from its settings, else its name, checked against `named`.

    One head or two makes no difference to the tensors.
    """
    if named is not None and named not in VARIANTS:
        raise ValueError(f"variant {named!r}; expected one of {', '.join(VARIANTS)}")
    path = checkpoint.path
    name = (path.parent.name if path.name == "model.safetensors" else path.stem).lower()
    hears_sound, hears_speech = "sound" in name, "language" in name or "speech" in name
    num_heads = checkpoint.settings.get("sim_agg_heads")
    if num_heads is None and ("2head" in name or (hears_sound and hears_speech)):
        num_heads = 2
    if num_heads is not None and (type(num_heads) is not int or num_heads not in (1, 2)):
        raise ValueError(f"{path} has {brief(num_heads)} heads; expected 1 or 2")
    if named is not None:
        if num_heads is not None and num_heads != len(HEADS[named]):
            raise ValueError(
                f"{path} has {num_heads} head{'s' * (num_heads > 1)}, but {named} has "
                f"{len(HEADS[named])}: name another variant"
            )
        return named
    if num_heads == 2:
        return "sound_and_language"
    if hears_sound != hears_speech:
        return "sound" if hears_sound else "language"
    if num_heads == 1:
        logger.warning(
            "%s does not say what its one head was trained on: it is taken for the sound head; "
            "for speech, say --variant language",
            path,
        )
        return "sound"
    raise ValueError(
        f"{path} does not say how many heads it has; name the variant "
        f"({', '.join(VARIANTS)}) with --variant"
    )


def _with_heads(config: ModelConfig, heads: tuple[str, ...], normalize_audio: bool) -> ModelConfig:
    width = len(config.heads) * config.head_dim
    return replace(
        config, heads=heads, head_dim=width // len(heads), normalize_audio=normalize_audio
    )


def model_card(info: Mapping[str, Any], heads: tuple[str, ...], normalize_audio: bool) -> str:
    """The bundle's README."""
    scaling = "normalised to zero mean and unit variance" if normalize_audio else "taken raw"
    return f"""# DenseAV, {info["variant"].replace("_", " ")}

Separating the "chirp" from the "chat" (Hamilton et al., CVPR 2024), imported by av_grounding.

| | |
|---|---|
| source | {info["source"]} |
| sha256 of the source | {info["source_sha256"]} |
| licence | {info["licence"]} |
| heads | {", ".join(heads)} (in the source: {", ".join(info["heads_in_source"])}) |
| model | ViT-S/8 with its LoRA merged, HuBERT-Large, the released audio aligner; float32 |
| waveform | 16 kHz mono, windows of 10 s, {scaling} |
| calibration | default: sigmoid(γ S - log 79), γ = {info["temperature"]:.6g} of the checkpoint |

Fit the calibration on clips like yours with `av-grounding calibrate`, and see which head answers
which sound with `av-grounding heads`.
"""
