"""What `transformers` must bring for the segmenters of 002: read without importing it."""

from __future__ import annotations

KINDS = {"sam": "Sam", "sam2": "Sam2", "sam_hq": "SamHQ"}
"""Segmenter -> how `transformers` calls its classes."""
MIN_VERSIONS = {"sam": "4.48", "sam2": "4.56", "sam_hq": "4.53", "owlv2": "4.35", "clip": "4.48"}
"""Segmenter, the detector of its boxes, and what sees and names regions -> the first version of
`transformers` that serves."""
