"""The words of a bundle: which things each of its heads knows, as its config.json says."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from av_grounding.files import brief, parse_json, read_text

Vocabulary = Mapping[str, tuple[str, ...]]
"""Head -> the things that it knows, English nouns in the singular."""


def read_vocabulary(directory: str | Path) -> Vocabulary:
    """What the heads of a bundle know; empty where its config.json does not say.

    Raises OSError where there is no bundle, ValueError for a vocabulary that is none.
    """
    path = Path(directory) / "config.json"
    try:
        config = parse_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): copy the bundle again") from None
    words = config.get("vocabulary", {}) if isinstance(config, dict) else None
    if not isinstance(words, dict) or not all(_are_words(of) for of in words.values()):
        raise ValueError(
            f"{path}: its vocabulary is {brief(words)}, expected a list of nouns for each head: "
            "copy the bundle again"
        )
    return {head: tuple(of) for head, of in words.items()}


def nearest(word: str, words: tuple[str, ...], num: int = 3) -> list[str]:
    """The words that are spelt most like one, best first; none where none is like it."""
    return difflib.get_close_matches(word.strip().lower(), words, num)


def _are_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word for word in value)
