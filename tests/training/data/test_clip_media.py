import numpy as np
import pytest

from av_grounding.training.data import media
from tests.helpers.make_clips import (
    NAMES,
    color_of,
    peak_hz,
    tone,
    write_picture,
    write_sound,
    write_video,
)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac"])
def test_a_sound_is_read_at_the_rate_asked_for(tmp_path, suffix):
    path = write_sound(tmp_path / f"a{suffix}", hz=600, duration_s=1.5, rate_hz=44_100)
    waveform, rate = media.read_waveform(path, 16_000)
    assert rate == 16_000
    assert len(waveform) == pytest.approx(24_000, abs=1500)
    assert peak_hz(waveform) == pytest.approx(600, abs=2)
    assert np.sqrt(np.mean(waveform[4000:20_000] ** 2)) == pytest.approx(0.4 / 2**0.5, rel=0.07)
    assert media.read_waveform(path)[1] == 44_100


def test_a_piece_is_cut_where_it_is_asked_for(tmp_path):
    import wave

    path = tmp_path / "two.wav"
    both = np.concatenate([tone(400, 2.0), tone(900, 2.0)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((both * 32767).astype("<i2").tobytes())
    piece, _ = media.read_waveform(path, 16_000, start_s=1.5, duration_s=1.0)
    np.testing.assert_allclose(piece, both[24_000:40_000], atol=1e-4)
    with pytest.raises(ValueError, match=r"0 samples of sound from 9\.0 s on"):
        media.read_waveform(path, 16_000, start_s=9.0, duration_s=1.0)


def test_frames_are_those_of_their_times(tmp_path):
    path = write_video(tmp_path / "a.mp4", NAMES, duration_s=3.0)
    frames = media.read_frames(path, [0.5, 1.5, 2.5])
    assert [color_of(frame) for frame in frames] == list(NAMES)
    assert frames[0].shape == (48, 64, 3)
    assert color_of(media.read_frames(path, [99.0])[0]) == NAMES[-1]


def test_unreadable_files_say_why(tmp_path):
    silent = write_video(tmp_path / "silent.mp4", audio=False)
    with pytest.raises(ValueError, match=r"silent\.mp4: has no sound"):
        media.read_waveform(silent, 16_000)
    with pytest.raises(ValueError, match="has no picture"):
        media.read_frames(write_sound(tmp_path / "a.wav"), [0.0])
    (tmp_path / "torn.wav").write_bytes(b"RIFF----")
    with pytest.raises(ValueError, match=r"torn\.wav: cannot be decoded"):
        media.read_waveform(tmp_path / "torn.wav", 16_000)
    with pytest.raises(ValueError, match=r"gone\.wav: does not open \(.*no such file"):
        media.read_waveform(tmp_path / "gone.wav", 16_000)
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    for path in (tmp_path / "torn.jpg", tmp_path / "gone.jpg"):
        with pytest.raises(ValueError, match=path.name):
            media.read_still(path)
    whole = write_sound(tmp_path / "whole.mp3", duration_s=3.0).read_bytes()
    rng = np.random.default_rng(0)
    damaged = bytearray(whole)
    for place in range(600, len(damaged), 90):
        damaged[place : place + 40] = rng.bytes(40)
    (tmp_path / "damaged.mp3").write_bytes(damaged)
    with pytest.raises(ValueError, match="packets of its sound are damaged"):
        media.read_waveform(tmp_path / "damaged.mp3", 16_000)


def test_flac_and_jpeg_come_back(tmp_path):
    rng = np.random.default_rng(0)
    waveform = rng.uniform(-1, 1, 20_000).astype(np.float32)
    encoded = media.encode_flac(waveform, 16_000)
    decoded, rate = media.decode_sound(encoded, "x")
    assert rate == 16_000
    np.testing.assert_allclose(decoded, waveform, atol=1e-4)
    image = media.read_still(write_picture(tmp_path / "a.png", "blue", (30, 40)))
    again = media.decode_picture(media.encode_jpeg(image), "x")
    assert np.abs(again.astype(int) - image).max() < 8
    with pytest.raises(ValueError, match="x: 3 bytes that do not decode"):
        media.decode_picture(b"abc", "x")


def test_pictures_shrink_to_their_short_side():
    assert media.shrink(np.zeros((100, 300, 3), np.uint8), 50).shape == (50, 150, 3)
    small = np.zeros((30, 20, 3), np.uint8)
    assert media.shrink(small, 50) is small
