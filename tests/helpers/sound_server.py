"""PulseAudio with a virtual microphone, for tests of what is heard."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest

MISSING = [tool for tool in ("pulseaudio", "pactl", "paplay") if shutil.which(tool) is None]
ALSA_PLUGIN = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
NEEDS_PULSEAUDIO = pytest.mark.skipif(
    bool(MISSING) or not ALSA_PLUGIN,
    reason="needs PulseAudio: apt install pulseaudio pulseaudio-utils libasound2-plugins",
)
REPOSITORY = Path(__file__).parents[2]
RATE_HZ = 48_000
TONE_HZ = 440.0
PATIENT_S = 60.0


class SoundServer:
    """PulseAudio with a null sink whose monitor is the default source, in a folder of its own."""

    def __init__(self, folder: Path, waveform: np.ndarray | None = None) -> None:
        """`waveform` (s,) at `RATE_HZ` is played once from each start on; a tone by default."""
        self.folder = folder
        # A socket's path is short, so it cannot lie in pytest's deep folders.
        self.runtime = Path(tempfile.mkdtemp())
        self.socket = self.runtime / "native"
        asoundrc = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"
        (folder / ".asoundrc").write_text(asoundrc)
        self.environment = os.environ | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PULSE_RUNTIME_PATH": str(self.runtime),
            "PULSE_SERVER": f"unix:{self.socket}",
            "PULSE_COOKIE": str(self.runtime / "cookie"),
            "PYTHONPATH": str(REPOSITORY),
        }
        if waveform is None:
            waveform = 0.3 * np.sin(2 * np.pi * TONE_HZ * np.arange(RATE_HZ * 30) / RATE_HZ)
        self.played = self.write("played.wav", waveform)
        self.processes: list[subprocess.Popen[str]] = []
        self.start()

    def write(self, name: str, waveform: np.ndarray) -> Path:
        """A WAV file of (s,) samples in [-1, 1] at `RATE_HZ`."""
        path = self.folder / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(np.rint(32767 * waveform).astype("<i2").tobytes())
        return path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENT_S
        )

    def spawn(self, *command: str, **options) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, env=self.environment, text=True, **options)
        self.processes.append(process)
        return process

    def start(self) -> None:
        self.server = self.spawn(
            *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"),
            *("-L", f"module-native-protocol-unix socket={self.socket} auth-anonymous=1"),
            *("-L", "module-null-sink sink_name=speaker rate=48000"),
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            if self.run("pactl", "set-default-source", "speaker.monitor").returncode == 0:
                break
            time.sleep(0.1)
        else:
            pytest.skip("PulseAudio does not start here")
        self.play()

    def play(self) -> None:
        self.player = self.spawn("paplay", str(self.played), stderr=subprocess.DEVNULL)

    def stop_playing_after(self, seconds: float) -> None:
        """Silence from then on; returns at once."""
        timer = threading.Timer(seconds, self.player.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        for process in (self.player, self.server):
            process.kill()
            process.wait(PATIENT_S)
        self.socket.unlink(missing_ok=True)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(PATIENT_S)
        shutil.rmtree(self.runtime, ignore_errors=True)
