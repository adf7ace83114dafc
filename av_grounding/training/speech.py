"""The speech trunk from nothing: say the corpus, learn from it, and keep what was learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from av_grounding.everyday import corpus, voices
from av_grounding.files import parse_json, replacing
from av_grounding.training.data.spoken_nouns import SpokenNounBatches
from av_grounding.training.loop.loop import LoopConfig, train
from av_grounding.training.loop.run_folder import Progress
from av_grounding.training.recipes.spoken_nouns import SpeechTrunk, SpokenNouns


@dataclass(frozen=True)
class SpeechConfig:
    """What says the corpus and how long is learned from it; both are resumed where they stopped.

    `engines` that are not installed are an error: a trunk that heard fewer knows fewer voices.
    """

    engines: tuple[str, ...] = tuple(voices.ENGINES)
    batch_size: int = 64
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=1500,
            learning_rate=3e-3,
            warmup_steps=50,
            ema_decay=0.995,
            precision="fp32",
            checkpoint_every=100,
            tensorboard=False,
        )
    )


def train_speech(
    nouns: Sequence[str],
    sounds: Sequence[Float32[np.ndarray, " s"]],
    out: Path,
    config: SpeechConfig,
    progress: Progress,
    *,
    start: SpeechTrunk | None = None,
) -> SpeechTrunk:
    """Train a trunk on these nouns; `out` keeps the corpus, the checkpoints and trunk.safetensors.

    `sounds` without speech, at 16 kHz, are what it learns to leave alone. `start` has learned the
    same nouns before, from fewer voices. Raises RuntimeError for an engine that is missing.
    """
    rounds = corpus.plan(config.engines)
    shards = []
    for path in corpus.build(out / "corpus", nouns, rounds):
        shards.append(path)
        progress("corpus", len(shards), len(rounds), {})
    trunk = SpeechTrunk(len(nouns))
    if start is not None:
        trunk.load_state_dict(start.state_dict())
    batches = SpokenNounBatches(
        shards, sounds, seed=config.loop.seed, batch_size=config.batch_size
    )
    trained = train(
        SpokenNouns(trunk), batches, config.loop, out / "run",
        on_step=lambda step, row: progress("speech", step + 1, config.loop.steps, row),
    ).model  # fmt: skip
    save_trunk(trained, nouns, out / "trunk.safetensors")
    return trained


def save_trunk(trunk: SpeechTrunk, nouns: Sequence[str], path: Path) -> None:
    """The weights, with the vocabulary in the file's metadata."""
    tensors = {name: tensor.contiguous().cpu() for name, tensor in trunk.state_dict().items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"vocabulary": json.dumps(list(nouns))})


def load_trunk(path: Path) -> tuple[SpeechTrunk, tuple[str, ...]]:
    """(trunk in evaluation mode, its nouns); ValueError where the file is no such trunk."""
    try:
        with safe_open(path, "pt") as file:
            nouns = tuple(parse_json((file.metadata() or {})["vocabulary"]))
            trunk = SpeechTrunk(len(nouns))
            trunk.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: no speech trunk ({reason}); train it anew") from None
    return trunk.eval(), nouns
