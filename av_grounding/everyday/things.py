"""The photographs, recordings and spoken names behind the addresses of `parts`."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from av_grounding.everyday.media import decode_picture, decode_sound
from av_grounding.everyday.packages import folder
from av_grounding.everyday.qt_resource import QtResource

CUT_PX = 256
"""Longest side of a photograph that is cut out: a thing is shown no larger in a scene, and half a
second goes by for each. At 144 px some outlines are lost."""
_MARGIN = 0.04
_NUM_CUTS = 6
_SPECK = 0.05
ARCHIVE = ".rcc/"


@lru_cache(maxsize=256)
def cut_out(address: str) -> UInt8[np.ndarray, "H W 4"]:
    """A thing's photograph as RGBA, cropped to the thing; alpha is 0 around it."""
    if ARCHIVE in address:
        image = _without_surroundings(decode_picture(_member(address), address)[..., :3])
    else:
        path = folder("tuxpaint-stamps-default") / f"{address}.png"
        image = decode_picture(path.read_bytes(), str(path))
    rows, columns = (np.flatnonzero((image[..., 3] >= 128).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise ValueError(f"{address}: nothing of the picture is opaque")
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@lru_cache(maxsize=256)
def recording(address: str) -> Float32[np.ndarray, " s"]:
    """What a thing sounds like, see `decode_sound`."""
    if ARCHIVE in address:
        return decode_sound(_member(address), address)
    path = folder("tuxpaint-stamps-default") / f"{address}.ogg"
    return decode_sound(path.read_bytes(), str(path))


@lru_cache(maxsize=256)
def spoken_name(address: str) -> Float32[np.ndarray, " s"]:
    """The name of a stamp, spoken in English by a person."""
    path = folder("tuxpaint-stamps-default") / f"{address}_desc.ogg"
    return decode_sound(path.read_bytes(), str(path))


@lru_cache(maxsize=8)
def archive(name: str) -> QtResource:
    """An archive of gcompris."""
    return QtResource(folder("gcompris-qt-data") / name)


def _member(address: str) -> bytes:
    name, _, wanted = address.partition("/")
    files = archive(name)
    found = next((one for one in files.names if one.endswith(f"/{wanted}")), None)
    if found is None:
        raise FileNotFoundError(
            f"{files.path} has no {wanted}: another version of gcompris-qt-data than was measured"
        )
    return files.read(found)


def _without_surroundings(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 4"]:
    """What stands in the middle of a photograph, by colour against its margin (GrabCut)."""
    scale = CUT_PX / max(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    left, top = round(_MARGIN * width), round(_MARGIN * height)
    inside = (left, top, width - 2 * left, height - 2 * top)
    marks = np.zeros((height, width), np.uint8)
    cv2.setRNGSeed(0)  # its clusters begin at random
    cv2.grabCut(
        image, marks, inside, np.zeros((1, 65)), np.zeros((1, 65)), _NUM_CUTS,
        cv2.GC_INIT_WITH_RECT,
    )  # fmt: skip
    is_thing = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    _, labels, facts, _ = cv2.connectedComponentsWithStats(is_thing)
    areas = facts[:, cv2.CC_STAT_AREA]
    kept = [i for i in range(1, len(areas)) if areas[i] > _SPECK * areas[1:].max()]
    alpha = np.isin(labels, kept).astype(np.uint8) * 255
    return np.dstack([image, cv2.GaussianBlur(alpha, (3, 3), 0)])
