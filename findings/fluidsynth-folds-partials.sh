#!/bin/bash
# fluidsynth 2.3.1 (Debian 12, timgm6mb-soundfont 1.3): a file rendered at a low rate (-r 16000) is
# not the file at 44.1 kHz with its treble cut off. Partials of the samples above half the rate are
# folded back into the band, since they are read at another pace without a filter before. Valid input:
# one note, A6 on General MIDI's square lead; reverb and chorus off. Seen: its third partial, 5280 Hz,
# stands where it should at both rates; the seventh, 12320 Hz, comes back at 3680 Hz at 16 kHz, far
# above what 44.1 kHz has there. Exits 0 while that is so, 1 once the band is clean. Needs Debian 12.
set -u
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder" && cd "$folder" || exit 2
packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
  --no-replaces --no-enhances libfluidsynth3 | grep '^[a-z]' | sort -u | grep -v -e '^debconf' -e '^dpkg$')
apt-get download -qq fluidsynth=2.3.1-2 libfluidsynth3=2.3.1-2 timgm6mb-soundfont=1.3-5 \
  $packages 2>/dev/null || exit 2
for package in *.deb; do dpkg -x "$package" root || exit 2; done
python3 -m venv venv && venv/bin/pip install -q numpy==2.2.6 || exit 2
cat > render.py <<'PY'
import glob, os, struct, subprocess, wave

import numpy as np

notes = bytes([0, 0xC0, 80, 0, 0x90, 93, 100, 0x8F, 0, 0x80, 93, 0]) + b"\x00\xff\x2f\x00"
with open("note.mid", "wb") as file:
    file.write(b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480))
    file.write(b"MTrk" + struct.pack(">I", len(notes)) + notes)
(loader,) = glob.glob("root/lib64/ld-linux-x86-64.so.2") or glob.glob("root/lib/*/ld-linux*")
libraries = ":".join(os.path.abspath(one) for one in glob.glob("root/**/x86_64-linux-gnu", recursive=True))
(font,) = glob.glob("root/usr/share/sounds/sf2/TimGM6mb.sf2")


def level_db(rate, hz):
    command = [loader, "--library-path", libraries, "root/usr/bin/fluidsynth", "-ni", "-q"]
    command += ["-R", "0", "-C", "0", "-r", str(rate), "-F", "note.wav", font, "note.mid"]
    subprocess.run(command, check=True, capture_output=True)
    with wave.open("note.wav") as file:
        samples = np.frombuffer(file.readframes(rate * 9 // 10), "<i2").reshape(-1, 2)[:, 0]
    samples = samples[rate // 5 :] * np.hanning(len(samples) - rate // 5)
    spectrum = np.abs(np.fft.rfft(samples, 2**18))
    bins = np.abs(np.fft.rfftfreq(2**18, 1 / rate) - hz) < 40
    return round(float(20 * np.log10(spectrum[bins].max() / spectrum.max())))


found = {rate: {hz: level_db(rate, hz) for hz in (5280, 3680)} for rate in (44100, 16000)}
print("dB below the loudest:", found)
folded = found[16000][3680] - found[44100][3680]
raise SystemExit(not (folded > 20 and abs(found[16000][5280] - found[44100][5280]) < 6))
PY
venv/bin/python render.py
