"""A small linear dual encoder in NumPy, for tests of the streaming core.

The core knows no model runtime and must be testable without one and without a trained bundle, so
this backend computes for real what a bundle computes: a fixed random projection of the spectrum
around each token, a fixed random projection of each image patch, and their inner product. Like a
trained encoder it looks past a token's own stride, so tokens at a window's edge differ from the
same tokens further inside.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from av_grounding.types import Backend, HeadCalibration, HeadSpec, ModelSpec

PATCH_PX = 8
STRIDE = 640
"""Samples per token: 40 ms at 16 kHz."""


class TinyBackend(Backend):
    name = "tiny"

    def __init__(
        self,
        *,
        heads: tuple[str, ...] = ("sound", "speech"),
        window_s: float = 1.0,
        hop_s: float = 0.2,
        num_channels: int = 6,
        context_s: float = 0.08,
        salience_power: float = 1.0,
        min_token_norm: Mapping[str, float] | None = None,
        short_side_px: int = 32,
        seed: int = 0,
    ) -> None:
        calibration = {"sound": HeadCalibration(2.0, -0.5), "speech": HeadCalibration(1.5, 0.2)}
        self.spec = ModelSpec(
            heads=tuple(
                HeadSpec(
                    name,
                    "utterance" if name == "speech" else "recent",
                    calibration.get(name, HeadCalibration(2.0, -0.5)),
                    (min_token_norm or {}).get(name, 0.0),
                    salience_power,
                )
                for name in heads
            ),
            sample_rate_hz=16_000,
            window_s=window_s,
            hop_s=hop_s,
            num_tokens=round(window_s * 16_000) // STRIDE,
            short_side_px=short_side_px,
            patch_px=PATCH_PX,
            context_s=context_s,
        )
        rng = np.random.default_rng(seed)
        k, c = len(heads), num_channels
        self._of_sound = rng.standard_normal((k, c, 16)).astype(np.float32)
        self._of_patch = rng.standard_normal((k, c, 3 * PATCH_PX**2)).astype(np.float32) / 14.0
        self.num_images = 0
        self.num_windows = 0

    def encode_audio(self, waveform: np.ndarray) -> np.ndarray:
        assert waveform.shape == (self.spec.num_window_samples,)
        assert waveform.dtype == np.float32
        self.num_windows += 1
        padded = np.pad(waveform, STRIDE)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 3 * STRIDE)[::STRIDE]
        spectrum = np.abs(np.fft.rfft(windows * np.hanning(3 * STRIDE), axis=1))
        bands = np.log1p(spectrum[:, :960].reshape(-1, 16, 60).mean(axis=2)).astype(np.float32)
        return np.einsum("kcf,tf->kct", self._of_sound, bands)

    def encode_image(self, image: np.ndarray) -> np.ndarray:
        assert image.dtype == np.uint8
        self.num_images += 1
        height, width = image.shape[0] // PATCH_PX, image.shape[1] // PATCH_PX
        pixels = image.astype(np.float32) / 255.0 - 0.5
        patches = pixels.reshape(height, PATCH_PX, width, PATCH_PX, 3).transpose(0, 2, 1, 3, 4)
        return np.einsum("kcp,hwp->kchw", self._of_patch, patches.reshape(height, width, -1))

    def similarity(self, tokens: np.ndarray, queries: np.ndarray) -> np.ndarray:
        return np.einsum("knc,kchw->knhw", queries, tokens).reshape(*queries.shape[:2], -1)

    def grid(self, tokens: np.ndarray) -> tuple[int, int]:
        return tokens.shape[-2:]

    def describe(self) -> dict[str, str]:
        return {"backend": self.name}
