"""Photographs of phones: the whole picture, not its upper left tile."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from av_grounding.sources.media_file import MediaFile
from av_grounding.sources.still import read_image
from tests.helpers.make_clips import write_sound

# 160x96 of four colours in tiles of 64, by pillow-heif 1.8.1: options.GRID_TILE_SIZE = 64, then
# Image.fromarray(pixels).save("tiles.heic", quality=60).
TILES = Path(__file__).parents[1] / "helpers/tiles.heic"
COLORS = [(220, 40, 40), (40, 200, 60), (50, 60, 220), (230, 220, 40)]


def test_tiles_become_one_picture():
    file = MediaFile(TILES)
    assert (file.is_still, file.has_audio, file.image_size) == (True, False, (96, 160))
    (frame,) = file.video_frames()
    middles = [frame.image[y, x] for y in (24, 72) for x in (40, 120)]
    np.testing.assert_allclose(np.array(middles, int), COLORS, atol=8)
    # The decoder's memory is not that of the picture.
    for _ in range(20):
        np.testing.assert_array_equal(read_image(TILES), frame.image)


def test_a_damaged_one_is_refused_by_name(tmp_path):
    (tmp_path / "cut.heic").write_bytes(TILES.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut\.heic: a HEIC picture that does not decode"):
        MediaFile(tmp_path / "cut.heic")


def test_without_its_decoder_the_remedy_is_named(tmp_path):
    code = (
        "import sys; sys.modules['pi_heif'] = sys.modules['pillow_heif'] = None\n"
        "from av_grounding.sources.still import read_image\n"
        f"try: read_image({str(TILES)!r})\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert "tiles.heic" in done.stdout
    assert "pip install pi-heif" in done.stdout


def test_it_pairs_with_a_sound_in_a_data_set(tmp_path):
    from av_grounding.training.data.folder import list_clips

    (tmp_path / "IMG_1.HEIC").write_bytes(TILES.read_bytes())
    write_sound(tmp_path / "IMG_1.wav")
    (clip,) = list_clips(tmp_path).clips
    assert clip.pictures[0].name == "IMG_1.HEIC"
