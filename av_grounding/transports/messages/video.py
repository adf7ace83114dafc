"""Compressed video of messages, a picture each: foxglove_msgs CompressedVideo."""

from __future__ import annotations

from typing import Any

from av_grounding.files import brief
from av_grounding.image_header import MAX_CODED_PX
from av_grounding.transports.messages.fields import MalformedMessage, as_bytes, stamp_ns_of
from av_grounding.transports.messages.image import decode_compressed_image, decode_image
from av_grounding.types import Frame

VIDEO_FORMATS = {"h264": "h264", "h265": "hevc", "vp9": "vp9", "av1": "libdav1d"}
"""A message's format -> FFmpeg's decoder; its own of AV1 decodes on special hardware alone."""
MAX_WAITING = 64
"""Pictures that a decoder may hold back: streams of messages have no B frames, others 16."""


class VideoDecoder:
    """Decodes the messages of one topic, which must all come, and in order.

    A picture says what has changed since the one before it, so none can be left out before it is
    decoded; until the first key frame there is nothing to see. Needs PyAV; of one thread.
    """

    def __init__(self) -> None:
        self._format = ""
        self._context: Any = None
        self._waiting: dict[int, tuple[int, str]] = {}
        """Packet number -> stamp and frame_id, of those whose picture has not come out."""
        self._number = 0
        self._has_picture = False

    def decode(self, message: Any) -> Frame:
        """The picture that comes out for this message. Raises MalformedMessage where none does."""
        import av

        stamp_ns, frame_id = stamp_ns_of(message.timestamp), str(message.frame_id)
        self._open(str(message.format))
        data = as_bytes(message.data).tobytes()
        if not data:  # to FFmpeg that is the end of the stream
            raise self._nothing(f"0 bytes of {self._format}")
        packet = av.Packet(data)
        packet.pts = self._number
        self._waiting[self._number] = (stamp_ns, frame_id)
        self._number += 1
        try:
            pictures = self._context.decode(packet)
        except (av.FFmpegError, MemoryError) as error:
            self._waiting.pop(packet.pts, None)
            raise self._nothing(f"damaged {self._format} ({error})") from None
        self._waiting = dict(list(self._waiting.items())[-MAX_WAITING:])
        for picture in pictures:
            stamp_ns, frame_id = self._waiting.pop(picture.pts, (stamp_ns, frame_id))
            if not picture.is_corrupt:
                self._has_picture = True
                return Frame(picture.to_ndarray(format="rgb24"), stamp_ns, frame_id)
        raise self._nothing(f"no picture comes out of {packet.size} bytes of {self._format}")

    def _open(self, name: str) -> None:
        if self._context is not None and name == self._format:
            return
        if name not in VIDEO_FORMATS:
            raise MalformedMessage(
                "encoding",
                f"video format {brief(name)}: expected one of {', '.join(VIDEO_FORMATS)}",
            )
        import av

        # Every picture at once: threads and reordering would each hold some back.
        self._context = av.CodecContext.create(VIDEO_FORMATS[name], "r")
        self._context.thread_count = 1
        self._context.flags |= int(av.codec.context.Flags.low_delay)
        self._context.options = {"max_pixels": str(MAX_CODED_PX)}
        self._format, self._has_picture = name, False
        self._waiting.clear()

    def _nothing(self, what: str) -> MalformedMessage:
        if self._has_picture:
            return MalformedMessage("damaged", f"{what}: shown again from the next key frame on")
        return MalformedMessage("keyframe", f"{what}: no key frame came yet; waiting for one")


def decode_picture(message: Any, decoder: VideoDecoder) -> Frame:
    """Any of the known pictures, known by their fields as in `decode_audio`. MalformedMessage.

    `decoder` is the topic's own: compressed video must come whole and in order.
    """
    if hasattr(message, "timestamp"):
        return decoder.decode(message)
    return (decode_image if hasattr(message, "encoding") else decode_compressed_image)(message)
