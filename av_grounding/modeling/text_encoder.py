"""Frozen text encoders: captions to vectors that training aligns images with. None ships."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

STOP_WORDS = frozenset(("a", "an", "the", "and", "of", "with", "in", "on", "image"))
MAX_TOKENS = 64


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

    Every caption is encoded once and remembered. OSError, with the remedy, where it is not to be
    had.
    """

    def __init__(self, name: str | Path = "google-bert/bert-base-uncased") -> None:
        from transformers import AutoTokenizer, BertModel

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
            self._model = BertModel.from_pretrained(name, add_pooling_layer=False).eval()
        except OSError as error:
            raise OSError(
                f"text encoder {str(name)!r} is not to be had: it is no local folder, and the "
                "Hugging Face hub did not give it. Where that is out of reach, copy the folder "
                "here (config.json, vocabulary and weights) and name it, as --set data.text=DIR, "
                "or take data.text=words"
            ) from error
        self.dim = self._model.config.hidden_size
        self._known: dict[str, np.ndarray] = {}

    def encode(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Raw [CLS] vectors; long captions are cut at 64 tokens."""
        import torch

        new = sorted({caption for caption in captions if caption not in self._known})
        if new:
            tokens = self._tokenizer(
                new, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            with torch.inference_mode():
                vectors = self._model(**tokens).last_hidden_state[:, 0].float().numpy()
            self._known.update(zip(new, vectors, strict=True))
        return np.stack([self._known[caption] for caption in captions])
