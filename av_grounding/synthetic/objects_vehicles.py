"""Sketches of vehicles in unit coordinates (y down)."""

from __future__ import annotations

from av_grounding.synthetic.drawing import (
    BRASS,
    GLASS,
    WHITE,
    WOOD,
    Colour,
    Sketch,
    blob,
    box,
    darker,
    ellipse,
    lighter,
    polygon,
)


def _wheel(s: Sketch, x: float, y: float, radius: float, hub: Colour) -> None:
    s.fill(ellipse(x, y, radius, radius), (40, 40, 44))
    s.fill(ellipse(x, y, 0.58 * radius, 0.58 * radius), hub, False)
    s.fill(ellipse(x, y, 0.2 * radius, 0.2 * radius), (60, 60, 64), False)


def car(s: Sketch) -> None:
    wheel, roof = s.uniform(0.19, 0.25), -s.uniform(0.36, 0.5)
    front, back = s.uniform(0.3, 0.5), -s.uniform(0.5, 0.85)
    hood, deck = s.uniform(-0.08, 0.02), s.uniform(-0.08, 0.0)
    shell = [(-0.98, 0.32), (-1.0, deck + 0.03), (-0.9, deck), (back, deck - 0.02)]
    shell += [(back + 0.18, roof), (front - 0.32, roof), (front, hood - 0.02)]
    shell += [(0.85, hood + 0.06), (1.0, 0.12), (1.0, 0.32)]
    s.fill(polygon(shell), s.body)
    middle = (back + front) / 2 - 0.02
    rear = [(back + 0.08, deck - 0.04), (back + 0.22, roof + 0.07), (middle - 0.03, roof + 0.07)]
    s.fill(polygon([*rear, (middle - 0.03, deck - 0.04)]), GLASS)
    ahead = [
        (middle + 0.04, hood - 0.03),
        (middle + 0.04, roof + 0.07),
        (front - 0.35, roof + 0.07),
    ]
    s.fill(polygon([*ahead, (front - 0.1, hood - 0.03)]), GLASS)
    s.fill(box(-0.98, 0.2, 0.98, 0.32), s.second if s.chance(0.4) else darker(s.body), False)
    s.line(polygon([(middle, roof + 0.05), (middle, 0.3)]), s.edge, 0.03)
    s.line(polygon([(middle + 0.08, 0.04), (middle + 0.2, 0.04)]), s.edge, 0.045)
    s.fill(ellipse(0.93, 0.12, 0.06, 0.07), (252, 236, 150))
    s.fill(box(-1.0, 0.06, -0.91, 0.17), (216, 50, 44))
    hub = lighter(s.accent, 0.4)
    for x in (-s.uniform(0.52, 0.6), s.uniform(0.55, 0.63)):
        s.fill(ellipse(x, 0.3, wheel + 0.05, wheel + 0.05), darker(s.body, 0.6), False)
        _wheel(s, x, 0.34, wheel, hub)


def train(s: Sketch) -> None:
    boiler_y, cab, chimney = -s.uniform(0.28, 0.38), s.uniform(0.4, 0.52), s.uniform(0.09, 0.13)
    if s.chance(0.5):
        for i, r in enumerate((0.09, 0.13, 0.17)):
            s.fill(ellipse(0.58 - 0.2 * i, -0.92 - 0.1 * i, r * 1.3, r), (226, 226, 230))
    x = s.uniform(0.52, 0.66)
    stack = [(x - chimney, boiler_y), (x - chimney * 0.9, -0.62), (x - 2 * chimney, -0.82)]
    stack += [(x + 2 * chimney, -0.82), (x + chimney * 0.9, -0.62), (x + chimney, boiler_y)]
    s.fill(polygon(stack), s.second)
    s.fill(
        blob([(-0.1, boiler_y), (0.0, boiler_y - 0.2), (0.15, boiler_y - 0.2), (0.25, boiler_y)]),
        BRASS if s.chance(0.5) else s.accent,
    )
    s.fill(box(-0.5, boiler_y, 0.86, 0.2, 0.08), s.body)
    for band in (-0.05, 0.3, 0.62):
        s.line(polygon([(band, boiler_y + 0.01), (band, 0.19)]), s.accent, 0.055)
    s.fill(ellipse(0.87, (boiler_y + 0.2) / 2.0, 0.07, 0.25), darker(s.body, 0.4))
    s.fill(box(-0.95, -0.62, -0.95 + cab, 0.24), s.body)
    s.fill(box(-1.03, -0.74, -0.87 + cab, -0.6, 0.05), s.second)
    s.fill(box(-0.86, -0.5, -1.04 + cab, -0.14), GLASS)
    s.fill(box(-0.98, 0.18, 0.92, 0.34), darker(s.second, 0.3))
    s.fill(polygon([(0.84, 0.28), (1.12, 0.66), (0.74, 0.66)]), s.accent)
    hub, big = s.accent, s.uniform(0.22, 0.27)
    _wheel(s, -0.66, 0.66 - big, big, hub)
    _wheel(s, -0.16, 0.66 - big, big, hub)
    for x in (0.26, 0.6):
        _wheel(s, x, 0.5, 0.16, hub)
    rod = [(-0.66, 0.66 - big), (-0.16, 0.66 - big), (0.26, 0.48)]
    s.line(polygon(rod), (150, 150, 156), 0.06)


def airplane(s: Sketch) -> None:
    fat, fin, sweep = s.uniform(0.15, 0.2), s.uniform(0.36, 0.5), s.uniform(0.3, 0.5)
    far = [(0.12, -0.08), (-0.14, -0.5), (-0.32, -0.52), (-0.2, -0.06)]
    s.fill(polygon(far), darker(s.second, 0.2))
    tail = [(-0.62, -0.08), (-0.86, -0.1 - fin), (-1.06, -0.1 - fin), (-0.96, -0.04)]
    s.fill(polygon(tail), s.second)
    hull = [(1.0, 0.04), (0.84, -0.1), (0.5, -fat), (-0.5, -fat + 0.02), (-1.02, -0.1)]
    s.fill(
        blob([*hull, (-0.98, 0.02), (-0.5, fat), (0.5, fat + 0.02), (0.88, fat - 0.03)]), s.body
    )
    if s.chance(0.6):
        s.line(polygon([(-0.94, 0.05), (0.9, 0.08)]), s.accent, 0.06)
    s.fill(polygon([(0.66, -0.11), (0.78, -0.1), (0.88, -0.01), (0.66, -0.01)]), GLASS)
    num_windows = int(s.rng.integers(5, 9))
    for i in range(num_windows):
        x = -0.55 + 1.08 * i / (num_windows - 1.0)
        s.fill(ellipse(x, -0.05, 0.042, 0.05), (60, 90, 130), False)
    engine_y = 0.1 + 0.55 * sweep
    s.fill(box(-0.12, engine_y, 0.22, engine_y + 0.14, 0.06), darker(s.body))
    wing = [(0.3, 0.08), (-0.32, 0.2 + sweep), (-0.58, 0.22 + sweep), (-0.22, 0.1)]
    s.fill(polygon(wing), s.second)
    stab = [(-0.68, 0.0), (-1.02, 0.22), (-1.16, 0.22), (-0.94, 0.0)]
    s.fill(polygon(stab), darker(s.second, 0.1))


def boat(s: Sketch) -> None:
    mast_x, top, deck = s.uniform(-0.1, 0.08), -s.uniform(0.85, 1.05), s.uniform(0.34, 0.42)
    bow, keel = s.uniform(0.8, 0.95), s.uniform(0.72, 0.86)
    s.fill(box(mast_x - 0.03, top, mast_x + 0.03, deck + 0.02), WOOD)
    sail = s.second if s.chance(0.5) else WHITE
    belly = s.uniform(0.02, 0.14)
    main = [(mast_x + 0.06, top + 0.1), (mast_x + 0.4 + belly, -0.3), (mast_x + 0.72, deck - 0.12)]
    s.fill(polygon([*main, (mast_x + 0.06, deck - 0.1)]), sail)
    jib = [(mast_x - 0.07, top + 0.25), (mast_x - 0.07, deck - 0.1), (-0.74, deck - 0.1)]
    s.fill(polygon(jib), s.accent if s.chance(0.5) else darker(sail, 0.15))
    if s.chance(0.5):
        for y in (-0.35, -0.05):
            s.line(
                polygon([(mast_x + 0.08, y), (mast_x + 0.45 + 0.5 * (y + 0.35), y)]),
                s.accent,
                0.05,
            )
    flag = [(mast_x, top), (mast_x - 0.24, top + 0.07), (mast_x, top + 0.14)]
    s.fill(polygon(flag), s.accent)
    hull = [(-0.88, deck), (bow + 0.1, deck - 0.06), (bow - 0.28, keel), (-0.6, keel)]
    s.fill(polygon(hull), s.body)
    s.line(polygon([(-0.82, deck + 0.12), (bow - 0.02, deck + 0.1)]), s.second, 0.07)
    if s.chance(0.6):
        for x in (-0.4, -0.05, 0.3):
            s.fill(ellipse(x, deck + 0.25, 0.055, 0.055), GLASS)
