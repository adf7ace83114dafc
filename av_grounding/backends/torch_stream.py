"""One stream of sound on the eager PyTorch backend, of which every frame is computed once."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32

from av_grounding.modeling.dual_encoder import DualEncoder
from av_grounding.modeling.streaming_front import StreamingFront


class TorchAudioStream:
    """An `AudioStream`: the front's frames are kept, the transformer hears the whole window."""

    def __init__(self, model: DualEncoder, front: StreamingFront, device: torch.device) -> None:
        self._model, self._front, self._device = model, front, device

    def reset(self) -> None:
        self._front.reset()

    @torch.inference_mode()
    def encode(
        self, waveform: Float32[np.ndarray, " s"], num_new: int
    ) -> Float32[np.ndarray, "k c t"]:
        # A copy: what is kept must not change with the caller's buffer.
        samples = torch.tensor(waveform, device=self._device)[None]
        return self._model.encode_front(self._front(samples, num_new))[0].float().cpu().numpy()
