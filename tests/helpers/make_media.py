"""Media files of known content, written with PyAV: what a test decodes can be computed."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 120, 160
CORNER = 24
CORNERS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
SQUARE = 20
CODEC_OPTIONS = {
    "libx264": {"preset": "ultrafast", "crf": "12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "15"},
}


def square_x(time_s: float) -> float:
    """Horizontal centre of the white square: it moves 60 pixels a second."""
    return 40.0 + 60.0 * time_s


def picture(time_s: float) -> np.ndarray:
    """Red, green, blue and yellow corners (clockwise from top left), a white moving square."""
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    rows, columns = (
        (slice(0, CORNER), slice(-CORNER, None)),
        (slice(0, CORNER), slice(-CORNER, None)),
    )
    places = [(0, 0), (0, 1), (1, 1), (1, 0)]
    for (row, column), color in zip(places, ("red", "green", "blue", "yellow"), strict=True):
        image[rows[row], columns[column]] = CORNERS[color]
    left = round(square_x(time_s) - SQUARE / 2)
    image[50 : 50 + SQUARE, left : left + SQUARE] = 255
    return image


def flash(time_s: float) -> np.ndarray:
    """Black, but white from 0.5 to 0.7 s."""
    value = 255 if 0.5 <= time_s + 1e-6 < 0.7 else 0
    return np.full((HEIGHT, WIDTH, 3), value, np.uint8)


def tones(times_s: np.ndarray, frequencies_hz: Sequence[float]) -> np.ndarray:
    """(channels, s): one sine per channel at amplitude 0.4."""
    return np.stack([0.4 * np.sin(2 * np.pi * f * times_s) for f in frequencies_hz])


def beep(times_s: np.ndarray) -> np.ndarray:
    """(1, s): 1 kHz from 0.5 to 0.7 s, silence elsewhere."""
    return (0.5 * np.sin(2 * np.pi * 1000 * times_s) * ((times_s >= 0.5) & (times_s < 0.7)))[None]


def write_clip(
    path: Path,
    *,
    video: str | None = "libx264",
    audio: str | None = "aac",
    times_s: Sequence[float] | None = None,
    duration_s: float = 1.0,
    draw: Callable[[float], np.ndarray] = picture,
    sound: Callable[[np.ndarray], np.ndarray] = lambda t: tones(t, [440.0]),
    rate_hz: int = 48_000,
    layout: str = "mono",
    options: dict[str, str] | None = None,
) -> Path:
    times_s = np.arange(0.0, duration_s - 1e-9, 0.04) if times_s is None else times_s
    with av.open(str(path), "w", options=options or {}) as container:
        picture_stream = sound_stream = None
        if video:
            picture_stream = container.add_stream(
                video, rate=25, options=CODEC_OPTIONS.get(video, {})
            )
            picture_stream.height, picture_stream.width = draw(0.0).shape[:2]
            picture_stream.pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
            base = Fraction(1, 25) if path.suffix == ".avi" else Fraction(1, 1000)
            picture_stream.codec_context.time_base = base
        if audio:
            sound_stream = container.add_stream(audio, rate=rate_hz)
            sound_stream.layout = layout
        if picture_stream:
            for time_s in times_s:
                frame = av.VideoFrame.from_ndarray(draw(time_s), format="rgb24")
                frame.pts, frame.time_base = round(time_s / base), base
                container.mux(picture_stream.encode(frame))
        if sound_stream:
            waveform = sound(np.arange(round(duration_s * rate_hz)) / rate_hz).astype(np.float32)
            for first in range(0, waveform.shape[1], 960):
                block = np.ascontiguousarray(waveform[:, first : first + 960])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.pts = rate_hz, first
                frame.time_base = Fraction(1, rate_hz)
                container.mux(sound_stream.encode(frame))
        for stream in (picture_stream, sound_stream):
            if stream:
                container.mux(stream.encode(None))
    return path


def write_wav(path: Path, samples: np.ndarray, rate_hz: int) -> Path:
    """(s,) or (s, channels) int16."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def peak_hz(waveform: np.ndarray, rate_hz: int) -> float:
    """Frequency of the strongest spectral line."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * rate_hz / len(waveform))


def white_x(image: np.ndarray) -> float:
    """Horizontal centre of the white pixels between the corners."""
    mask = (image[CORNER:-CORNER] > 180).all(axis=2)
    return float(np.nonzero(mask)[1].mean())


def corner_colors(image: np.ndarray) -> list[str]:
    """Nearest colour names of the corners, clockwise from top left."""
    inset = CORNER // 2
    pixels = [
        image[inset, inset],
        image[inset, -inset],
        image[-inset, -inset],
        image[-inset, inset],
    ]

    def nearest(pixel: np.ndarray) -> str:
        def distance(name: str) -> float:
            return float(np.abs(pixel.astype(float) - CORNERS[name]).max())

        name = min(CORNERS, key=distance)
        return name if distance(name) < 40 else f"{pixel.tolist()}"

    return [nearest(pixel) for pixel in pixels]


def spoken_time(times_s: np.ndarray) -> np.ndarray:
    """(1, s): a chirp whose frequency says the time, 400 Hz and 100 Hz more every second."""
    return 0.4 * np.sin(2 * np.pi * (400 * times_s + 50 * times_s**2))[None]


def heard_time(waveform: np.ndarray, rate_hz: int, at_s: float, window_s: float = 0.1) -> float:
    """What the chirp says at a place of the waveform; NaN where it is silent."""
    first = round((at_s - window_s / 2) * rate_hz)
    window = waveform[first : first + round(window_s * rate_hz)]
    if np.abs(window).max(initial=0.0) < 0.02:
        return float("nan")
    spectrum = np.abs(np.fft.rfft(window * np.hanning(len(window)), 1 << 17))
    return float((spectrum.argmax() * rate_hz / (1 << 17) - 400) / 100)


def shown_time(time_s: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture whose 12 cells are the bits of the time in hundredths of a second."""
    number = round(100 * time_s)
    cells = np.array([number >> bit & 1 for bit in range(12)], np.uint8).reshape(2, 6)
    grey = np.kron(cells, np.ones((height // 2, width // 6 + 1), np.uint8))[:, :width]
    return np.repeat((20 + 215 * grey)[..., None], 3, axis=2)


def seen_time(image: np.ndarray) -> float:
    height, width = image.shape[:2]
    cells = image[[height // 4, 3 * height // 4]][:, (np.arange(6) * width // 6) + width // 12]
    return (
        int(sum(1 << bit for bit, cell in enumerate(cells.reshape(12, 3)) if cell.mean() > 128))
        / 100
    )


def write_times(
    path: Path,
    duration_s: float,
    *,
    sound_s: float = 0.0,
    picture_s: float = 0.0,
    muted_s: Sequence[tuple[float, float]] = (),
    video: str = "libx264",
    audio: str = "aac",
    options: dict[str, str] | None = None,
    gop: int = 50,
    rate_hz: int = 48_000,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Pictures (25 Hz) from `picture_s` and sound from `sound_s` on, both saying the time.

    Within `muted_s` there are no packets of sound. MPEG-2 video makes a program stream's.
    """
    codec_options = CODEC_OPTIONS.get(video, {}) if options is None else options
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video, rate=25, options=codec_options)
        pictures.height, pictures.width, pictures.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        pictures.codec_context.gop_size = gop
        if pixel_aspect is not None:
            pictures.codec_context.sample_aspect_ratio = pixel_aspect
        sounds = container.add_stream(audio, rate=rate_hz)
        sounds.layout = "mono"
        block = {"libopus": 960, "mp2": 1152}.get(audio, 1024)
        events = [(n / 25, n) for n in range(round(25 * picture_s), round(25 * duration_s))]
        events += [
            (n / rate_hz, -n - 1)
            for n in range(round(sound_s * rate_hz), round(duration_s * rate_hz), block)
            if not any(start <= n / rate_hz < stop for start, stop in muted_s)
        ]
        for time_s, n in sorted(events):
            if n >= 0:
                frame = av.VideoFrame.from_ndarray(shown_time(time_s), format="rgb24")
                frame.pts, frame.time_base = n, Fraction(1, 25)
                container.mux(pictures.encode(frame))
                continue
            first = -n - 1
            samples = spoken_time((first + np.arange(block)) / rate_hz).astype(np.float32)
            kind = sounds.format.name
            if kind == "s16":
                samples = np.round(samples * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16" if kind == "s16" else "fltp",
                                               layout="mono")  # fmt: skip
            frame.sample_rate, frame.pts = rate_hz, first
            frame.time_base = Fraction(1, rate_hz)
            container.mux(sounds.encode(frame))
        for stream in (pictures, sounds):
            container.mux(stream.encode(None))
    return path
