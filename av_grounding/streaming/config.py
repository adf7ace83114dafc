"""The streaming core's settings, which stand with all others in `av_grounding.config`."""

from av_grounding.config.streaming import StreamingConfig

__all__ = ["StreamingConfig"]
