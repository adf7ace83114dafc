#!/bin/bash
# PyAV 18.1.0: av.CodecContext.create("av1", "r") takes FFmpeg's own decoder of that name, which
# decodes on special hardware alone, though the same wheel holds a software decoder (libdav1d), which
# a container of the same stream is given. Valid input, made by the wheel's own encoder. Seen: every
# packet raises errno 38, "Function not implemented"; "libdav1d" gives the picture.
# Exits 0 while that is so, 1 once the name decodes.
set -u
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy || exit 2
cat > "$folder/decode.py" <<'PY'
from fractions import Fraction

import av
import numpy as np

encoder = av.CodecContext.create("libsvtav1", "w")
encoder.width, encoder.height, encoder.pix_fmt = 64, 64, "yuv420p"
encoder.time_base = Fraction(1, 10)
frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 120, np.uint8), format="rgb24")
frame.pts = 0
(packet,) = [*encoder.encode(frame), *encoder.encode(None)]


def outcome(name):
    context = av.CodecContext.create(name, "r")
    try:
        pictures = context.decode(av.Packet(bytes(packet))) + context.decode(None)
    except av.FFmpegError as error:
        return f"errno {error.errno}"
    return f"{len(pictures)} picture, mean {pictures[0].to_ndarray(format='rgb24').mean():.0f}"


found = {name: outcome(name) for name in ("av1", "libdav1d")}
print(found)
raise SystemExit(found != {"av1": "errno 38", "libdav1d": "1 picture, mean 119"})
PY
"$folder/venv/bin/python" "$folder/decode.py" 2>"$folder/log" || { cat "$folder/log"; exit 1; }
