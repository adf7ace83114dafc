"""Frozen text encoders: captions to vectors that training aligns images with. None ships."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

STOP_WORDS = frozenset(("a", "an", "the", "and", "of", "with", "in", "on", "image"))
MAX_TOKENS, BATCH_SIZE = 64, 256


class WordVectors:
    """One fixed random direction a content word, and their mean for a caption.

    For worlds with a vocabulary of their own, where no language model is needed to know that two
    captions name the same thing. The same word has the same vector in every process.
    """

    def __init__(self, dim: int = 256) -> None:
        self.dim = dim
        self._known: dict[str, np.ndarray] = {}

    def encode(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Unit vectors; ValueError for a caption without a content word."""
        return np.stack([self._caption(caption) for caption in captions])

    def _caption(self, caption: str) -> np.ndarray:
        words = [word for word in re.findall(r"\w+", caption.lower()) if word not in STOP_WORDS]
        if not words:
            raise ValueError(f"caption {caption!r} names nothing; expected at least one word")
        total = np.sum([self._word(word) for word in words], axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)

    def _word(self, word: str) -> np.ndarray:
        if word not in self._known:
            rng = np.random.default_rng(zlib.crc32(word.encode()))
            vector = rng.standard_normal(self.dim)
            self._known[word] = vector / np.linalg.norm(vector)
        return self._known[word]


class BertText:
    """BERT, frozen: [CLS] of its last hidden state (004 section 4.2), not the pooled output.

    Every caption is encoded once and remembered, on a GPU where there is one. The weights are read
    at the first; OSError, with the remedy, where they are not to be had.
    """

    def __init__(self, name: str | Path = "google-bert/bert-base-uncased") -> None:
        self.name = name
        self._known: dict[str, np.ndarray] = {}

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Tokenizer and network."""
        from transformers import AutoTokenizer, BertModel

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.name)
            model = BertModel.from_pretrained(self.name, add_pooling_layer=False)
        except OSError as error:
            raise OSError(
                f"text encoder {str(self.name)!r} is not to be had: no local folder is there, and "
                "the Hugging Face hub gave none. Where that is out of reach, copy the folder here "
                "(config.json, vocabulary and weights) and name it, as --set data.text=DIR, or "
                "take data.text=words"
            ) from error
        return tokenizer, model.eval()

    def encode(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Raw [CLS] vectors; long captions are cut at 64 tokens."""
        new = sorted({caption for caption in captions if caption not in self._known})
        for first in range(0, len(new), BATCH_SIZE):
            some = new[first : first + BATCH_SIZE]
            self._known.update(zip(some, self._vectors(some), strict=True))
        return np.stack([self._known[caption] for caption in captions])

    def _vectors(self, captions: list[str]) -> Float32[np.ndarray, "n d"]:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer, model = self._parts
        tokens = tokenizer(
            captions, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(device)
        with torch.inference_mode():
            found = model.to(device)(**tokens).last_hidden_state[:, 0]
        return found.float().cpu().numpy()
