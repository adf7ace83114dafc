"""Small real media files of known content, in the layouts of the data sets."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

RATE_HZ = 16_000
COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}
NAMES = tuple(COLORS)


def tone(hz, duration_s, rate_hz=RATE_HZ):
    times_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.4 * np.sin(2 * np.pi * hz * times_s)).astype(np.float32)


def write_sound(path, hz=440.0, duration_s=1.0, rate_hz=RATE_HZ, layout="mono"):
    """A tone, in the codec of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = {".wav": "pcm_s16le", ".mp3": "libmp3lame", ".flac": "flac"}[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz)
        stream.layout = layout
        encode_sound(container, stream, tone(hz, duration_s, rate_hz), rate_hz, layout)
    return path


def encode_sound(container, stream, waveform, rate_hz, layout="mono"):
    resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate_hz)
    for first in range(0, len(waveform), 1024):
        block = np.repeat(waveform[None, first : first + 1024], stream.channels, axis=0)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts = rate_hz, first
        frame.time_base = Fraction(1, rate_hz)
        for converted in resampler.resample(frame):
            container.mux(stream.encode(converted))
    container.mux(stream.encode(None))


def write_picture(path, color="red", size=(48, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), COLORS[color], np.uint8)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def write_video(path, colors=("red",), hz=440.0, duration_s=1.0, audio=True):
    """Each colour fills an equal part of the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=RATE_HZ, layout="mono") if audio else None
        num_frames = round(duration_s * 10)
        for index in range(num_frames):
            color = COLORS[colors[index * len(colors) // num_frames]]
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), color, np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        if sound:
            encode_sound(container, sound, tone(hz, duration_s), RATE_HZ)
        container.mux(stream.encode(None))
    return path


def color_of(image):
    middle = image[image.shape[0] // 2, image.shape[1] // 2].astype(int)
    return min(NAMES, key=lambda name: np.abs(middle - COLORS[name]).sum())


def peak_hz(waveform, rate_hz=RATE_HZ):
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * rate_hz / len(waveform))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def make_audioset(root: Path) -> Path:
    """Four rows in the official spelling; one without sound, one without frames."""
    metadata = root / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "unbalanced_train_segments.csv").write_text(
        "# Segments csv created Sun Mar  5 10:56:58 2017\n"
        "# num_ytids=4, num_segs=4\n# YTID, start_seconds, end_seconds, positive_labels\n"
        '--aaaaaaaaa, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n'
        'bbbbbbbbbbb, 0.000, 10.000, "/m/0bt9lr"\n'
        'ccccccccccc, 5.000, 15.000, "/m/0bt9lr"\nddddddddddd, 1.000, 11.000, "/m/0bt9lr"\n'
    )
    (metadata / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/0bt9lr,"Dog, bark"\n'
    )
    write_sound(root / "audio/--aaaaaaaaa_30.000_40.000.mp3", hz=500)
    write_sound(root / "audio/bbbbbbbbbbb_0.0_10.0.mp3", hz=700)
    write_sound(root / "audio/ddddddddddd_1.000_11.000.mp3", hz=900)
    for number in (0, 3, 9):
        color = NAMES[number % 3]
        write_picture(root / f"frames/frame_{number}/--aaaaaaaaa_30.000_40.000.jpg", color)
        write_picture(root / f"frames/frame_{number}/bbbbbbbbbbb_0.0_10.0.jpg", "green")
        write_picture(root / f"frames/frame_{number}/ccccccccccc_5.000_15.000.jpg", "blue")
    return root


def make_places(root: Path) -> Path:
    """Base paths of another machine, as in the release."""
    rows = []
    for number, color in enumerate(NAMES):
        wav, image = f"wavs/{number}/utt_{number}.wav", f"a/abbey/{color}.jpg"
        rows.append(
            {"wav": wav, "image": image, "speaker": "S1", "asr_text": f"a {color} wall",
             "uttid": f"S1_utt_{number}"}
        )  # fmt: skip
        if number < 2:
            write_sound(root / wav, hz=300 + 200 * number)
        write_picture(root / "images" / image, color)
    content = {
        "image_base_path": "/data/elsewhere/images", "audio_base_path": "/data/elsewhere",
        "data": rows,
    }  # fmt: skip
    path = root / "metadata/train.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return root


def make_vggsound(root: Path) -> Path:
    """A wav with a frame, a video, one missing, one of the test split."""
    write_rows(
        root / "vggsound.csv",
        [["aaaaaaaaaaa", 30, "dog barking", "train"], ["bbbbbbbbbbb", 4, "cat purring", "train"],
         ["ccccccccccc", 7, "owl hooting", "train"], ["ddddddddddd", 9, "owl hooting", "test"]],
    )  # fmt: skip
    write_sound(root / "audio/aaaaaaaaaaa_000030.wav", hz=400)
    write_picture(root / "frames/aaaaaaaaaaa_000030.jpg", "green")
    write_video(root / "video/bbbbbbbbbbb_000004.mp4", ("blue",), hz=600)
    write_sound(root / "audio/ddddddddddd_000009.wav")
    write_picture(root / "frames/ddddddddddd_000009.jpg")
    return root


def make_folder(root: Path) -> Path:
    """Two clips of sound, one of speech; a silent video, a torn one, a lone picture, a text."""
    write_video(root / "walk.mp4", NAMES, hz=400, duration_s=3.0)
    write_sound(root / "sound/dog.wav", hz=600, rate_hz=44_100, layout="stereo")
    write_picture(root / "sound/dog.png", "green")
    write_sound(root / "speech/clock.flac", hz=800)
    write_picture(root / "speech/clock.jpg", "blue")
    write_video(root / "silent.mp4", audio=False)
    torn = write_video(root / "torn.mp4")
    torn.write_bytes(torn.read_bytes()[:300])
    write_picture(root / "lone.jpg")
    (root / "notes.txt").write_text("no medium")
    return root
