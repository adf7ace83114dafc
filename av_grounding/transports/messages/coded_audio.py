"""Whether octets that should be samples are compressed sound, by what they begin with."""

from __future__ import annotations

import numpy as np

_SIGNATURES = ((b"ID3", "MP3"), (b"OggS", "Ogg"), (b"fLaC", "FLAC"), (b"RIFF", "a WAV file"))
# ISO 11172-3 and 13818-3: kbit/s by (is MPEG-1, layer), Hz of MPEG-1.
_KBITS = {
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = (44_100, 48_000, 32_000)
_DIVISORS = {0b11: 1, 0b10: 2, 0b00: 4}
"""Of the rates, by the two bits that say MPEG-1, 2 or 2.5."""


def coding_of(octets: np.ndarray) -> str | None:
    """The name of the coding, None for what may be samples.

    Bare MPEG frames have no signature but a header of few bits, which samples may have too: it
    counts where the length that it states ends with the data, or where a second header of the
    same kind stands there.
    """
    data = octets[:8192].tobytes()
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    length = _mpeg_frame_bytes(data)
    if length is None:
        return None
    following = data[length : length + 4]
    is_alike = len(following) == 4 and following[:2] == data[:2]
    is_second = is_alike and _mpeg_frame_bytes(following) is not None
    return "MP3 (bare MPEG frames)" if length == octets.size or is_second else None


def _mpeg_frame_bytes(data: bytes) -> int | None:
    """The length of the MPEG audio frame (layer II or III) whose header begins the data."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    bitrate, rate, padding = data[2] >> 4, data[2] >> 2 & 3, data[2] >> 1 & 1
    is_mpeg_1 = version == 0b11
    if version not in _DIVISORS or layer not in (2, 3) or bitrate in (0, 15) or rate == 3:
        return None
    num_samples = 576 if layer == 3 and not is_mpeg_1 else 1152
    rate_hz = _RATES_HZ[rate] // _DIVISORS[version]
    return num_samples * 125 * _KBITS[is_mpeg_1, layer][bitrate - 1] // rate_hz + padding
