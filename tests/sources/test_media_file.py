"""Files in, known content out: pixels, stamps, channels; and what is wrong with a file is said."""

from __future__ import annotations

import logging
import struct
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from av_grounding.sources.media_file import MediaFile
from av_grounding.sources.still import read_image
from tests.helpers import make_media as make

CLIPS = {
    "mp4": ("libx264", "aac"),
    "mkv": ("libx264", "flac"),
    "webm": ("libvpx-vp9", "libopus"),
    "avi": ("mjpeg", "pcm_s16le"),
    "mov": ("mjpeg", "pcm_s24le"),
}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("suffix", CLIPS)
def test_clip_gives_pixels_stamps_and_tones(tmp_path, suffix, caplog):
    video, audio = CLIPS[suffix]
    path = make.write_clip(
        tmp_path / f"clip.{suffix}",
        video=video,
        audio=audio,
        layout="stereo",
        sound=lambda t: make.tones(t, [440.0, 1000.0]),
    )
    file = MediaFile(path)
    assert (file.has_video, file.has_audio, file.is_still) == (True, True, False)
    assert file.image_size == (make.HEIGHT, make.WIDTH)
    assert file.frame_rate_hz == pytest.approx(25, abs=0.5)
    assert file.duration_s == pytest.approx(1.0, abs=0.05)

    frames = list(file.video_frames())
    assert len(frames) == 25
    stamps_ms = np.array([frame.stamp_ns for frame in frames]) / 1e6
    np.testing.assert_allclose(np.diff(stamps_ms), 40, atol=1.01)
    assert 0 <= stamps_ms[0] <= 30
    for index, frame in enumerate(frames):
        assert frame.image.dtype == np.uint8
        assert make.white_x(frame.image) == pytest.approx(make.square_x(index * 0.04), abs=1.5)
        assert make.corner_colors(frame.image) == ["red", "green", "blue", "yellow"]

    chunks = list(file.audio_chunks())
    samples = np.concatenate([chunk.samples for chunk in chunks])
    assert samples.dtype == np.float32
    assert samples.shape[1] == file.num_channels == 2
    assert len(samples) == pytest.approx(48_000, abs=2100)
    middle = samples[8_000:40_000]
    for channel, frequency in enumerate((440.0, 1000.0)):
        assert make.peak_hz(middle[:, channel], 48_000) == pytest.approx(frequency, abs=2)
        assert np.abs(middle[:, channel]).max() == pytest.approx(0.4, abs=0.06)
    ends = [c.stamp_ns + len(c.samples) * 1e9 / c.sample_rate_hz for c in chunks]
    starts = [chunk.stamp_ns for chunk in chunks]
    np.testing.assert_allclose(np.array(starts[1:]) - ends[:-1], 0, atol=1.1e6)
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi"])
def test_sound_and_picture_stay_together(tmp_path, suffix):
    video, audio = CLIPS[suffix]
    path = make.write_clip(
        tmp_path / f"sync.{suffix}", video=video, audio=audio, draw=make.flash, sound=make.beep
    )
    file = MediaFile(path)
    flash_ns = next(f.stamp_ns for f in file.video_frames() if f.image.mean() > 128)
    beep_ns = next(
        chunk.stamp_ns + np.flatnonzero(loud)[0] * 1e9 / chunk.sample_rate_hz
        for chunk in file.audio_chunks()
        if (loud := np.abs(chunk.samples[:, 0]) > 0.2).any()
    )
    assert abs(flash_ns - beep_ns) < 25e6
    assert flash_ns == pytest.approx(0.5e9, abs=25e6)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate_hz", "layout"),
    [
        ("wav", "pcm_s16le", 8_000, "mono"),
        ("wav", "pcm_u8", 11_025, "stereo"),
        ("wav", "pcm_f32le", 44_100, "stereo"),
        ("wav", "pcm_s32le", 48_000, "5.1"),
        ("flac", "flac", 22_050, "stereo"),
        ("mp3", "libmp3lame", 16_000, "mono"),
        ("mp3", "libmp3lame", 44_100, "stereo"),
        ("ogg", "libopus", 48_000, "stereo"),
        ("m4a", "aac", 32_000, "5.1"),
    ],
)
def test_sound_of_every_rate_and_layout(tmp_path, suffix, codec, rate_hz, layout):
    # The fourth channel of 5.1 is the low-frequency one.
    frequencies = {"mono": [440], "stereo": [440, 1000], "5.1": [440, 1000, 600, 80, 1500, 2000]}
    path = make.write_clip(
        tmp_path / f"sound.{suffix}",
        video=None,
        audio=codec,
        rate_hz=rate_hz,
        layout=layout,
        sound=lambda t: make.tones(t, frequencies[layout]),
    )
    file = MediaFile(path)
    assert (file.has_video, file.has_audio, file.sample_rate_hz) == (False, True, rate_hz)
    samples, rate = file.read_audio()
    assert rate == rate_hz
    assert len(samples) == pytest.approx(rate_hz, abs=0.08 * rate_hz)
    middle = samples[rate_hz // 5 : -rate_hz // 5]
    assert middle.shape[1] == len(frequencies[layout])
    for channel, frequency in enumerate(frequencies[layout]):
        assert make.peak_hz(middle[:, channel], rate_hz) == pytest.approx(frequency, abs=3)
        assert np.sqrt(2 * np.mean(middle[:, channel] ** 2)) == pytest.approx(0.4, abs=0.05)
    with pytest.raises(ValueError, match=r"has no picture, only audio"):
        file.video_frames()


def test_integer_samples_are_exact(tmp_path):
    samples = np.array([[-32768, 0], [16384, -1], [32767, 1]] * 400)
    decoded, _ = MediaFile(make.write_wav(tmp_path / "a.wav", samples, 16_000)).read_audio()
    np.testing.assert_array_equal(decoded, samples / 32768)


def test_variable_frame_rate_keeps_true_times(tmp_path):
    times_s = [0.0, 0.1, 0.15, 0.4, 0.433, 0.9]
    path = make.write_clip(tmp_path / "vfr.mp4", times_s=times_s, audio=None)
    file = MediaFile(path)
    frames = list(file.video_frames())
    np.testing.assert_allclose([f.stamp_ns / 1e9 for f in frames], times_s, atol=1e-3)
    for frame, time_s in zip(frames, times_s, strict=True):
        assert make.white_x(frame.image) == pytest.approx(make.square_x(time_s), abs=1.5)
    assert not file.has_audio
    with pytest.raises(ValueError, match=r"vfr\.mp4: has no sound, only video"):
        file.audio_chunks()


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), ["yellow", "red", "green", "blue"]),  # a quarter turn clockwise
        ((0, -1, 1, 0), ["green", "blue", "yellow", "red"]),
        ((-1, 0, 0, -1), ["blue", "yellow", "red", "green"]),
        ((-1, 0, 0, 1), ["green", "red", "yellow", "blue"]),  # mirrored
        ((0, 1, 1, 0), ["red", "yellow", "blue", "green"]),  # transposed
    ],
)
def test_rotated_phone_video_is_upright(tmp_path, matrix, expected):
    path = make.write_clip(tmp_path / "phone.mp4", duration_s=0.2, audio=None)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    file = MediaFile(path)
    turned = matrix[0] == 0
    size = (make.WIDTH, make.HEIGHT) if turned else (make.HEIGHT, make.WIDTH)
    assert file.image_size == size
    for frame in file.video_frames():
        assert frame.image.shape == (*size, 3)
        assert frame.image.flags.c_contiguous
        assert make.corner_colors(frame.image) == expected


def test_still_picture_is_repeated_for_the_sound(tmp_path):
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), make.picture(0.0)[..., ::-1])
    file = MediaFile(path)
    assert (file.has_video, file.is_still, file.has_audio) == (True, True, False)
    frames = list(file.video_frames(duration_s=0.95))
    assert [frame.stamp_ns for frame in frames] == [n * 100_000_000 for n in range(10)]
    for frame in frames:
        np.testing.assert_array_equal(frame.image, make.picture(0.0))
    assert len(list(file.video_frames())) == 1
    with pytest.raises(ValueError, match="has no sound, only a still picture"):
        file.audio_chunks()


@pytest.mark.parametrize("shape", [(1, 1, 3), (4320, 7680, 3)])
def test_tiny_and_8k_pictures(tmp_path, shape):
    path = tmp_path / "size.bmp"
    image = np.zeros(shape, np.uint8)
    image[-1, -1] = (10, 20, 30)
    cv2.imwrite(str(path), image[..., ::-1])
    (frame,) = MediaFile(path).video_frames()
    np.testing.assert_array_equal(frame.image, image)


def test_grey_and_transparent_pictures_become_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 5), 77, np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.full((4, 5, 3), 77))
    cv2.imwrite(str(tmp_path / "rgba.png"), np.full((4, 5, 4), (1, 2, 3, 128), np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png")[0, 0], (3, 2, 1))


@pytest.mark.parametrize("kind", ["mkv", "fragmented", "faststart"])
def test_truncated_file_gives_what_decodes_and_one_warning(tmp_path, caplog, kind):
    options = {
        "mkv": {},
        "fragmented": {"movflags": "frag_keyframe+empty_moov", "frag_duration": "200000"},
        "faststart": {"movflags": "faststart"},
    }[kind]
    path = make.write_clip(
        tmp_path / ("cut.mkv" if kind == "mkv" else "cut.mp4"),
        video="libx264" if kind == "fragmented" else "mjpeg",
        duration_s=2.0,
        audio=None,
        options=options,
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    frames = list(MediaFile(path).video_frames())
    assert 10 < len(frames) < 45
    for index, frame in enumerate(frames[:10]):
        assert make.white_x(frame.image) == pytest.approx(make.square_x(index * 0.04), abs=1.5)
    if kind != "fragmented":  # which states no length, so nothing tells that it was longer
        (warning,) = warnings_of(caplog)
        assert "cut." in warning
        assert "what decoded was used" in warning


def test_damage_in_the_middle_is_skipped_and_counted(tmp_path, caplog):
    path = make.write_clip(tmp_path / "hurt.avi", video="mjpeg", audio="pcm_s16le")
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data)) if data[at : at + 4] == b"00dc"]
    for at in starts[10:13]:
        (size,) = struct.unpack("<I", data[at + 4 : at + 8])
        data[at + 8 : at + 8 + size] = bytes(size)
    path.write_bytes(data)
    source = MediaFile(path).video_frames()
    frames = list(source)
    assert len(frames) == 22
    assert source.num_errors == 3
    assert make.white_x(frames[-1].image) == pytest.approx(make.square_x(0.96), abs=1.5)
    (warning,) = warnings_of(caplog)
    assert "3 damaged packets" in warning


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("noise.mp4", np.random.default_rng(0).bytes(20_000)),
        ("notes.txt", b"shopping list: milk, eggs\n" * 40),
        ("cut.png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 30),
    ],
)
def test_what_is_no_media_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as caught:
        MediaFile(tmp_path / name)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_moov_less_mp4_is_refused(tmp_path):
    path = make.write_clip(tmp_path / "cut.mp4")
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(ValueError, match=r"cut\.mp4: cannot be decoded .*ffmpeg -i cut\.mp4"):
        MediaFile(path)


def test_unknown_codec_is_named_and_the_other_stream_stays_usable(tmp_path):
    path = make.write_clip(tmp_path / "odd.avi", video="mjpeg", audio="pcm_s16le")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZQZQ"))
    file = MediaFile(path)
    with pytest.raises(ValueError, match=r"odd\.avi: cannot be decoded \(its video is in a codec"):
        file.video_frames()
    assert len(file.read_audio()[0]) == 48_000
    silent = make.write_clip(tmp_path / "odd2.avi", video="mjpeg", audio=None)
    silent.write_bytes(silent.read_bytes().replace(b"MJPG", b"ZQZQ"))
    with pytest.raises(ValueError, match=r"odd2\.avi: .*codec .*-c:v libx264"):
        MediaFile(silent)


def test_empty_sound_and_empty_file(tmp_path):
    with pytest.raises(ValueError, match=r"none\.wav: .*zero length"):
        MediaFile(make.write_wav(tmp_path / "none.wav", np.zeros(0), 16_000))
    (tmp_path / "zero.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"zero\.mp4: the file is empty \(0 bytes\)"):
        MediaFile(tmp_path / "zero.mp4")


def test_missing_file_names_similar_ones(tmp_path):
    for name in ("holiday.mp4", "unrelated.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=r"similar there: holiday\.mp4$"):
        MediaFile(tmp_path / "Holyday.mp4")
    with pytest.raises(FileNotFoundError, match=r"folder .* does not exist either"):
        MediaFile(tmp_path / "no" / "clip.mp4")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        MediaFile(tmp_path)


def test_cover_of_a_song_is_no_video(tmp_path):
    cover = cv2.imencode(".jpg", make.picture(0.0))[1].tobytes()
    song = make.write_clip(tmp_path / "song.mp3", video=None, audio="libmp3lame").read_bytes()
    song = song[10 + int.from_bytes(song[6:10], "big") :] if song[:3] == b"ID3" else song
    text = b"\x00image/jpeg\x00\x03\x00" + cover
    frame = b"APIC" + struct.pack(">IH", len(text), 0) + text
    size = len(frame)
    synchsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path = tmp_path / "cover.mp3"
    path.write_bytes(b"ID3\x03\x00\x00" + synchsafe + frame + song)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    file = MediaFile(path)
    assert (file.has_video, file.has_audio) == (False, True)
    samples, rate = file.read_audio()
    assert make.peak_hz(samples[:, 0], rate) == pytest.approx(440, abs=3)


def test_realtime_paces_and_shares_one_origin(tmp_path):
    path = make.write_clip(tmp_path / "live.mp4", draw=make.flash, sound=make.beep)
    file = MediaFile(path, realtime=True)
    early: list[str] = []
    results: dict[str, list] = {}
    begin_ns = time.time_ns()

    def play(name: str, source) -> None:
        results[name] = []
        for item in source:
            duration_ns = 0
            if name == "audio":
                duration_ns = len(item.samples) * 1e9 / item.sample_rate_hz
                assert len(item.samples) <= 960
            # The origin's two clocks are read one after the other.
            if time.time_ns() + 5e6 < item.stamp_ns + duration_ns:
                early.append(name)
            results[name].append(item)

    threads = [
        threading.Thread(target=play, args=("video", file.video_frames()), daemon=True),
        threading.Thread(target=play, args=("audio", file.audio_chunks()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert early == []
    frames, chunks = results["video"], results["audio"]
    assert frames[0].stamp_ns >= begin_ns
    assert time.time_ns() - begin_ns >= 0.95e9
    assert frames[-1].stamp_ns - frames[0].stamp_ns == pytest.approx(0.96e9, abs=2e6)
    flash_ns = next(f.stamp_ns for f in frames if f.image.mean() > 128)
    beep_ns = next(c.stamp_ns for c in chunks if np.abs(c.samples).max() > 0.2)
    assert abs(flash_ns - beep_ns) < 40e6


def test_close_ends_a_paced_iteration(tmp_path):
    path = make.write_clip(tmp_path / "live.mp4", duration_s=1.0)
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), make.picture(0.0))
    for source in (
        MediaFile(path, realtime=True).video_frames(),
        MediaFile(path, realtime=True).audio_chunks(),
        MediaFile(still, realtime=True).video_frames(duration_s=float("inf")),
    ):
        received = []
        for item in source:
            received.append(item)
            if len(received) == 3:
                source.close()
        assert len(received) == 3


def test_a_source_can_be_iterated_again(tmp_path):
    source = MediaFile(make.write_clip(Path(tmp_path) / "twice.mp4")).video_frames()
    first, second = list(source), list(source)
    assert [f.stamp_ns for f in first] == [f.stamp_ns for f in second]
    assert len(first) == 25
