"""A multimodal language model that says which object of a picture makes a sound (paper 004).

It sees the picture and the sound's class, and never hears it. Only architectures that
`transformers` holds itself run: code from a hub never does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

PROMPT = """Look at the picture. These things can be heard: {labels}.
Write captions as one JSON object and nothing else:
{{"foreground": [one caption for each thing that is heard, in the order above], \
"background": "one caption for everything else"}}
Rules:
- Every caption begins with "an image of".
- A foreground caption describes the object that makes the sound, and how one sees that it does.
- An object of the same kind that makes no sound, such as an instrument that nobody plays, \
belongs to the background, and is called silent there.
- The background never names an object that is heard.
"""
MAX_NEW_TOKENS = 200
NATIVE = "OpenGVLab/InternVL3-8B-hf, Qwen/Qwen2.5-VL-7B-Instruct or a local folder of such a model"


class MultimodalCaptioner:
    """`answer(images, labels)` gives the model's texts, decoded greedily.

    `source` is a name on the Hugging Face hub or a local folder; `prompt` holds `{labels}` where
    the classes go. OSError where the model is not to be had, ValueError for one that needs code
    of its own or cannot take pictures, and for a prompt without labels.
    """

    def __init__(self, source: str | Path, *, device: str = "auto", prompt: str = PROMPT) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            is_named = "{labels}" in prompt and prompt.format(labels="a bell") != prompt
        except (KeyError, IndexError, ValueError):
            is_named = False
        if not is_named:
            raise ValueError(
                "the prompt has no {labels}, or other braces that are not doubled; expected "
                "{labels} where the classes go, and {{ and }} for braces"
            )
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        options: dict[str, Any] = {"trust_remote_code": False}
        try:
            self._processor = AutoProcessor.from_pretrained(str(source), **options)
            self._model = AutoModelForImageTextToText.from_pretrained(
                str(source), dtype=dtype, **options
            )
        except OSError as error:
            raise OSError(
                f"model {str(source)!r} is not to be had: it is no local folder, and the Hugging "
                f"Face hub did not give it; expected for instance {NATIVE}"
            ) from error
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{source} is no model that transformers runs by itself with pictures and text; "
                f"expected for instance {NATIVE}"
            ) from error
        self._model.eval().to(device)
        self._source, self._prompt, self._device = str(source), prompt, device
        tokenizer = getattr(self._processor, "tokenizer", None)
        if getattr(self._processor, "chat_template", None) is None or tokenizer is None:
            raise ValueError(
                f"{source} has no chat template, so it follows no instruction; expected for "
                f"instance {NATIVE}"
            )
        # Answers begin where the batch ends.
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def describe(self) -> dict[str, Any]:
        """What decides about its answers."""
        return {
            "model": self._source,
            "revision": getattr(self._model.config, "_commit_hash", None),
            "prompt": hashlib.sha256(self._prompt.encode()).hexdigest()[:16],
            "decoding": f"greedy, {MAX_NEW_TOKENS} tokens",
        }

    def answer(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], labels: Sequence[Sequence[str]]
    ) -> list[str]:
        """One text a picture; in batches that fit the device."""
        if not images:
            return []
        texts = [
            self._processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
                add_generation_prompt=True,
            )
            for text in (self._prompt.format(labels=", ".join(names)) for names in labels)
        ]
        inputs = self._processor(
            images=[[image] for image in images], text=texts, padding=True, return_tensors="pt"
        ).to(self._device, self._model.dtype)
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        new = tokens[:, inputs["input_ids"].shape[1] :]
        return self._processor.batch_decode(new, skip_special_tokens=True)
