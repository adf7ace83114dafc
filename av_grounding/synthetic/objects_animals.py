"""Sketches of the living classes, facing right, in unit coordinates (y down)."""

from __future__ import annotations

import math

import numpy as np

from av_grounding.synthetic.drawing import (
    BLACK,
    WHITE,
    Colour,
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

PINK: Colour = (236, 140, 150)
SKIN_TONES: tuple[Colour, ...] = (
    (250, 218, 196), (240, 196, 160), (214, 164, 122), (172, 118, 80), (128, 84, 58), (92, 60, 44),
)  # fmt: skip


def dog(s: Sketch) -> None:
    s.typical((150, 100, 60), (215, 170, 100), (60, 50, 45))
    half, depth, foot = s.uniform(0.48, 0.68), s.uniform(0.2, 0.3), s.uniform(0.7, 0.95)
    leg, head_x, head_y = (
        s.uniform(0.14, 0.2),
        half + s.uniform(0.06, 0.16),
        -s.uniform(0.42, 0.58),
    )
    far = darker(s.body)
    tail_up = s.uniform(0.35, 0.7)
    for x in (-half + 0.3, half - 0.02):
        s.fill(limb([(x, 0.1), (x + 0.03, 0.5), (x, foot - 0.06)], leg), far)
    tail = [(-half + 0.08, -0.02), (-half - 0.2, -0.15), (-half - 0.26, -tail_up)]
    torso = [(-half, 0.0), (-0.1, -depth), (half, -depth - 0.05), (half + 0.06, 0.15)]
    torso += [(0.15, depth + 0.06), (-half + 0.08, depth)]
    neck = polygon(
        [(half - 0.3, -0.15), (head_x - 0.22, head_y), (head_x + 0.15, head_y + 0.2), (half, 0.15)]
    )
    muzzle_x = head_x + s.uniform(0.26, 0.36)
    parts = [limb(tail, 0.13, 0.07), blob(torso), neck, ellipse(head_x, head_y, 0.27, 0.24)]
    parts += [ellipse(muzzle_x, head_y + 0.07, 0.23, 0.13, 8.0)]
    for x in (-half + 0.12, half - 0.2):
        parts.append(limb([(x, 0.05), (x + 0.02, 0.5), (x + 0.02, foot)], leg * 1.25, leg))
    s.union(parts, s.body)
    if s.chance(0.5):
        s.spots(0.0, 0.02, half, depth, int(s.rng.integers(1, 5)), s.second)
    if s.chance(0.5):
        s.fill(ellipse(muzzle_x + 0.02, head_y + 0.08, 0.17, 0.09, 8.0), lighter(s.body), False)
    if s.chance(0.6):
        collar = [(head_x - 0.24, head_y + 0.22), (head_x + 0.12, head_y + 0.32)]
        s.line(polygon(collar), s.accent, 0.08)
    if s.chance(0.5):
        s.fill(ellipse(muzzle_x + 0.05, head_y + 0.24, 0.06, 0.11), PINK)
    ear = s.second if s.chance(0.4) else darker(s.body, 0.35)
    s.fill(
        ellipse(head_x - 0.16, head_y + 0.1, 0.11, s.uniform(0.2, 0.32), s.uniform(0.0, 22.0)), ear
    )
    s.fill(ellipse(muzzle_x + 0.2, head_y + 0.02, 0.07, 0.06), BLACK, False)
    s.eye(head_x + 0.1, head_y - 0.06, 0.065)


def cat(s: Sketch) -> None:
    s.typical((228, 148, 70), (120, 118, 118), (40, 38, 40))
    wide, head_y, r = s.uniform(0.36, 0.5), -s.uniform(0.36, 0.46), s.uniform(0.34, 0.42)
    ear, side = s.uniform(0.24, 0.38), s.uniform(0.62, 0.82)
    tail = [
        (wide - 0.15, 0.75),
        (side, 0.72),
        (side + 0.1, 0.3),
        (side - 0.08, s.uniform(-0.2, 0.0)),
    ]
    torso = [(-0.22, -0.2), (0.22, -0.2), (wide, 0.55), (wide - 0.1, 0.88), (-wide + 0.1, 0.88)]
    ears = [
        polygon(
            [(x * r, head_y - 0.55 * r), (x * 0.85 * r, head_y - r - ear), (x * 0.12, head_y - r)]
        )
        for x in (-1.0, 1.0)
    ]
    head = ellipse(0.0, head_y, r * 1.1, r * 0.92)
    s.union([limb(tail, 0.16, 0.1), blob([*torso, (-wide, 0.55)]), *ears, head], s.body)
    if s.chance(0.5):
        s.fill(ellipse(0.0, 0.3, 0.17, 0.34), lighter(s.body, 0.5), False)
    if s.chance(0.55):
        for i in range(3):
            y = 0.1 + 0.2 * i
            for x in (-1.0, 1.0):
                s.line(polygon([(x * wide * 0.85, y + 0.1), (x * 0.17, y + 0.03)]), s.second, 0.06)
        for x in (-0.12, 0.0, 0.12):
            s.line(polygon([(x, head_y - 0.85 * r), (x, head_y - 0.45 * r)]), s.second, 0.05)
    for x in (-1.0, 1.0):
        inner = [(x * 0.8 * r, head_y - 0.75 * r), (x * 0.8 * r, head_y - r - 0.6 * ear)]
        s.fill(polygon([*inner, (x * 0.4 * r, head_y - 0.95 * r)]), PINK, False)
        s.fill(ellipse(x * 0.17, 0.84, 0.15, 0.1), lighter(s.body, 0.15))
        s.line(polygon([(x * 0.04, 0.35), (x * 0.05, 0.75)]), s.edge)
        iris = s.accent if s.chance(0.5) else (210, 200, 90)
        s.fill(ellipse(x * 0.45 * r, head_y - 0.03, 0.1, 0.085), iris)
        s.fill(ellipse(x * 0.45 * r, head_y - 0.03, 0.03, 0.08), BLACK, False)
        for dy in (-0.04, 0.04):
            whisker = [
                (x * 0.12, head_y + 0.16 + dy / 3.0),
                (x * (r + 0.24), head_y + 0.14 + 2 * dy),
            ]
            s.line(polygon(whisker), s.edge, 0.02)
    s.fill(polygon([(-0.06, head_y + 0.1), (0.06, head_y + 0.1), (0.0, head_y + 0.17)]), PINK)
    s.line(curve([(-0.1, head_y + 0.22), (0.0, head_y + 0.17), (0.1, head_y + 0.22)]), s.edge)


def bird(s: Sketch) -> None:
    s.typical((80, 140, 210), (200, 70, 60), (120, 96, 76))
    tilt, rx, ry = s.uniform(-30.0, -12.0), s.uniform(0.5, 0.62), s.uniform(0.3, 0.4)
    head_x, head_y, r = s.uniform(0.42, 0.52), -s.uniform(0.38, 0.5), s.uniform(0.22, 0.28)
    for x in (-0.05, 0.14):
        s.line(polygon([(x, 0.3), (x + 0.04, 0.78)]), darker(s.accent), 0.05)
        foot = [(x - 0.08, 0.84), (x + 0.04, 0.78), (x + 0.18, 0.82)]
        s.line(polygon(foot), darker(s.accent), 0.05)
    tail_y = s.uniform(0.3, 0.5)
    tail = [(-0.35, 0.08), (-1.05, tail_y - 0.15), (-1.0, tail_y + 0.15), (-0.3, 0.34)]
    s.fill(polygon(tail), darker(s.body))
    beak = s.uniform(0.24, 0.42)
    gold = (240, 170, 50) if s.chance(0.4) else s.accent
    bill = [(head_x + 0.12, head_y - 0.1), (head_x + r + beak, head_y + 0.06)]
    s.fill(polygon([*bill, (head_x + 0.12, head_y + 0.14)]), gold)
    if s.chance(0.4):
        crest = [(head_x - 0.15, head_y - 0.1), (head_x - 0.3, head_y - 0.4)]
        s.fill(polygon([*crest, (head_x + 0.08, head_y - 0.18)]), s.second)
    s.union([ellipse(0.0, 0.05, rx, ry, tilt), ellipse(head_x, head_y, r, r)], s.body)
    s.fill(ellipse(0.2, 0.12, 0.26, 0.2, tilt), lighter(s.body, 0.45), False)
    wing_y = s.uniform(0.25, 0.4)
    wing = [(0.22, -0.08), (0.0, -0.2), (-0.4, 0.0), (-0.75, wing_y), (-0.3, 0.3), (0.1, 0.2)]
    s.fill(blob(wing), s.second)
    for t in (0.0, 0.12):
        s.line(
            curve([(0.1, 0.02 + t), (-0.2, 0.06 + t), (-0.45, 0.12 + t)]), darker(s.second), 0.03
        )
    s.eye(head_x + 0.07, head_y - 0.05, 0.07)


def cow(s: Sketch) -> None:
    s.typical(WHITE, (150, 92, 56), (44, 40, 40))
    half, top, belly = s.uniform(0.62, 0.75), -s.uniform(0.3, 0.4), s.uniform(0.26, 0.36)
    leg, foot, far = s.uniform(0.16, 0.21), s.uniform(0.66, 0.8), darker(s.body)
    head_x, head_y = half + 0.24, top + s.uniform(0.0, 0.2)
    for x in (-half + 0.34, half - 0.06):
        s.fill(box(x - leg / 2.0, 0.1, x + leg / 2.0, foot - 0.05), far)
    s.line(curve([(-half, top + 0.12), (-half - 0.16, 0.0), (-half - 0.14, 0.32)]), s.edge, 0.06)
    s.fill(ellipse(-half - 0.14, 0.38, 0.06, 0.12), s.second)
    s.fill(ellipse(-half + 0.5, belly + 0.03, 0.17, 0.12), PINK)
    torso = box(-half, top, half, belly, 0.18)
    parts = [
        torso,
        polygon([(half - 0.2, top), (head_x, head_y - 0.16), (head_x, 0.16), (half - 0.1, 0.2)]),
    ]
    for x in (-half + 0.13, half - 0.26):
        parts.append(box(x - leg / 2.0, 0.1, x + leg / 2.0, foot))
    s.union(parts, s.body)
    for x in (-half + 0.13, half - 0.26):
        s.fill(box(x - leg / 2.0, foot - 0.1, x + leg / 2.0, foot), BLACK, False)
    for x in (-0.6, -0.05, 0.5):
        if s.chance(0.8):
            px, py, size = (
                x * half + s.uniform(-0.08, 0.08),
                s.uniform(-0.15, 0.1),
                s.uniform(0.1, 0.18),
            )
            patch = [(px + size * math.cos(a) * s.uniform(0.8, 1.5), py + size * math.sin(a))
                     for a in (0.3, 1.4, 2.5, 3.6, 4.9)]  # fmt: skip
            s.fill(blob(patch), s.second, False)
    horn, rise = (236, 226, 196), s.uniform(0.18, 0.34)
    for x in (-1.0, 1.0):
        tip = [(head_x + x * 0.12, head_y - 0.2), (head_x + x * 0.3, head_y - 0.26)]
        s.fill(limb([*tip, (head_x + x * 0.33, head_y - 0.26 - rise)], 0.1, 0.03), horn)
        s.fill(ellipse(head_x + x * 0.3, head_y - 0.06, 0.15, 0.07, x * 20.0), darker(s.body))
    face = [(-0.2, -0.22), (0.2, -0.22), (0.17, 0.12), (0.18, 0.4), (-0.18, 0.4), (-0.17, 0.12)]
    s.fill(blob([(head_x + x, head_y + y) for x, y in face]), s.body)
    s.fill(ellipse(head_x, head_y + 0.33, 0.23, 0.15), PINK if s.chance(0.6) else lighter(s.body))
    for x in (-1.0, 1.0):
        s.fill(ellipse(head_x + x * 0.09, head_y + 0.32, 0.035, 0.045), darker(PINK, 0.6), False)
        s.eye(head_x + x * 0.1, head_y - 0.03, 0.055, 0.0)


def frog(s: Sketch) -> None:
    s.typical((90, 170, 70), (60, 130, 80), (160, 190, 70))
    wide, eye, eye_x = s.uniform(0.5, 0.62), s.uniform(0.17, 0.23), s.uniform(0.28, 0.36)
    top = -s.uniform(0.2, 0.3)
    for x in (-1.0, 1.0):
        knee = s.uniform(0.82, 0.98)
        thigh = [(x * 0.3, 0.45), (x * knee, 0.02), (x * (knee - 0.06), 0.5)]
        s.fill(blob(thigh), darker(s.body, 0.15))
        foot = [
            (x * 0.62, 0.5),
            (x * 0.66, 0.68),
            (x * 1.08, 0.7),
            (x * 0.95, 0.6),
            (x * 1.1, 0.54),
        ]
        s.fill(polygon([*foot, (x * 0.92, 0.5)]), darker(s.body, 0.15))
    torso = [
        (-0.36, top),
        (0.36, top),
        (wide, 0.1),
        (wide - 0.08, 0.5),
        (0.0, 0.66),
        (-wide + 0.08, 0.5),
    ]
    bumps = [ellipse(x * eye_x, top - 0.06, eye * 1.2, eye * 1.2) for x in (-1.0, 1.0)]
    s.union([blob([*torso, (-wide, 0.1)]), *bumps], s.body)
    s.fill(ellipse(0.0, 0.42, 0.32, 0.2), lighter(s.body, 0.5), False)
    if s.chance(0.6):
        s.spots(0.0, -0.08, wide * 0.8, 0.14, int(s.rng.integers(2, 6)), darker(s.body, 0.35))
    smile = s.uniform(0.08, 0.16)
    mouth = [(-wide + 0.1, 0.08), (-0.2, 0.08 + smile), (0.2, 0.08 + smile), (wide - 0.1, 0.08)]
    s.line(curve(mouth), s.edge, 0.055)
    for x in (-1.0, 1.0):
        s.fill(ellipse(x * 0.05, -0.02, 0.018, 0.018), s.edge, False)
        s.fill(limb([(x * 0.26, 0.36), (x * 0.34, 0.55), (x * 0.3, 0.72)], 0.16, 0.12), s.body)
        toes = [
            (x * 0.2, 0.72),
            (x * 0.1, 0.82),
            (x * 0.3, 0.79),
            (x * 0.5, 0.82),
            (x * 0.38, 0.7),
        ]
        s.fill(polygon(toes), s.body)
        s.fill(ellipse(x * eye_x, top - 0.08, eye * 0.9, eye * 0.9), WHITE)
        s.fill(ellipse(x * eye_x, top - 0.08, eye * 0.62, eye * 0.34), BLACK, False)


def bee(s: Sketch) -> None:
    s.typical((244, 200, 50), (236, 168, 40), (250, 220, 110))
    rx, ry, stripes = s.uniform(0.52, 0.64), s.uniform(0.3, 0.38), int(s.rng.integers(2, 5))
    dark = BLACK if sum(s.body) > 250 else WHITE
    s.fill(polygon([(-rx + 0.06, 0.02), (-rx - 0.24, 0.14), (-rx + 0.06, 0.26)]), dark)
    wing = mix(WHITE, (170, 210, 240), s.uniform(0.0, 1.0))
    length = s.uniform(0.32, 0.44)
    s.fill(ellipse(-0.26, -0.46, 0.19, length * 0.9, s.uniform(-50.0, -30.0)), darker(wing, 0.12))
    s.fill(ellipse(0.08, -0.52, 0.22, length, s.uniform(-16.0, 12.0)), wing)
    for x in (-0.2, 0.05, 0.3):
        s.line(polygon([(x, 0.38), (x - 0.06, 0.6)]), s.edge, 0.05)
    s.fill(ellipse(0.0, 0.15, rx, ry), s.body, False)
    for i in range(stripes):
        t0 = -0.78 + 1.25 * (i + 0.15) / stripes
        t1 = t0 + 0.62 / stripes
        top = [(rx * t, 0.15 - ry * math.sqrt(1 - t * t)) for t in (t0, (t0 + t1) / 2.0, t1)]
        low = [(x, 0.3 - y) for x, y in reversed(top)]
        s.fill(polygon(top + low), dark, False)
    rim = ellipse(0.0, 0.15, rx, ry)
    s.line(np.concatenate((rim, rim[:1])), s.edge)
    head_x, r = rx + 0.06, s.uniform(0.23, 0.29)
    for x in (-0.02, 0.14):
        tip = (head_x + x + 0.16, -s.uniform(0.34, 0.46))
        s.line(curve([(head_x + x, -0.06), (head_x + x + 0.03, -0.25), tip]), s.edge, 0.045)
        s.fill(ellipse(*tip, 0.05, 0.05), s.edge, False)
    s.fill(ellipse(head_x, 0.12, r, r), s.body if s.chance(0.5) else dark)
    s.eye(head_x + 0.08, 0.06, 0.095)
    mouth = [(head_x + 0.02, 0.22), (head_x + 0.1, 0.27), (head_x + 0.18, 0.22)]
    s.line(curve(mouth), PINK, 0.045)


def baby(s: Sketch) -> None:
    skin = SKIN_TONES[s.rng.integers(len(SKIN_TONES))]
    clothes, s.edge = s.body, darker(skin, 0.7)
    r, head_y = s.uniform(0.38, 0.45), -0.42
    reach, hand_y = s.uniform(0.55, 0.72), s.uniform(-0.12, 0.35)
    for x in (-1.0, 1.0):
        s.fill(limb([(x * 0.2, 0.12), (x * 0.42, 0.2), (x * reach, hand_y)], 0.24, 0.18), clothes)
        s.fill(ellipse(x * (reach + 0.04), hand_y, 0.11, 0.11), skin)
    s.fill(
        blob([(-0.24, -0.1), (0.24, -0.1), (0.38, 0.5), (0.2, 0.72), (-0.2, 0.72), (-0.38, 0.5)]),
        clothes,
    )
    if s.chance(0.5):
        s.fill(blob([(-0.34, 0.45), (0.34, 0.45), (0.2, 0.76), (-0.2, 0.76)]), WHITE)
    else:
        for y in (0.15, 0.32):
            s.fill(ellipse(0.0, y, 0.04, 0.04), s.accent, False)
    for x in (-1.0, 1.0):
        s.fill(limb([(x * 0.22, 0.6), (x * 0.5, 0.66), (x * 0.66, 0.74)], 0.26, 0.2), skin)
        s.fill(ellipse(x * 0.74, 0.68, 0.12, 0.17, x * 15.0), skin)
        s.fill(ellipse(x * r * 1.02, head_y + 0.04, 0.09, 0.11), skin)
    s.fill(ellipse(0.0, head_y, r * 1.05, r), skin)
    hair = (60, 40, 30) if s.chance(0.5) else (226, 186, 110)
    if s.chance(0.7):
        tuft = [(-0.04, head_y - r + 0.03), (0.02, head_y - r - 0.12), (0.12, head_y - r - 0.08)]
        s.line(curve(tuft), hair, 0.06)
    else:
        s.fill(
            blob(
                [
                    (-r * 0.9, head_y - 0.2),
                    (0.0, head_y - r - 0.06),
                    (r * 0.9, head_y - 0.2),
                    (0.0, head_y - 0.3),
                ]
            ),
            s.accent,
        )
    for x in (-1.0, 1.0):
        s.fill(ellipse(x * 0.25, head_y + 0.12, 0.09, 0.06), mix(skin, (240, 90, 90), 0.4), False)
        s.fill(ellipse(x * 0.16, head_y - 0.02, 0.055, 0.07), BLACK, False)
        s.fill(ellipse(x * 0.16 + 0.02, head_y - 0.04, 0.018, 0.018), WHITE, False)
    if s.chance(0.5):
        s.fill(ellipse(0.0, head_y + 0.2, 0.13, 0.09), s.accent)
        s.fill(ellipse(0.0, head_y + 0.2, 0.05, 0.05), lighter(s.accent))
    else:
        s.fill(ellipse(0.0, head_y + 0.2, 0.1, s.uniform(0.04, 0.1)), (150, 50, 60))
