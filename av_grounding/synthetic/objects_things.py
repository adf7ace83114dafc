"""Sketches of instruments and household things in unit coordinates (y down)."""

from __future__ import annotations

import math

import numpy as np

from av_grounding.synthetic.drawing import (
    BLACK,
    BRASS,
    WHITE,
    WOOD,
    Sketch,
    blob,
    box,
    curve,
    darker,
    ellipse,
    lighter,
    limb,
    mix,
    polygon,
)


def bell(s: Sketch) -> None:
    s.typical(BRASS, (200, 150, 60), (170, 172, 178))
    waist, flare, low = s.uniform(0.36, 0.46), s.uniform(0.68, 0.84), 0.62
    shoulder = -s.uniform(0.42, 0.55)
    if s.chance(0.5):
        s.fill(
            limb([(0.0, -0.5), (0.0, -0.8), (0.0, -1.1)], 0.17, 0.22),
            WOOD if s.chance(0.5) else s.second,
        )
    else:
        s.fill(ellipse(0.0, -0.72, 0.19, 0.19), s.body)
        s.fill(ellipse(0.0, -0.72, 0.09, 0.09), darker(s.body, 0.6))
    s.fill(ellipse(s.uniform(-0.14, 0.14), low + 0.12, 0.15, 0.16), darker(s.second, 0.2))
    right = [
        (0.14, -0.64),
        (waist * 0.75, shoulder),
        (waist, -0.05),
        (waist + 0.1, 0.26),
        (flare, low),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    s.fill(np.concatenate((curve(right), curve(left))), s.body)
    s.fill(ellipse(0.0, low, flare + 0.03, 0.1), darker(s.body, 0.3))
    glow = [(-waist * 0.6, shoulder + 0.08), (-waist * 0.72, 0.0), (-waist * 0.9, 0.36)]
    s.line(curve(glow), lighter(s.body, 0.6), 0.09)
    for y in (0.12, 0.22) if s.chance(0.6) else (-0.25,):
        half = waist + 0.02 + max(0.0, y) * 0.3
        s.line(curve([(-half, y), (0.0, y + 0.06), (half, y)]), darker(s.body, 0.4), 0.05)


def clock(s: Sketch) -> None:
    face = lighter(s.second, 0.75) if s.chance(0.75) else darker(s.second, 0.7)
    ink = BLACK if sum(face) > 380 else WHITE
    square = s.chance(0.3)
    r = s.uniform(0.72, 0.82)
    if not square and s.chance(0.5):
        for x in (-1.0, 1.0):
            s.fill(limb([(x * 0.4, 0.6), (x * 0.58, 0.98)], 0.13, 0.1), s.accent)
            s.fill(ellipse(x * 0.5, -0.78, 0.3, 0.2, x * 36.0), s.accent)
        s.fill(box(-0.05, -1.06, 0.05, -0.7), s.accent)
    rim = 0.84 if not square else 0.8
    s.fill(box(-rim, -rim, rim, rim, 0.14) if square else ellipse(0.0, 0.0, rim, rim), s.body)
    s.fill(ellipse(0.0, 0.0, r * 0.88, r * 0.88), face)
    for i in range(12):
        a, inner = i * math.pi / 6.0, 0.66 if i % 3 == 0 else 0.73
        tick = [(q * r * math.cos(a), q * r * math.sin(a)) for q in (inner, 0.81)]
        s.line(polygon(tick), ink, 0.075 if i % 3 == 0 else 0.04)
    hour, minute = s.uniform(0.0, 2 * math.pi), s.uniform(0.0, 2 * math.pi)
    for a, reach, width in ((hour, 0.4, 0.1), (minute, 0.6, 0.065)):
        s.line(
            polygon([(0.0, 0.0), (reach * r * math.sin(a), -reach * r * math.cos(a))]), ink, width
        )
    s.fill(ellipse(0.0, 0.0, 0.07, 0.07), s.accent, False)


def drum(s: Sketch) -> None:
    wide, top, low, flat = (
        s.uniform(0.62, 0.78),
        -0.2,
        s.uniform(0.45, 0.68),
        s.uniform(0.16, 0.24),
    )
    skin = mix((240, 230, 210), s.second, s.uniform(0.0, 0.35))
    side = [(-wide, top), (wide, top), (wide * 0.97, low), (-wide * 0.97, low)]
    s.union([polygon(side), ellipse(0.0, low, wide * 0.97, flat)], s.body)
    num_points = int(s.rng.integers(5, 9))
    lacing = []
    for i in range(num_points):
        x = -1 + 2 * i / (num_points - 1.0)
        drop = flat * math.sqrt(max(0.0, 1 - x * x))
        lacing.append((x * wide * 0.96, drop + (top + 0.12 if i % 2 else low - 0.06)))
    s.line(polygon(lacing), s.accent, 0.055)
    rim = [(wide * math.cos(a), flat * math.sin(a)) for a in (math.pi * i / 16 for i in range(17))]
    s.line(polygon([(x, low - 0.01 + y) for x, y in rim]), s.second, 0.11)
    s.line(polygon([(x, top + 0.04 + y) for x, y in rim]), s.second, 0.12)
    s.fill(ellipse(0.0, top, wide, flat), skin)
    s.fill(ellipse(0.0, top, wide * 0.84, flat * 0.78), lighter(skin, 0.4), False)
    stick = WOOD if s.chance(0.5) else s.accent
    tilt = s.uniform(0.5, 0.75)
    for x in (-1.0, 1.0):
        s.fill(limb([(x * 0.9, -tilt - 0.1), (x * -0.16, top + 0.02)], 0.075, 0.055), stick)
        s.fill(ellipse(x * -0.18, top + 0.03, 0.085, 0.065), lighter(stick, 0.25))


def guitar(s: Sketch) -> None:
    s.typical((206, 140, 70), (150, 60, 40), (236, 200, 130))
    low, waist, upper = s.uniform(0.5, 0.62), s.uniform(0.28, 0.36), s.uniform(0.38, 0.46)
    top = -s.uniform(0.78, 0.95)
    neck = darker(WOOD, 0.35) if s.chance(0.6) else s.second
    s.fill(
        polygon(
            [(-0.11, top - 0.02), (0.11, top - 0.02), (0.08, top + 0.28), (-0.08, top + 0.28)]
        ),
        s.second,
    )
    for y in (top + 0.04, top + 0.13, top + 0.22):
        for x in (-1.0, 1.0):
            s.fill(ellipse(x * 0.15, y, 0.045, 0.03), (210, 210, 214))
    right = [(0.1, 0.0), (upper, 0.14), (waist, 0.42), (low, 0.76), (0.24, 1.02)]
    s.fill(blob([*right, *((-x, y) for x, y in reversed(right))]), s.body)
    if s.chance(0.5):
        guard = [(0.06, 0.5), (waist * 0.8, 0.42), (low * 0.72, 0.72), (0.1, 0.66)]
        s.fill(blob(guard), s.accent, False)
    s.fill(ellipse(0.0, 0.44, 0.15, 0.15), lighter(s.accent, 0.3))
    s.fill(ellipse(0.0, 0.44, 0.115, 0.115), BLACK, False)
    s.fill(box(-0.065, top + 0.24, 0.065, 0.36), neck)
    for i in range(6):
        y = top + 0.33 + 0.13 * i
        s.line(polygon([(-0.06, y), (0.06, y)]), (214, 206, 190), 0.022)
    s.fill(box(-0.2, 0.76, 0.2, 0.84), darker(neck, 0.3))
    for x in (-0.036, 0.0, 0.036):
        s.line(polygon([(x, top + 0.2), (x, 0.8)]), (236, 232, 220), 0.014)


def piano(s: Sketch) -> None:
    s.typical((30, 28, 32), (120, 66, 40), WHITE)
    wide, top, low = s.uniform(0.84, 0.98), -s.uniform(0.62, 0.82), s.uniform(0.66, 0.8)
    s.fill(box(-wide, top, wide, low), s.body)
    s.fill(box(-wide - 0.06, top - 0.1, wide + 0.06, top + 0.03), darker(s.body, 0.2))
    s.fill(box(-wide + 0.12, top + 0.12, wide - 0.12, -0.22), lighter(s.body, 0.15))
    if s.chance(0.6):
        sheet = box(-0.3, top + 0.16, 0.3, -0.24)
        s.fill(sheet, WHITE)
        for i in range(3):
            y = top + 0.26 + 0.1 * i
            s.line(polygon([(-0.22, y), (0.22, y)]), (90, 90, 94), 0.025)
    s.fill(box(-wide + 0.16, 0.34, wide - 0.16, low - 0.1), darker(s.body, 0.25))
    for x in (-1.0, 1.0):
        s.fill(
            box(x * (wide - 0.05) - 0.08, 0.26, x * (wide - 0.05) + 0.08, low + 0.12),
            darker(s.body),
        )
    s.fill(box(-wide - 0.08, -0.18, wide + 0.08, 0.3), darker(s.body, 0.15))
    num_keys = int(s.rng.integers(9, 14))
    left, width = -wide + 0.02, 2 * (wide - 0.02) / num_keys
    s.fill(box(left, -0.1, -left, 0.22), WHITE)
    for i in range(1, num_keys):
        x = left + i * width
        s.line(polygon([(x, -0.1), (x, 0.22)]), (60, 60, 64), 0.022)
        if i % 7 not in (0, 3):
            s.fill(box(x - 0.3 * width, -0.1, x + 0.3 * width, 0.09), BLACK, False)
    for x in (-0.08, 0.08):
        s.fill(ellipse(x, low + 0.02, 0.06, 0.035), BRASS)


def phone(s: Sketch) -> None:
    """A desk telephone with a dial and a handset."""
    s.typical((190, 40, 40), (36, 36, 40), (90, 150, 140))
    wide, slope, low = s.uniform(0.78, 0.92), s.uniform(0.3, 0.42), s.uniform(0.6, 0.74)
    if s.chance(0.5):
        cord = [(-wide + 0.05 - 0.1 * (i % 2), low - 0.08 - 0.13 * i) for i in range(8)]
        s.line(curve(cord), darker(s.body, 0.5), 0.05)
    for x in (-0.26, 0.26):
        s.fill(box(x - 0.09, -0.42, x + 0.09, -0.1), darker(s.body, 0.2))
    base = [(-slope, -0.22), (slope, -0.22), (wide * 0.82, 0.3), (wide, low), (-wide, low)]
    s.fill(polygon([*base, (-wide * 0.82, 0.3)]), s.body)
    s.fill(box(-wide - 0.03, low - 0.07, wide + 0.03, low + 0.05, 0.04), darker(s.body, 0.3))
    hand, y = s.second if s.chance(0.4) else s.body, -s.uniform(0.46, 0.56)
    ear = s.uniform(0.72, 0.84)
    s.union(
        [limb([(-ear, y + 0.08), (-0.4, y - 0.12), (0.4, y - 0.12), (ear, y + 0.08)], 0.19)]
        + [ellipse(x * ear, y + 0.1, 0.2, 0.16, x * 12.0) for x in (-1.0, 1.0)],
        hand,
    )
    r, cy = s.uniform(0.27, 0.33), 0.2
    if s.chance(0.7):
        s.fill(ellipse(0.0, cy, r, r), lighter(s.accent, 0.5))
        for i in range(10):
            a = 0.6 + i * 0.52
            hole = 0.16 * r
            s.fill(
                ellipse(0.7 * r * math.cos(a), cy + 0.7 * r * math.sin(a), hole, hole),
                BLACK,
                False,
            )
        s.fill(ellipse(0.0, cy, 0.36 * r, 0.36 * r), s.accent)
    else:
        for row in range(4):
            for column in (-1.0, 0.0, 1.0):
                x, y = 0.2 * column, cy - 0.22 + 0.16 * row
                s.fill(box(x - 0.07, y - 0.05, x + 0.07, y + 0.05), lighter(s.accent, 0.5))


def kettle(s: Sketch) -> None:
    wide, low, top = s.uniform(0.52, 0.64), 0.72, -s.uniform(0.12, 0.26)
    handle, rise = s.second if s.chance(0.6) else BLACK, s.uniform(0.72, 0.92)
    arch = [(-wide * 0.72, top + 0.12), (-wide * 0.78, -rise + 0.1), (0.0, -rise - 0.06)]
    s.fill(limb([*arch, (wide * 0.78, -rise + 0.1), (wide * 0.72, top + 0.12)], 0.12), handle)
    lip = (s.uniform(0.9, 1.06), -s.uniform(0.14, 0.3))
    spout = [(wide * 0.7, 0.42), (wide + 0.18, 0.22), lip]
    s.fill(limb(spout, 0.34, 0.13), s.body)
    pot = [(-wide * 0.5, top), (wide * 0.5, top), (wide * 0.95, 0.25), (wide * 0.98, low - 0.12)]
    pot += [
        (wide * 0.8, low),
        (-wide * 0.8, low),
        (-wide * 0.98, low - 0.12),
        (-wide * 0.95, 0.25),
    ]
    s.fill(blob(pot), s.body)
    if s.chance(0.4):
        s.line(curve([(-wide * 0.94, 0.34), (0.0, 0.42), (wide * 0.94, 0.34)]), s.accent, 0.12)
    s.fill(box(-wide * 0.86, low - 0.08, wide * 0.86, low + 0.03, 0.04), darker(s.body, 0.35))
    s.fill(
        blob(
            [
                (-wide * 0.52, top + 0.02),
                (0.0, top - 0.16),
                (wide * 0.52, top + 0.02),
                (0.0, top + 0.06),
            ]
        ),
        lighter(s.body, 0.15),
    )
    s.fill(ellipse(0.0, top - 0.17, 0.09, 0.08), handle)
    s.line(
        curve([(-wide * 0.52, 0.08), (-wide * 0.72, 0.28), (-wide * 0.74, 0.5)]),
        lighter(s.body, 0.6),
        0.075,
    )
