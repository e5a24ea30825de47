"""Room for nodes on top of each other: what is done with one is done with those below it, call within call."""

from __future__ import annotations

import sys

from qmpd.common.refusals import NotModelled

_MOST_NODES = 3000
# How many calls each node below another takes at most to be read, and how many there are otherwise.
_FRAMES, _USUAL = 20, 600


def have_room(count: int) -> None:
    """Have room for so many nodes in a graph.

    :raise NotModelled: there would be too many.
    """
    if count > _MOST_NODES:
        raise NotModelled(f"more than {_MOST_NODES} block nodes")
    calls = count * _FRAMES + _USUAL
    if calls > sys.getrecursionlimit():
        sys.setrecursionlimit(2 * calls)
