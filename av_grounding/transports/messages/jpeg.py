"""The size of a message's JPEG or PNG, before anything is decoded."""

from __future__ import annotations

import numpy as np

from av_grounding import image_header as coded
from av_grounding.transports.messages.fields import MalformedMessage


def coded_size(data: np.ndarray) -> tuple[int, int]:
    """(height, width) of a complete JPEG or PNG file; MalformedMessage for any other bytes."""
    try:
        return coded.coded_size(memoryview(np.ascontiguousarray(data)))
    except coded.CodedPictureError as error:
        raise MalformedMessage(error.kind, str(error)) from None
