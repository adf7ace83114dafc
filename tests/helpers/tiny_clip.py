"""A CLIP of a few thousand random weights with a tokenizer of letters, in a local folder."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8, "projection_dim": 12,
}  # fmt: skip
LETTERS = [*string.ascii_lowercase, *string.digits, "."]
VOCABULARY = [*LETTERS, *(f"{one}</w>" for one in LETTERS), "<|startoftext|>", "<|endoftext|>"]


def save_tiny_clip(folder: Path, **vision: int) -> Path:
    """As `CLIPModel.save_pretrained` writes it, tokenizer beside it."""
    torch.manual_seed(3)
    num = len(VOCABULARY)
    text = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": num, "max_position_embeddings": 40,
        "bos_token_id": num - 2, "eos_token_id": num - 1, "pad_token_id": num - 1,
        "projection_dim": 12,
    }  # fmt: skip
    vision = {**VISION, **vision}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": VOCABULARY[-2], "unk_token": VOCABULARY[-1]}
    special |= {"eos_token": VOCABULARY[-1], "pad_token": VOCABULARY[-1]}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 40, **special})
    )
    return folder
