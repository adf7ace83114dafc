"""Pictures and sound of any moment say that moment, in every container and however it was cut."""

import logging
from contextlib import closing
from fractions import Fraction

import numpy as np
import pytest

from av_grounding.sources.media_file import MediaFile
from tests.helpers import make_media as make

PERIOD_S = 0.04
OPEN_GOP = {
    "x265-params": "log-level=none:open-gop=1:bframes=4:b-adapt=0:keyint=10:min-keyint=10:"
    "scenecut=0",
    "preset": "ultrafast",
}
VP8 = {"deadline": "realtime", "cpu-used": "8"}
KINDS = {
    "a.mp4": {},
    "a.mkv": {},
    "a.mov": {},
    "a.ts": {},
    "a.webm": {"video": "libvpx", "audio": "libopus", "options": VP8},
    "a.mpg": {"video": "mpeg2video", "audio": "mp2", "gop": 15},
    "hevc.mp4": {"video": "libx265", "options": OPEN_GOP},
    "refresh.ts": {"options": {"preset": "ultrafast", "x264-params": "intra-refresh=1:keyint=60"}},
    "long.mp4": {"gop": 1000},
}


def check_moments(path, times_s, *, silent_s=(), begins_s=0.0, from_s=0.0):
    """What is seen and heard at each time is the time itself, counted from `begins_s` on."""
    file = MediaFile(path)
    with closing(file.picture_reader()) as pictures, closing(file.sound_reader()) as sounds:
        for time_s in times_s:
            late_s = time_s + begins_s - make.seen_time(pictures.at(time_s))
            assert -0.012 <= late_s < PERIOD_S + 0.03, (time_s, late_s)
            sound = sounds.read(time_s - 0.2, 0.4)
            assert len(sound.samples) == round(0.4 * sound.sample_rate_hz)
            heard_s = make.heard_time(sound.samples[:, 0], sound.sample_rate_hz, 0.2)
            if any(start < time_s < stop for start, stop in silent_s):
                assert np.isnan(heard_s)
                assert sound.heard_s < 0.3
            else:
                assert heard_s == pytest.approx(time_s + begins_s, abs=0.035), time_s
                assert sound.heard_s == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("name", KINDS)
def test_any_moment_of_any_container(tmp_path, name):
    path = make.write_times(tmp_path / name, 14.0, **KINDS[name])
    check_moments(path, [0.5, 0.9, 3.33, 7.0, 13.5])
    check_moments(path, [12.9])  # so far that it is looked for
    check_moments(path, [13.0, 2.1, 12.5, 1.1])


@pytest.mark.parametrize("suffix", ["mp4", "webm", "ts"])
def test_sound_that_begins_late_and_pauses_stays_in_its_place(tmp_path, suffix):
    options = KINDS["a.webm"] if suffix == "webm" else {}
    path = make.write_times(
        tmp_path / f"a.{suffix}", 18.0, sound_s=1.5, muted_s=[(4, 7), (8, 16)], **options
    )
    silent_s = [(0, 1.3), (4.3, 6.8), (8.3, 15.8)]
    check_moments(path, [0.8, 1.9, 3.5, 5.5, 7.5, 12.0, 17.0], silent_s=silent_s)
    file = MediaFile(path)
    waveform, rate_hz = file.read_audio()
    assert len(waveform) / rate_hz == pytest.approx(18.0, abs=0.05)
    for time_s in (1.9, 7.5, 17.0):
        assert make.heard_time(waveform[:, 0], rate_hz, time_s) == pytest.approx(time_s, abs=0.035)


def test_pictures_that_begin_late(tmp_path):
    path = make.write_times(tmp_path / "a.mp4", 4.0, picture_s=0.88)
    check_moments(path, [1.0, 2.5, 3.5])
    with closing(MediaFile(path).picture_reader()) as pictures:
        assert make.seen_time(pictures.at(0.2)) == pytest.approx(0.88)
        assert make.seen_time(pictures.at(99.0)) == pytest.approx(3.96)


def joined(tmp_path, names_s, suffix="ts", **options):
    """Recordings joined byte by byte, each with a clock of its own."""
    parts = [
        make.write_times(tmp_path / f"{n}.{suffix}", seconds, **options).read_bytes()
        for n, seconds in enumerate(names_s)
    ]
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize(
    ("lengths_s", "options"),
    [
        ((5.0, 4.0), {}),
        ((3.0, 6.0), {}),
        ((2.0, 2.0, 2.0, 2.0), {}),
        ((0.6, 0.6, 3.0), {}),
        ((4.0, 5.0), {"muted_s": [(2.0, 30.0)]}),
        ((5.0, 4.0), {"suffix": "mpg", "video": "mpeg2video", "audio": "mp2", "gop": 15}),
    ],
)
def test_joined_recordings_go_on(tmp_path, lengths_s, options):
    path = joined(tmp_path, lengths_s, **options)
    file = MediaFile(path)
    total_s = sum(lengths_s)
    assert file.duration_s == pytest.approx(total_s, abs=0.08 * len(lengths_s))
    frames = list(file.video_frames())
    assert len(frames) == pytest.approx(25 * total_s, abs=2 * len(lengths_s))
    stamps = np.array([frame.stamp_ns for frame in frames]) / 1e9
    assert np.diff(stamps).min() > 0.02
    assert np.diff(stamps).max() < 0.15
    heard = sum(len(chunk.samples) / chunk.sample_rate_hz for chunk in file.audio_chunks())
    spoken_s = sum(min(length, 2.0) for length in lengths_s) if "muted_s" in options else total_s
    assert heard == pytest.approx(spoken_s, abs=0.06 * len(lengths_s))
    # In every part picture and sound stay together, and no part lies upon another.
    waveform, rate_hz = file.read_audio()
    begins_s = 0.0
    for length_s in lengths_s:
        time_s = begins_s + min(0.5 * length_s, 1.5)
        with closing(file.picture_reader()) as pictures:
            seen_s = make.seen_time(pictures.at(time_s))
        heard_s = make.heard_time(waveform[:, 0], rate_hz, time_s)
        assert heard_s == pytest.approx(time_s - begins_s, abs=0.12)
        assert seen_s == pytest.approx(heard_s, abs=0.06)
        begins_s += length_s


def test_a_second_track_stands_in_for_one_that_does_not_decode(tmp_path, caplog):
    import av

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        picture = container.add_stream("mjpeg", rate=25)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuvj420p"
        for stream, hz in zip(streams, (300.0, 700.0), strict=True):
            samples = make.tones(np.arange(16_000) / 16_000, [hz])
            frame = av.AudioFrame.from_ndarray(
                np.round(samples * 32767).astype(np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(stream.encode(frame))
        image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
        image.pts = 0
        container.mux(picture.encode(image))
        for stream in (*streams, picture):
            container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_QQQ/INT/LIT", 1))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            waveform, rate_hz = MediaFile(path).read_audio()
            assert make.peak_hz(waveform[:, 0], rate_hz) == pytest.approx(700, abs=2)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "audio track 2 is used" in line
    assert "two.mkv" in line


@pytest.mark.parametrize(
    ("aspect", "width"),
    [
        (Fraction(16, 11), 233),
        (Fraction(8, 9), 142),
        (Fraction(64, 45), 228),
        (Fraction(1, 1), 160),
        (Fraction(1280, 1281), 160),
        (Fraction(1, 900), 160),
    ],
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_pixels_leave_the_source_square(tmp_path, aspect, width, suffix):
    path = make.write_times(tmp_path / f"a.{suffix}", 0.4, pixel_aspect=aspect)
    file = MediaFile(path)
    assert file.image_size == (make.HEIGHT, width)
    assert next(iter(file.video_frames())).image.shape == (make.HEIGHT, width, 3)
    with closing(file.picture_reader()) as pictures:
        assert pictures.at(0.2).shape == (make.HEIGHT, width, 3)
        assert make.seen_time(pictures.at(0.2)) == pytest.approx(0.2, abs=0.041)
