"""A tree of regions: neighbours that look alike and share a weak border are joined first.

The grouping of selective search (Uijlings et al. 2013) with the border between two regions beside
their colours, as contour hierarchies have it (Arbelaez et al. 2011).
"""

from __future__ import annotations

import heapq

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

NUM_BINS = 16
LAB_RANGE = ((0.0, 100.0), (-60.0, 60.0), (-60.0, 60.0))
COLOUR_WEIGHT = 60.0
"""Of the distance between two histograms, in [0, 1], beside the border's L*a*b* per pixel."""
SIZE_POWER = 0.25
"""Small regions join sooner: by this power of the smaller one's share of the picture."""
# A logistic fit of "is a thing" (IoU above 1/2) on 24 drawn and 20 photographed scenes of the
# validation parts. Things there have one size and never touch the picture's edge, so the weights
# of both are set to a fraction of what the fit gave: a half and a fifth.
CONTRAST, LIFE, SIZE, EDGE, BIAS = 3.6, 1.4, -0.8, -10.0, -13.0
TYPICAL_SHARE = 0.045
"""Of the picture, of a thing: where the size counts most."""

Border = dict[int, tuple[float, float]]
"""Neighbour -> length of the common border in pixels, and the sum of the gradient along it."""


class RegionTree:
    """Segments joined two by two until one is left: 2n - 1 nested regions, the n leaves first."""

    def __init__(
        self,
        labels: Int[np.ndarray, "h w"],
        lab: Float32[np.ndarray, "h w 3"],
        gradient: Float32[np.ndarray, "h w"],
    ) -> None:
        self.labels = labels
        num = self.num_leaves = int(labels.max()) + 1
        size = 2 * num - 1
        outermost = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        self.histogram = np.zeros((size, 3 * NUM_BINS), np.float32)
        self.histogram[:num] = histograms(labels.ravel(), lab.reshape(-1, 3), num)
        self.parent = np.arange(size)
        self.height = np.zeros(size)
        """What it cost to join a region's two parts."""
        self.leaves: list[Int[np.ndarray, " _"]] = [np.array([leaf]) for leaf in range(num)]
        area = np.bincount(labels.ravel(), minlength=num).tolist()
        edge = np.bincount(outermost, minlength=num).tolist()
        outlines = self._join(borders(labels, gradient), area, edge)
        self.area, self.edge = np.array(area, float), np.array(edge, float)
        """Pixels of a region, and those of them at the picture's edge."""
        self.perimeter, sums = np.array(outlines).T
        self.contrast = sums / np.maximum(self.perimeter, 1.0)

    def _join(
        self, around: list[Border], area: list[int], edge: list[int]
    ) -> list[tuple[float, float]]:
        """Append what is joined to all three; returns each region's border with all neighbours."""
        # Plain numbers in lists: a region has half a dozen neighbours, too few for arrays to pay.
        outlines = [outline(border) for border in around]
        pairs = [(old, new) for new, border in enumerate(around) for old in border if old < new]
        weight = [(one / self.labels.size) ** SIZE_POWER for one in area]

        def unlike(one: np.ndarray, two: np.ndarray | int) -> list[float]:
            """How far apart the colours of regions are, as part of what it costs to join them."""
            apart = self.histogram.take(one, axis=0) - self.histogram.take(two, axis=0)
            np.abs(apart, out=apart)
            return (COLOUR_WEIGHT / 6.0 * np.add.reduce(apart, axis=1)).tolist()

        def cost_of(shared: tuple[float, float], colour: float, old: int, new: int) -> float:
            return (shared[1] / shared[0] + colour) * min(weight[old], weight[new])

        queue = []
        if pairs:
            for (old, new), colour in zip(pairs, unlike(*np.array(pairs).T), strict=True):
                queue.append((cost_of(around[new][old], colour, old, new), old, new))
            heapq.heapify(queue)
        is_whole = [True] * self.num_leaves
        for new in range(self.num_leaves, len(self.parent)):
            cost, one, two = heapq.heappop(queue)
            while not (is_whole[one] and is_whole[two]):
                cost, one, two = heapq.heappop(queue)
            is_whole[one] = is_whole[two] = False
            is_whole.append(True)
            self.parent[one] = self.parent[two] = new
            self.height[new] = cost
            area.append(area[one] + area[two])
            edge.append(edge[one] + edge[two])
            share = area[one] / area[new]
            self.histogram[new] = share * self.histogram[one] + (1.0 - share) * self.histogram[two]
            self.leaves.append(np.concatenate([self.leaves[one], self.leaves[two]]))
            border = around[one]
            del border[two], around[two][one]
            for other in border:
                del around[other][one]
            for other, (length, total) in around[two].items():
                known = border.get(other, (0.0, 0.0))
                border[other] = (known[0] + length, known[1] + total)
                del around[other][two]
            weight.append((area[new] / self.labels.size) ** SIZE_POWER)
            around.append(border)
            outlines.append(outline(border))
            colours = unlike(np.array([*border], np.int64), new)
            for (other, shared), colour in zip(border.items(), colours, strict=True):
                around[other][new] = shared
                heapq.heappush(queue, (cost_of(shared, colour, other, new), other, new))
        return outlines

    def saliency(self) -> Float32[np.ndarray, " n"]:
        """How far each region stands out, in [0, 1].

        By the gradient along its border, by what it costs to lose it in a larger one, by a size
        that things have, and by how much of its outline is the picture's edge.
        """
        share = np.maximum(self.area, 1.0) / self.labels.size
        logit = BIAS + CONTRAST * np.log(self.contrast + 0.1)
        logit += LIFE * np.log(self.height[self.parent] + 1e-3)
        logit += SIZE * np.log(share / TYPICAL_SHARE) ** 2
        logit += EDGE * self.edge / np.maximum(self.edge + self.perimeter, 1.0)
        return (1.0 / (1.0 + np.exp(-np.clip(logit, -60.0, 60.0)))).astype(np.float32)

    def masks(self, numbers: Int[np.ndarray, " m"]) -> Bool[np.ndarray, "m h w"]:
        """Where these regions lie."""
        return self.members(numbers)[:, self.labels]

    def members(self, numbers: Int[np.ndarray, " m"]) -> Bool[np.ndarray, "m n"]:
        """Which segments these regions are made of."""
        member = np.zeros((len(numbers), self.num_leaves), bool)
        for row, number in zip(member, numbers, strict=True):
            row[self.leaves[number]] = True
        return member


def outline(border: Border) -> tuple[float, float]:
    """Length of a region's border with all its neighbours, and the sum of the gradient there."""
    lengths = totals = 0.0
    for length, total in border.values():
        lengths += length
        totals += total
    return lengths, totals


def histograms(
    labels: Int[np.ndarray, " p"], lab: Float32[np.ndarray, "p 3"], num: int
) -> Float[np.ndarray, "num 48"]:
    """Of each segment one histogram a channel, each with a sum of 1, linear between bins."""
    parts = []
    for values, (low, high) in zip(lab.T, LAB_RANGE, strict=True):
        place = np.clip((values - low) / (high - low), 0.0, 1.0) * (NUM_BINS - 1)
        lower = np.minimum(place.astype(np.int64), NUM_BINS - 2)
        upper_share = place - lower
        counts = np.bincount(labels * NUM_BINS + lower, 1.0 - upper_share, num * NUM_BINS)
        counts += np.bincount(labels * NUM_BINS + lower + 1, upper_share, num * NUM_BINS)
        parts.append(counts.reshape(num, NUM_BINS))
    sizes = np.bincount(labels, minlength=num)[:, None]
    return np.concatenate(parts, axis=1) / sizes


def borders(labels: Int[np.ndarray, "h w"], gradient: Float32[np.ndarray, "h w"]) -> list[Border]:
    """Of each segment its neighbours, by pairs of touching pixels (four to a pixel)."""
    num = int(labels.max()) + 1
    keys, strengths = [], []
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        differ = labels[first] != labels[second]
        one, other = labels[first][differ], labels[second][differ]
        keys.append(np.minimum(one, other) * num + np.maximum(one, other))
        strengths.append(np.maximum(gradient[first], gradient[second])[differ])
    pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    lengths = np.bincount(inverse)
    sums = np.bincount(inverse, np.concatenate(strengths))
    around: list[Border] = [{} for _ in range(num)]
    for pair, length, total in zip(pairs.tolist(), lengths.tolist(), sums.tolist(), strict=True):
        one, other = divmod(pair, num)
        around[one][other] = around[other][one] = (float(length), float(total))
    return around
