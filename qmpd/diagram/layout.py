"""Where the boxes and arrows of a diagram go: in layers from left to right.

The usual steps for drawing directed graphs (Sugiyama, Tagawa and Toda, 1981): arrows that close a cycle are turned
round for the time being; each box goes one layer to the right of the last that leads to it; arrows over several
layers get a point in each that they cross; the boxes and points of each layer are put in an order with few
crossings, and then moved up or down until the arrows are as straight as the order allows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

POINT_GAP = 8
"""Pixels between an arrow that crosses a layer and what is above or below it there."""

SWEEPS = 24
"""Passes over all layers, for the order and then for the positions."""


@dataclass(slots=True)
class Place:
    """A box, or the point where an arrow crosses a layer; sizes and positions in pixels, `x` and `y` its middle."""

    name: str
    layer: int
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0
    left: list[Place] = field(default_factory=list)
    right: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class Route:
    """An arrow: the places that it goes through, from left to right, and whether it points to the left."""

    places: list[Place]
    backwards: bool


@dataclass(slots=True)
class Layout:
    """The drawing: its boxes by name, its arrows in the order given, and its size in pixels."""

    boxes: dict[str, Place]
    routes: list[Route]
    width: float
    height: float


def arrange(
    sizes: dict[str, tuple[float, float]],
    arrows: list[tuple[str, str]],
    first: frozenset[str],
    *,
    column_gap: float = 74,
    row_gap: float = 24,
) -> Layout:
    """Find places for boxes of these sizes (width, height) and the arrows between them; `first` go to the left."""
    forward = _acyclic(list(sizes), arrows, first)
    layers = _layers(list(sizes), forward)
    boxes = {name: Place(name, layers[name], width, height) for name, (width, height) in sizes.items()}
    columns: list[list[Place]] = [[] for _ in range(max(layers.values()) + 1)]
    for place in boxes.values():
        columns[place.layer].append(place)
    routes = []
    for (source, target), (left, right) in zip(arrows, forward, strict=True):
        places = [boxes[left]]
        for layer in range(boxes[left].layer + 1, boxes[right].layer):
            point = Place("", layer, 0, 4)
            columns[layer].append(point)
            places.append(point)
        places.append(boxes[right])
        for one, other in pairwise(places):
            one.right.append(other)
            other.left.append(one)
        routes.append(Route(places, (source, target) != (left, right)))
    _order(columns)
    _move(columns, row_gap)
    width = _spread(columns, column_gap)
    height = max(place.y + place.height / 2 for column in columns for place in column)
    return Layout(boxes, routes, width, height)


def _acyclic(names: list[str], arrows: list[tuple[str, str]], first: frozenset[str]) -> list[tuple[str, str]]:
    """The arrows, those turned round that close a cycle."""
    followers: dict[str, list[str]] = {name: [] for name in names}
    for source, target in arrows:
        followers[source].append(target)
    done: dict[str, bool] = {}
    turned: set[tuple[str, str]] = set()

    def visit(name: str) -> None:
        done[name] = False
        for follower in followers[name]:
            if follower not in done:
                visit(follower)
            elif not done[follower]:
                turned.add((name, follower))
        done[name] = True

    for name in sorted(names, key=lambda name: (name not in first, -len(followers[name]))):
        if name not in done:
            visit(name)
    return [(target, source) if (source, target) in turned else (source, target) for source, target in arrows]


def _layers(names: list[str], arrows: list[tuple[str, str]]) -> dict[str, int]:
    """Each box's layer: one to the right of the last that leads to it, but no further left than need be."""
    layers = dict.fromkeys(names, 0)
    for _ in names:
        for source, target in arrows:
            layers[target] = max(layers[target], layers[source] + 1)
    # A box that nothing leads to goes next to the first that it leads to.
    for name in names:
        followers = [layers[target] for source, target in arrows if source == name]
        if followers and not any(target == name for _, target in arrows):
            layers[name] = min(followers) - 1
    return layers


def _order(columns: list[list[Place]]) -> None:
    """Put each layer in an order with few crossings: sort by the middle of the neighbours, back and forth."""
    best = [list(column) for column in columns]
    fewest = _crossings(columns)
    for sweep in range(SWEEPS):
        rightwards = sweep % 2 == 0
        walk = columns[1:] if rightwards else columns[-2::-1]
        for column in walk:
            before = columns[column[0].layer - 1 if rightwards else column[0].layer + 1]
            position = {id(place): index for index, place in enumerate(before)}
            own = {id(place): index for index, place in enumerate(column)}

            def middle(
                place: Place,
                position: dict[int, int] = position,
                own: dict[int, int] = own,
                rightwards: bool = rightwards,
            ) -> float:
                neighbours = [position[id(each)] for each in (place.left if rightwards else place.right)]
                return sum(neighbours) / len(neighbours) if neighbours else own[id(place)]

            column.sort(key=middle)
        crossings = _crossings(columns)
        if crossings < fewest:
            fewest, best = crossings, [list(column) for column in columns]
    for column, order in zip(columns, best, strict=True):
        column[:] = order


def _crossings(columns: list[list[Place]]) -> int:
    count = 0
    for column, following in pairwise(columns):
        position = {id(place): index for index, place in enumerate(following)}
        ends = [sorted(position[id(each)] for each in place.right) for place in column]
        passed: list[int] = []
        for targets in ends:
            count += sum(1 for target in targets for earlier in passed if earlier > target)
            passed += targets
    return count


def _move(columns: list[list[Place]], gap: float) -> None:
    """Give each place its height: near the middle of its neighbours, in the order of its layer."""
    for column in columns:
        for place, offset in zip(column, _offsets(column, gap), strict=True):
            place.y = offset
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wishes = []
            for place in column:
                neighbours = place.left + place.right
                wishes.append(sum(each.y for each in neighbours) / len(neighbours) if neighbours else place.y)
            _settle(column, wishes, gap)
    top = min(place.y - place.height / 2 for column in columns for place in column)
    for column in columns:
        for place in column:
            place.y -= top


def _settle(column: list[Place], wishes: list[float], gap: float) -> None:
    """Put the places as near to where they wish to be as their order and their sizes allow.

    Places that get in each other's way form a block, which goes to the mean of what its members wish.
    """
    blocks: list[tuple[list[int], float]] = []  # members, and the wish for the first one's middle
    offsets = _offsets(column, gap)
    for index, wish in enumerate(wishes):
        members, at = [index], wish - offsets[index]
        while blocks and blocks[-1][1] > at:
            others, place = blocks.pop()
            at = (place * len(others) + at * len(members)) / (len(others) + len(members))
            members = others + members
        blocks.append((members, at))
    for members, at in blocks:
        for index in members:
            column[index].y = at + offsets[index]


def _offsets(column: list[Place], gap: float) -> list[float]:
    """How far below the first one's middle each place's is, where they are as close as they may be."""
    offsets = [0.0]
    for one, other in pairwise(column):
        between = gap if one.name and other.name else POINT_GAP
        offsets.append(offsets[-1] + (one.height + other.height) / 2 + between)
    return offsets


def _spread(columns: list[list[Place]], gap: float) -> float:
    """Give each layer its column; the result is the width of all."""
    x = 0.0
    for column in columns:
        width = max(place.width for place in column)
        for place in column:
            place.x = x + width / 2
            if not place.name:
                place.width = width
        x += width + gap
    return x - gap
