"""Message objects with ROS field names and no middleware: what the decoders may be handed."""

from array import array
from types import SimpleNamespace

import numpy as np

from av_grounding.transports.messages import Fields, build


def as_object(fields: Fields):
    """Plain objects in place of message classes: `build` with a lookup that knows every type."""
    return build(fields, lambda name: SimpleNamespace)


def header(stamp_ns=1_700_000_000_123_456_789, frame_id="optical"):
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def image(data, encoding, height, width, step, is_bigendian=0, **head):
    return SimpleNamespace(
        header=header(**head),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=step,
        data=array("B", data),
    )


def compressed(data, form="jpeg"):
    return SimpleNamespace(header=header(), format=form, data=array("B", data))


def video(data, form="h264", stamp_ns=1_700_000_000_123_456_789):
    head = header(stamp_ns)
    return SimpleNamespace(
        timestamp=head.stamp, frame_id="optical", format=form, data=array("B", data)
    )


def audio_frame(data, form="signed_16", channels=1, rate=16_000, stamp_ns=5_000_000_000):
    """audio_utils' AudioFrame."""
    return SimpleNamespace(
        header=header(stamp_ns, "mic"),
        format=form,
        channel_count=channels,
        sampling_frequency=rate,
        frame_sample_count=len(data),
        data=array("B", data),
    )


def audio_buffer(samples, channels, rate=48_000, stamp_ns=5_000_000_000):
    """naoqi_bridge's AudioBuffer."""
    return SimpleNamespace(
        header=header(stamp_ns, "mic"),
        frequency=rate,
        channel_map=array("B", range(channels)),
        data=array("h", samples),
    )


def audio_stamped(data, stamp_ns=5_000_000_000):
    octets = SimpleNamespace(data=array("B", data))
    return SimpleNamespace(header=header(stamp_ns, "mic"), audio=octets)


def audio_info(channels=1, rate=16_000, form="S16LE", coding="wave"):
    return SimpleNamespace(
        channels=channels,
        sample_rate=rate,
        sample_format=form,
        bitrate=16 * rate * channels,
        coding_format=coding,
    )


def rotated_x(q):
    """+x turned by a quaternion: the first column of its rotation matrix."""
    return np.array(
        [1 - 2 * (q.y**2 + q.z**2), 2 * (q.x * q.y + q.z * q.w), 2 * (q.x * q.z - q.y * q.w)]
    )
