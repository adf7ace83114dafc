"""A backend for other windows than its spec's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from av_grounding.types import Backend, ModelSpec


def with_window(backend: Backend, window_s: float) -> Backend:
    """The same backend for windows of about `window_s` seconds, in whole tokens.

    Raises what the backend raises for a window that it was not compiled for.
    """
    spec = backend.spec
    stride = round(spec.token_stride_s * spec.sample_rate_hz)
    num_samples = max(1, round(window_s * spec.sample_rate_hz / stride)) * stride
    resized: ModelSpec = replace(
        spec,
        window_s=num_samples / spec.sample_rate_hz,
        hop_s=min(spec.hop_s, num_samples / spec.sample_rate_hz),
        token_spacing_s=spec.token_stride_s,
    )
    # Windows that tokens do not fill have as many as the model says.
    tokens = backend.with_spec(resized).encode_audio(np.zeros(num_samples, np.float32))
    return backend.with_spec(replace(resized, num_tokens=tokens.shape[2]))
