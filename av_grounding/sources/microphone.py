"""Microphones through PortAudio (sounddevice), opened again when they fall silent or vanish."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from av_grounding.audio import NS_PER_S
from av_grounding.sources.backlog import MIN_PAUSE_S, Backlog
from av_grounding.types import AudioChunk

logger = logging.getLogger(__name__)

# Sound that nobody takes is kept this long before blocks are lost (and counted).
QUEUE_S = 10.0
# No data for this long means that the device is gone. Just after opening a sound server may need
# longer: an idle one delivers its first block only after two seconds.
POLL_S = 0.05
WATCHDOG_S = 2.0
FIRST_DATA_S = 5.0
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 1.0  # it is there again within two seconds of its return
# PortAudio's capture time is believed only this close to the moment of delivery.
MAX_DRIVER_DELAY_S = 1.0


class Microphone:
    """Sound of an input device as blocks of `block_ms`, (s, channels) float32.

    `name` is part of the device's name, in any case; None takes the system's default. `rate`
    None takes the device's own. As many channels are recorded as it takes to have `channel`, from
    0 on. A stamp is the capture time of a block's first sample: the
    driver's while it is plausible, else arrival minus duration. Blocks that waited in the driver
    while this process did not run are left out (`num_old`). A device that delivers nothing for
    two seconds is opened again with growing pauses until `close`.

    Raises RuntimeError without the PortAudio library, ValueError if no device or several match.
    """

    def __init__(
        self,
        name: str | None = None,
        rate: int | None = None,
        block_ms: float = 20.0,
        channel: int = -1,
    ) -> None:
        self.name = name
        self.block_ms = block_ms
        self.num_overruns = 0
        self.num_reopens = 0
        self.num_old = 0
        self._requested_rate = rate
        self._num_wanted = max(2, channel + 1)
        self._queue: queue.Queue[AudioChunk] = queue.Queue(round(QUEUE_S * 1000 / block_ms))
        self._closed = threading.Event()
        self._finished = threading.Event()
        self._has_stuck_stream = False
        self._sounddevice = import_sounddevice()
        self._stream = self._open()

    def __iter__(self) -> Iterator[AudioChunk]:
        # Silence is counted in looks at the queue: while this process is frozen, nobody looks.
        silent_s, patience_s = 0.0, FIRST_DATA_S
        try:
            while not self._closed.is_set():
                try:
                    chunk = self._queue.get(timeout=POLL_S)
                except queue.Empty:
                    silent_s += POLL_S
                    if self._finished.is_set() or silent_s > patience_s:
                        self._reopen()
                        silent_s, patience_s = 0.0, FIRST_DATA_S
                    continue
                silent_s, patience_s = 0.0, WATCHDOG_S
                yield chunk
        finally:
            self._release()

    def close(self) -> None:
        """End the iteration, also from another thread; the device is free afterwards."""
        self._closed.set()
        self._release()

    def _open(self) -> Any:
        sd = self._sounddevice
        device = find_input(sd.query_devices(), sd.default.device[0], self.name)
        rate = self._requested_rate or round(device["default_samplerate"])
        # Else two at most: what is not mono is averaged, and arrays have odd extra channels.
        channels = min(device["max_input_channels"], self._num_wanted)
        self._finished = finished = threading.Event()
        self._is_driver_time_sane = True
        self._backlog = Backlog(self.block_ms / 1000)
        # The callback reads these from the first block on.
        self.device_name: str = device["name"]
        self.sample_rate_hz = rate
        self.num_channels = channels
        try:
            stream = sd.InputStream(
                device=device["index"],
                samplerate=rate,
                channels=channels,
                blocksize=round(rate * self.block_ms / 1000),
                dtype="float32",
                callback=self._callback,
                finished_callback=finished.set,
            )
            stream.start()
        except sd.PortAudioError as error:
            raise ValueError(
                f"microphone {device['name']!r} cannot be opened at {rate} Hz with {channels} "
                f"channels ({error.args[0]}); its own rate is {device['default_samplerate']:.0f} "
                "Hz: free it if another program uses it, or choose another"
            ) from error
        return stream

    def _callback(self, samples: Any, num_samples: int, times: Any, status: Any) -> None:
        now_ns = time.time_ns()
        duration_s = num_samples / self.sample_rate_hz
        age_s = times.currentTime - times.inputBufferAdcTime
        # A block's first sample cannot be younger than the block is long. A driver that says so
        # once (sound servers do) is never believed: stamps of two kinds would jump back and forth.
        if not duration_s - 0.001 <= age_s <= duration_s + MAX_DRIVER_DELAY_S:
            self._is_driver_time_sane = False
        if not self._is_driver_time_sane:
            age_s = duration_s
        if status.input_overflow:
            self._count_overrun()
        # Sound servers say of what waited that it is new; a driver that tells its age is believed.
        if self._backlog.holds(time.monotonic()) and age_s < duration_s + MIN_PAUSE_S:
            self._count_old()
            return
        stamp_ns = now_ns - round(age_s * NS_PER_S)
        try:
            self._queue.put_nowait(AudioChunk(samples.copy(), stamp_ns, self.sample_rate_hz))
        except queue.Full:
            self._count_overrun()

    def _count_overrun(self) -> None:
        self.num_overruns += 1
        if self.num_overruns == 1:
            logger.warning("microphone %s: sound was lost (overrun); counting", self.device_name)

    def _count_old(self) -> None:
        self.num_old += 1
        if self.num_old == 1:
            logger.warning(
                "microphone %s: sound that waited while this process did not run is left out; "
                "counting",
                self.device_name,
            )

    def _reopen(self) -> None:
        logger.warning("microphone %s: no data; trying to open it again", self.device_name)
        lost_s = time.monotonic()
        self._release()
        backoff_s = FIRST_BACKOFF_S
        while not self._closed.wait(backoff_s):
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
            try:
                if not self._has_stuck_stream:
                    refresh_devices(self._sounddevice)
                self._stream = self._open()
            except (ValueError, RuntimeError, self._sounddevice.PortAudioError):
                continue
            self.num_reopens += 1
            gap_s = time.monotonic() - lost_s
            logger.warning("microphone %s: open after %.1f s", self.device_name, gap_s)
            return

    def _release(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return

        def abort() -> None:
            try:
                stream.abort(ignore_errors=True)
                stream.close(ignore_errors=True)
            except self._sounddevice.PortAudioError:
                logger.debug("closing the microphone failed", exc_info=True)

        # The driver of a device that vanished may never answer; the program must go on.
        closer = threading.Thread(target=abort, name="microphone-close", daemon=True)
        closer.start()
        closer.join(timeout=WATCHDOG_S)
        self._has_stuck_stream |= closer.is_alive()


def import_sounddevice() -> ModuleType:
    """The sounddevice module; RuntimeError with the remedy where PortAudio is missing."""
    try:
        import sounddevice
    except (OSError, ImportError) as error:
        raise RuntimeError(
            f"microphones need the PortAudio library ({error}): apt install libportaudio2"
        ) from error
    return sounddevice


def refresh_devices(sounddevice: ModuleType) -> None:
    """Look for devices again: PortAudio lists them only when it starts. Ends open streams."""
    sounddevice._terminate()
    sounddevice._initialize()


def find_input(
    devices: Sequence[Mapping[str, Any]], default_index: int, name: str | None = None
) -> Mapping[str, Any]:
    """The one input device whose name contains `name`; an exact name wins over a part of it.

    `devices` is PortAudio's list, `default_index` its default input (-1: none).
    """
    inputs = [device for device in devices if device["max_input_channels"] > 0]
    listing = ", ".join(repr(device["name"]) for device in inputs) or "none at all"
    if name is None:
        defaults = [device for device in inputs if device["index"] == default_index]
        if defaults or len(inputs) == 1:
            return (defaults or inputs)[0]
        raise ValueError(
            f"no default microphone; inputs there are: {listing}. Plug one in, start the sound "
            "server, or name one with mic:NAME"
        )
    wanted = name.casefold()
    exact = [device for device in inputs if device["name"].casefold() == wanted]
    matches = exact or [device for device in inputs if wanted in device["name"].casefold()]
    if len(matches) != 1:
        found = "no microphone" if not matches else f"{len(matches)} microphones"
        raise ValueError(
            f"{found} whose name contains {name!r}; expected one of the inputs: {listing}"
        )
    return matches[0]
