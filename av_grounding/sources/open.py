"""From the words of the command line to sources: SOURCE and AUDIO of `av-grounding run`."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from av_grounding.config import AudioSettings
from av_grounding.sources.playback import PlaybackClock
from av_grounding.types import Source

logger = logging.getLogger(__name__)

DEMOS = ("demo", "everyday")
"""The drawn scene, and the scene of photographs and recordings that are installed."""
URL_SCHEMES = ("http://", "https://", "rtsp://", "rtsps://")


def open_source(
    spec: str,
    audio: str | None = None,
    *,
    realtime: bool = True,
    duration_s: float | None = None,
    settings: AudioSettings | None = None,
) -> tuple[Source, Source | None]:
    """Sources of frames and of sound for a SOURCE and an AUDIO; None where there is no sound.

    `spec`: demo | everyday | camera[:INDEX or device path] | an http(s) or rtsp URL | a media
    file.
    `audio`: mic[:NAME] | a media file | none; by default a file's own sound, the default
    microphone beside a camera. Files are paced as live with `realtime`, and always beside a live
    device; sources from files share one clock. `duration_s` bounds a demo.
    `settings` name the microphone where AUDIO does not, and the channel that it must have.

    Raises ValueError, OSError or RuntimeError with one line that says what to do.
    """
    settings = settings or AudioSettings()
    kind, _, argument = spec.partition(":")
    if kind == "mic":
        raise ValueError(
            f"SOURCE {spec!r} is a microphone, but SOURCE is what is seen; expected demo, "
            "everyday, camera[:INDEX], an http:// or rtsp:// URL or a media file, and --audio "
            f"{spec}"
        )
    if kind == "camera" or spec.startswith(URL_SCHEMES):
        return _open_camera(spec, argument, audio, settings)
    if spec in DEMOS:
        from av_grounding.sources.demo import open_demo, scene_of

        video, sound = open_demo(realtime or _is_microphone(audio), duration_s, scene_of(spec))
        if audio is None:
            return video, sound
        clock = PlaybackClock(realtime or _is_microphone(audio))
        return video, _open_audio(audio, clock, settings)
    if "://" in spec:
        raise ValueError(
            f"SOURCE {spec!r} has a scheme that is not read; expected http://, https:// or rtsp://"
        )
    return _open_file(spec, audio, realtime, settings)


def _open_camera(
    spec: str, argument: str, audio: str | None, settings: AudioSettings
) -> tuple[Source, Source | None]:
    from av_grounding.sources.camera import Camera

    which = spec if spec.startswith(URL_SCHEMES) else argument or "0"
    camera = Camera(int(which) if which.isdecimal() else which)
    try:
        return camera, _open_audio(audio or "mic", PlaybackClock(realtime=True), settings)
    except (OSError, RuntimeError, ValueError) as error:
        camera.close()
        if audio is not None:
            raise
        raise type(error)(f"{error}; or run without sound: --audio none") from error


def _open_file(
    spec: str, audio: str | None, realtime: bool, settings: AudioSettings
) -> tuple[Source, Source | None]:
    from av_grounding.sources.media_file import MediaFile

    clock = PlaybackClock(realtime or _is_microphone(audio))
    file = MediaFile(Path(spec), clock=clock)
    if not file.has_video:
        raise ValueError(
            f"{spec} has sound but no picture, expected one: heatmaps lie over a picture; for one "
            "picture and one clip see av-grounding ground --help"
        )
    sound: Source | None = None
    sound_s: float | None = None
    if audio is not None:
        sound = _open_audio(audio, clock, settings)
        sound_s = math.inf if _is_microphone(audio) else getattr(sound, "duration_s", None)
    elif file.has_audio:
        sound = file.audio_chunks()
    if sound is None:
        logger.info("%s: no sound; the heatmaps will be empty", spec)
    return file.video_frames(sound_s), sound


def _open_audio(audio: str, clock: PlaybackClock, settings: AudioSettings) -> Source | None:
    if audio == "none":
        return None
    if _is_microphone(audio):
        from av_grounding.sources.microphone import Microphone

        name = audio.partition(":")[2] or settings.device
        return Microphone(name or None, channel=settings.channel)
    from av_grounding.sources.media_file import MediaFile

    return MediaFile(Path(audio), clock=clock).audio_chunks()


def _is_microphone(audio: str | None) -> bool:
    return audio is not None and audio.partition(":")[0] == "mic"
