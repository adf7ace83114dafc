#!/bin/bash
# pi-heif 1.4.0 (and pillow-heif 1.8.1): np.asarray(open_heif(path)) is a view of memory that is
# freed with the HeifFile, although NumPy is given an object to keep alive. Valid input, the README's
# own idiom. Seen: the process ends with signal 11 (segmentation fault), or other pixels than with
# np.array(..) while the file is alive. Exits 0 while that is so, 1 once the values are right.
set -u
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pi-heif==1.4.0 pillow-heif==1.8.1 numpy pillow || exit 2
cat > "$folder/read.py" <<'PY'
import sys
import numpy as np, pi_heif, pillow_heif
from PIL import Image

path = sys.argv[1]
pillow_heif.register_heif_opener()
Image.fromarray(np.full((1200, 1600, 3), (220, 40, 40), np.uint8)).save(path, quality=90)


def read():
    image = pi_heif.open_heif(path)
    return np.array(image), np.asarray(image)


whole, view = read()
sys.exit(0 if (whole == view).all() else 3)
PY
"$folder/venv/bin/python" "$folder/read.py" "$folder/photo.heic"
code=$?
echo "exit code $code (139: segmentation fault, 3: other pixels, 0: right)"
[ "$code" = 139 ] || [ "$code" = 3 ]
