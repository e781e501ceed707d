"""Where the boxes and arrows of a graph go: in layers from top to bottom, with few crossings and straight ways.

As in Sugiyama, Tagawa and Toda 1981 and Gansner et al. 1993: layers by longest paths, their order by sweeps of
barycenters, positions by the linear program that makes the ways straight. Between two layers of boxes lies a row of
labels; an arrow has a slot in every row that it passes, so that nothing is ever drawn over a box or a label.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array

Point = tuple[float, float]

# all lengths are in inches
LANE = 0.13  # half of the width that an arrow takes where it has no label
APART = 0.22  # between slots of a row
PORTS = 0.22  # between arrows that meet the same side of a box
STUB = 0.06  # above and below a box
GAP = 0.12  # between rows, at least
TRACK = 0.16  # more of it for each height at which arrows go sideways there
SWEEPS = 12


@dataclass(frozen=True)
class Way:
    """An arrow from `source` to `target`, both indices of boxes, with the size of its label."""

    source: int
    target: int
    label: tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Positions with y pointing down; the corner at the top left is (0, 0).

    Attributes
    ----------
    width, height : float
    boxes : list of (x, y, width, height)
        With the middle (x, y).
    ways : list of lists of points
        The corners of each arrow, from one box to the other: lines down and lines sideways in turn, in which those
        sideways may have no length.
    labels : list of points
        On the way, at half the height of the label, which begins to the right of it.
    """

    width: float
    height: float
    boxes: list[tuple[float, float, float, float]]
    ways: list[list[Point]]
    labels: list[Point]


@dataclass(eq=False)
class _Slot:
    """A place in a row: a box, or an arrow that passes. `left` and `right` are counted from x."""

    left: float
    right: float
    height: float
    box: bool
    above: list[_Slot] = field(default_factory=list)
    below: list[_Slot] = field(default_factory=list)
    weight: float = 0.0  # of its pieces' lengths
    place: int = 0  # in the order of its row
    x: float = 0.0


def arrange(sizes: Sequence[tuple[float, float]], ways: Sequence[Way]) -> Layout:
    """Return the layout of boxes of these (widths, heights), each of which stands after the sources of its arrows."""
    boxes = [_Slot(width / 2, width / 2, height + 2 * STUB, True) for width, height in sizes]
    rows, lanes = _rows(boxes, ways)
    for box in boxes:
        room = PORTS * (max(len(box.above), len(box.below)) / 2 + 1)  # one more, so that a straight way stays straight
        box.left = box.right = max(box.left, room)
    rows = _uncrossed(rows)
    _straighten(rows)
    ports = _ports(boxes, ways, lanes)
    xs = [[start, *(slot.x for slot in slots), end] for slots, (start, end) in zip(lanes, ports, strict=True)]
    tracks, gaps = _tracks(rows, lanes, xs)

    tops = [0.0]
    for row, gap in zip(rows, gaps, strict=True):
        tops.append(tops[-1] + max(slot.height for slot in row) + gap)
    bottoms = [below - gap for below, gap in zip(tops[1:], gaps, strict=True)]
    middles = {slot: (top + bottom) / 2 for row, top, bottom in zip(rows, tops, bottoms, strict=False) for slot in row}
    points: list[list[Point]] = []
    for way, x, lines in zip(ways, xs, tracks, strict=True):
        y = [middles[boxes[way.source]] + sizes[way.source][1] / 2]
        for r, track in lines:
            y += 2 * [bottoms[r] + GAP / 2 + (track + 0.5) * TRACK]
        y.append(middles[boxes[way.target]] - sizes[way.target][1] / 2)
        points.append(list(zip(np.repeat(x, 2).tolist(), y, strict=True)))
    return Layout(
        max(slot.x + slot.right for slot in middles),
        bottoms[-1],
        [(box.x, middles[box], 2 * box.left, height) for box, (_, height) in zip(boxes, sizes, strict=True)],
        points,
        [(slots[-1].x, middles[slots[-1]]) for slots in lanes],
    )


def _rows(boxes: list[_Slot], ways: Sequence[Way]) -> tuple[list[list[_Slot]], list[list[_Slot]]]:
    """Return the rows from top to bottom, with boxes in every second, and the slots of each way, linked."""
    into: list[list[int]] = [[] for _ in boxes]
    out_of: list[list[int]] = [[] for _ in boxes]
    layer = [0] * len(boxes)
    for i, way in sorted(enumerate(ways), key=lambda numbered: numbered[1].target):
        into[way.target].append(i)
        out_of[way.source].append(i)
        layer[way.target] = max(layer[way.target], layer[way.source] + 1)
    for box, uses in enumerate(out_of):
        if uses and not into[box]:  # a leaf stands beside the op that uses it first, not at the top
            layer[box] = min(layer[ways[i].target] for i in uses) - 1

    lanes: list[list[_Slot]] = []
    for way in ways:
        slots = [_Slot(LANE, LANE, 0.0, False) for _ in range(2 * (layer[way.target] - layer[way.source]) - 1)]
        slots[-1] = _Slot(LANE, LANE + way.label[0], way.label[1], False)  # the label is near the op it belongs to
        chain = [boxes[way.source], *slots, boxes[way.target]]
        for upper, lower in itertools.pairwise(chain):
            upper.below.append(lower)
            lower.above.append(upper)
        lanes.append(slots)

    for uses in filter(None, into):
        lengths = [(not into[ways[i].source], len(lanes[i])) for i in uses]
        shortest = [i for i, length in zip(uses, lengths, strict=True) if length == min(lengths)]
        for i in uses:
            for slot in lanes[i]:
                slot.weight = 8.0 if i == shortest[(len(shortest) - 1) // 2] else 1.0

    # The order in which a search back from the result finds them, first argument first, draws trees without crossings.
    rows: list[list[_Slot]] = [[] for _ in range(2 * max(layer) + 1)]
    found: set[int] = set()
    waiting: list[tuple[int, list[_Slot]]] = [(box, []) for box, uses in enumerate(out_of) if not uses]
    while waiting:
        box, slots = waiting.pop()
        for row, slot in enumerate(slots, start=2 * layer[box] + 1):
            rows[row].append(slot)
        if box not in found:
            found.add(box)
            rows[2 * layer[box]].append(boxes[box])
            waiting += [(ways[i].source, lanes[i]) for i in reversed(into[box])]
    return rows, lanes


def _uncrossed(rows: list[list[_Slot]]) -> list[list[_Slot]]:
    """Return the rows in the order with the fewest crossings that sweeps of barycenters find."""
    for row in rows:
        _number(row)
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        downwards = sweep % 2 == 0
        for row in rows[1:] if downwards else rows[-2::-1]:
            means = {
                slot: sum(near.place for near in nearby) / len(nearby)
                for slot in row
                if (nearby := slot.above if downwards else slot.below)
            }
            # Equal means keep their order in two sweeps and change it in the next two, which leads out of ties.
            by_mean = iter(sorted(means if sweep % 4 < 2 else reversed(means), key=means.__getitem__))
            row[:] = [next(by_mean) if slot in means else slot for slot in row]
            _number(row)
        crossings = _crossings(rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _number(row: list[_Slot]) -> None:
    for place, slot in enumerate(row):
        slot.place = place


def _crossings(rows: list[list[_Slot]]) -> int:
    count = 0
    for row in rows[:-1]:
        upper, lower = np.array([(slot.place, end.place) for slot in row for end in slot.below]).reshape(-1, 2).T
        count += int(((upper[:, None] < upper) & (lower[:, None] > lower)).sum())
    return count


def _straighten(rows: list[list[_Slot]]) -> None:
    """Set every x so that the ways go sideways as little as possible, without changing the order in a row.

    Minimizes Σ w |x_u − x_v| over the pieces of all ways. Into every op one way weighs most, so that the main chain is
    a straight line: the shortest that comes from another op, in doubt the first or, of many, the one in the middle.
    """
    number = {slot: i for i, slot in enumerate(slot for row in rows for slot in row)}
    pieces = [(upper, lower) for upper in number for lower in upper.below]
    beside = [pair for row in rows for pair in itertools.pairwise(row)]
    n, m = len(number), len(pieces)
    ends = np.array([(number[u], number[v]) for u, v in pieces + beside]).reshape(-1, 2)
    # each row of the system has x_u − x_v ≤ …: both signs of every piece against its length, and every distance
    plus = np.concatenate([ends[:m, 0], ends[:m, 1], ends[m:, 0]])
    minus = np.concatenate([ends[:m, 1], ends[:m, 0], ends[m:, 1]])
    k = np.arange(len(plus))
    entries = np.concatenate([np.ones(len(plus)), -np.ones(len(plus)), -np.ones(2 * m)])
    places = np.concatenate([k, k, k[: 2 * m]]), np.concatenate([plus, minus, n + k[:m], n + k[:m]])
    limits = np.concatenate([np.zeros(2 * m), [-(u.right + APART + v.left) for u, v in beside]])
    cost = np.concatenate([np.zeros(n), [_weight(u, v) for u, v in pieces]])
    lowest = [slot.left for slot in number] + [0.0] * m
    found = linprog(
        cost,
        csr_array((entries, places), shape=(len(plus), n + m)) if len(plus) else None,
        limits if len(plus) else None,
        bounds=np.column_stack([lowest, np.full(n + m, np.inf)]),
    )
    for slot, i in number.items():
        slot.x = round(float(found.x[i]), 6)


def _weight(upper: _Slot, lower: _Slot) -> float:
    if upper.box:
        return 1.5 * lower.weight  # an arrow turns rather where it ends than where it begins
    return upper.weight if lower.box else 8.0


def _ports(boxes: list[_Slot], ways: Sequence[Way], lanes: list[list[_Slot]]) -> list[list[float]]:
    """Return where each way leaves its source and meets its target: as straight as the boxes' widths allow."""
    ports = [[0.0, 0.0] for _ in ways]
    for end, slot in ((0, 0), (1, -1)):
        meeting: dict[_Slot, list[int]] = {}
        for i, way in enumerate(ways):
            meeting.setdefault(boxes[(way.source, way.target)[end]], []).append(i)
        for box, those in meeting.items():
            those.sort(key=lambda i: lanes[i][slot].x)
            left = box.x - box.left + PORTS / 2
            for k, i in enumerate(those):
                left = ports[i][end] = max(left, lanes[i][slot].x)
                left += PORTS
                ports[i][end] = min(ports[i][end], box.x + box.right - PORTS * (len(those) - k - 0.5))
    return ports


def _tracks(
    rows: list[list[_Slot]], lanes: list[list[_Slot]], xs: list[list[float]]
) -> tuple[list[list[tuple[int, int]]], list[float]]:
    """Return for each way (row, track) of its lines sideways, which are below that row, and the gap below every row.

    Lines that would meet go at different heights. One that begins where another ends is above it; otherwise the
    leftmost of those to the right is lowest, and the rightmost of those to the left: they cross only where they must.
    """
    number = {slot: r for r, row in enumerate(rows) for slot in row}
    below: list[list[tuple[int, int]]] = [[] for _ in rows]
    tracks: list[list[tuple[int, int]]] = []
    for i, slots in enumerate(lanes):
        first = number[slots[0]] - 1
        tracks.append([(first + k, 0) for k in range(len(slots) + 1)])
        for k in range(len(slots) + 1):
            if xs[i][k] != xs[i][k + 1]:
                below[first + k].append((i, k))
    gaps = []
    for row, turning in enumerate(below):
        ends = [(xs[i][k], xs[i][k + 1], i, k) for i, k in turning]
        ends.sort(key=lambda line: (line[0] > line[1], np.sign(line[0] - line[1]) * line[0]))
        placed: list[tuple[float, float, int]] = []
        while ends:
            free = (at for at, line in enumerate(ends) if not any(_before(o, line) for o in ends if o is not line))
            start, end, i, k = ends.pop(next(free, 0))  # none is free where two lines exchange places
            left, right = min(start, end) - LANE, max(start, end) + LANE
            track = 1 + max((t for low, high, t in placed if low < right and left < high), default=-1)
            placed.append((left, right, track))
            tracks[i][k] = row, track
        gaps.append(GAP + TRACK * (1 + max((track for _, _, track in placed), default=-1)))
    return tracks, [*gaps[:-1], 0.0]


def _before(line: tuple[float, float, int, int], other: tuple[float, float, int, int]) -> bool:
    """Return whether `line` begins where `other` ends, so that it must be above it."""
    return abs(line[0] - other[1]) < 2 * LANE
