"""Sound as messages: three packages, every raw format, stamps at either end, damaged ones."""

from array import array
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_grounding.audio import to_float32
from av_grounding.transports.messages import (
    SAMPLE_FORMATS,
    AudioLayout,
    MalformedMessage,
    audio_fields,
    audio_info_fields,
    decode_audio,
    decode_audio_info,
)
from av_grounding.types import AudioChunk
from tests.helpers import coded, objects

VALUES = np.array([0.0, 0.5, -0.5, 0.25, -1.0, 0.75])


def octets_of(values, form):
    """Independent of the code under test: samples as bytes in a GStreamer format."""
    kind, bits = form[0], int(form[1:].removesuffix("LE").removesuffix("BE"))
    order = "big" if form.endswith("BE") else "little"
    if kind == "F":
        return values.astype((">" if order == "big" else "<") + f"f{bits // 8}").tobytes()
    whole = [min(round(value * 2 ** (bits - 1)), 2 ** (bits - 1) - 1) for value in values]
    if kind == "U":
        whole = [value + 2 ** (bits - 1) for value in whole]
    return b"".join(value.to_bytes(bits // 8, order, signed=kind != "U") for value in whole)


@pytest.mark.parametrize("form", SAMPLE_FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_every_raw_format(form, channels):
    layout = decode_audio_info(objects.audio_info(channels, 48_000, form))
    chunk = decode_audio(objects.audio_stamped(octets_of(VALUES, form)), layout)
    heard = to_float32(chunk.samples)
    expected = VALUES if channels == 1 else VALUES.reshape(-1, channels)
    np.testing.assert_allclose(heard, expected, atol=1e-6)
    assert chunk.sample_rate_hz == 48_000
    assert chunk.stamp_ns == 5_000_000_000


def test_sixteen_bits_are_not_copied():
    message = objects.audio_stamped(bytes(8))
    chunk = decode_audio(message, AudioLayout())
    message.audio.data[0] = 7
    assert chunk.samples[0] == 7


@pytest.mark.parametrize(("reference", "stamp_ns"), [("auto", 5e9), ("start", 5e9), ("end", 4e9)])
def test_stamp_at_either_end(reference, stamp_ns):
    message = objects.audio_stamped(bytes(2 * 2 * 8_000))
    layout = AudioLayout(8_000, 2)
    chunk = decode_audio(message, layout, stamp_reference=reference)
    assert chunk.samples.shape == (8_000, 2)
    assert chunk.stamp_ns == stamp_ns


def test_unstamped_audio_counts_back_from_its_arrival():
    message = SimpleNamespace(data=array("B", bytes(2 * 4_000)))
    layout = AudioLayout(8_000, 1)
    with pytest.raises(MalformedMessage, match="allow_unstamped"):
        decode_audio(message, layout)
    assert decode_audio(message, layout, received_ns=10**9).stamp_ns == 500_000_000


def portaudio(form, name, values, channels=1, rate=44_100):
    names = ("float32_data", "int32_data", "int16_data", "int8_data", "uint8_data")
    data = SimpleNamespace(**{other: [] for other in names})
    setattr(data, name, values)
    info = SimpleNamespace(format=form, channels=channels, rate=rate, chunk=len(values))
    audio = SimpleNamespace(audio_data=data, info=info)
    return SimpleNamespace(header=objects.header(9_000_000_000), audio=audio)


@pytest.mark.parametrize("container", [list, np.asarray])
@pytest.mark.parametrize(
    ("form", "name", "code"),
    [
        (1, "float32_data", "f4"),
        (2, "int32_data", "i4"),
        (8, "int16_data", "i2"),
        (16, "int8_data", "i1"),
        (32, "uint8_data", "u1"),
    ],
)
def test_portaudio_formats(form, name, code, container):
    raw = np.frombuffer(
        octets_of(
            VALUES, f"{'F' if code[0] == 'f' else 'SU'[code[0] == 'u']}{8 * int(code[1])}LE"
        ),
        "<" + code,
    )
    values = raw.tolist() if container is list else raw
    chunk = decode_audio(portaudio(form, name, values, channels=2))
    np.testing.assert_allclose(to_float32(chunk.samples), VALUES.reshape(-1, 2), atol=1e-6)
    assert (chunk.sample_rate_hz, chunk.stamp_ns) == (44_100, 9_000_000_000)


def test_portaudio_samples_in_another_field_are_malformed():
    with pytest.raises(MalformedMessage, match="0 samples in int16_data"):
        decode_audio(portaudio(8, "float32_data", [0.5]))
    with pytest.raises(MalformedMessage, match="format 4"):
        decode_audio(portaudio(4, "int32_data", [1]))


def foxglove(form="pcm-s16", channels=2):
    return SimpleNamespace(
        timestamp=SimpleNamespace(sec=3, nanosec=5),
        data=octets_of(VALUES, "S16LE"),
        format=form,
        sample_rate=22_050,
        number_of_channels=channels,
    )


def test_foxglove_audio():
    chunk = decode_audio(foxglove())
    np.testing.assert_allclose(to_float32(chunk.samples), VALUES.reshape(-1, 2), atol=1e-6)
    assert (chunk.stamp_ns, chunk.sample_rate_hz) == (3_000_000_005, 22_050)
    with pytest.raises(MalformedMessage, match="pcm-s16"):
        decode_audio(foxglove("opus"))


@pytest.mark.parametrize(
    ("message", "layout", "kind"),
    [
        (objects.audio_stamped(bytes(4)), None, "layout"),
        (objects.audio_stamped(bytes(5)), AudioLayout(), "truncated"),
        (objects.audio_stamped(b""), AudioLayout(), "truncated"),
        (objects.audio_stamped(bytes(6)), AudioLayout(num_channels=2), "truncated"),
        (objects.audio_stamped(b"ID3\x03" + bytes(60)), AudioLayout(), "coding"),
        (SimpleNamespace(), AudioLayout(), "type"),
        (foxglove(channels=0), None, "channels"),
        (portaudio(1, "float32_data", [0.0], rate=16), None, "rate"),
    ],
)
def test_malformed_audio_is_named(message, layout, kind):
    with pytest.raises(MalformedMessage) as caught:
        decode_audio(message, layout)
    assert caught.value.kind == kind


FORMATS = {
    "signed_8": "S8", "signed_16": "S16LE", "signed_24": "S24LE", "signed_32": "S32LE",
    "unsigned_8": "U8", "float": "F32LE", "double": "F64LE",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_audio_utils_frames_of_two_channels(name):
    octets = octets_of(VALUES, FORMATS[name])
    chunk = decode_audio(objects.audio_frame(octets, name, channels=2, rate=48_000))
    assert chunk.sample_rate_hz == 48_000
    assert chunk.stamp_ns == 5 * 10**9 - 62_500  # three samples before the stamp, which is the end
    expected = VALUES.reshape(3, 2)
    np.testing.assert_allclose(to_float32(chunk.samples), expected, atol=1 / 100)


def test_audio_utils_formats_that_are_not_read_are_named():
    with pytest.raises(MalformedMessage, match="AudioFrame format 'signed_padded_24': expected"):
        decode_audio(objects.audio_frame(b"1234", "signed_padded_24"))


@pytest.mark.parametrize(("reference", "stamp_ns"), [("auto", 4.9e9), ("start", 5e9)])
def test_naoqi_buffers_are_stamped_when_they_came(reference, stamp_ns):
    samples = np.arange(4 * 4800, dtype=np.int16)
    message = objects.audio_buffer(samples, channels=4)
    chunk = decode_audio(message, stamp_reference=reference)
    assert (chunk.sample_rate_hz, chunk.stamp_ns) == (48_000, stamp_ns)
    np.testing.assert_array_equal(chunk.samples, samples.reshape(-1, 4))
    message.data = message.data[:-1]
    with pytest.raises(MalformedMessage, match="19199 samples of audio: expected whole frames"):
        decode_audio(message)


NOISE = np.random.default_rng(5).integers(-9000, 9000, 48_000).astype(np.int16)


@pytest.mark.parametrize(("rate_hz", "bit_rate"), [(16_000, 64_000), (44_100, 128_000)])
@pytest.mark.parametrize("num_together", [1, 3])
def test_bare_mpeg_frames_are_not_samples(rate_hz, bit_rate, num_together):
    packets = coded.mp3_packets(NOISE, rate_hz, bit_rate)[1:-1]
    for start in range(0, len(packets) - num_together, num_together):
        data = b"".join(packets[start : start + num_together])
        with pytest.raises(MalformedMessage, match=r"MP3 \(bare MPEG frames\)") as caught:
            decode_audio(objects.audio_stamped(data), AudioLayout())
        assert caught.value.kind == "coding"


@pytest.mark.parametrize("value", [0xF3FF - 0x10000, 0xFBFF - 0x10000, -1])
def test_samples_that_begin_like_an_mpeg_frame_are_samples(value):
    samples = NOISE[:320].copy()
    samples[:2] = value, 0x1088  # the sync and a valid rest of the header, as in a frame
    chunk = decode_audio(objects.audio_stamped(samples.tobytes()), AudioLayout())
    np.testing.assert_array_equal(chunk.samples, samples)


def test_mp3_is_refused_with_the_remedy():
    with pytest.raises(MalformedMessage, match="format:=wave"):
        decode_audio_info(objects.audio_info(coding="mp3"))
    with pytest.raises(MalformedMessage, match="S20LE"):
        decode_audio_info(objects.audio_info(form="S20LE"))


@settings(max_examples=20)
@given(
    samples=st.lists(st.integers(-32768, 32767), min_size=1, max_size=40),
    channels=st.integers(1, 4),
    is_float=st.booleans(),
    stamp_ns=st.integers(0, 2**31 * 10**9 - 1),
)
def test_our_own_audio_message_round_trips(samples, channels, is_float, stamp_ns):
    block = np.repeat(np.array(samples, np.int16)[:, None], channels, axis=1)
    block[:, 1:] //= 2
    block = block[:, 0] if channels == 1 else block
    sent = (block / 32768.0).astype(np.float32) if is_float else block
    chunk = AudioChunk(sent, stamp_ns, 16_000)
    layout = decode_audio_info(objects.as_object(audio_info_fields(chunk)))
    heard = decode_audio(objects.as_object(audio_fields(chunk)), layout)
    np.testing.assert_array_equal(heard.samples, block)
    assert (heard.stamp_ns, heard.sample_rate_hz) == (stamp_ns, 16_000)


def test_floats_beyond_full_scale_do_not_wrap_around():
    samples = np.array([2.0, -2.0, 1.0, np.nan], np.float32)
    fields = audio_fields(AudioChunk(samples, 0, 16_000))
    heard = decode_audio(objects.as_object(fields), AudioLayout())
    np.testing.assert_array_equal(heard.samples, [32767, -32768, 32767, 0])
