"""Finding the order in which names were put into a hash table, from the order in which it is walked.

A walk of the table gives QEMU's order of an object's properties (`qmpd.common.hash_table`), but to know where the
next one will go takes the order in which the others came.  Most often the walk itself or the order of the numbers
in the names will do; else a search moves names about until the walk comes out right, for every variant that was
seen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from qmpd.common.hash_table import HashTable

Names = list[str]

_NUMBERED = re.compile(r"(.*)\[(\d+)\]|(.*?)(\d+)")
_BLOCKS = (1, 1, 1, 2, 3, 4, 8)


class Variant(NamedTuple):
    """One walk that was seen, and what makes the names in it of the names in general."""

    expand: Callable[[Names], Names]
    walk: Names


def as_they_are(names: Names) -> Names:
    """The names themselves."""
    return names


def insertion_order(variants: list[Variant], starts: list[Names], attempts: int) -> tuple[Names, bool]:
    """An order whose walk is what was seen, in all variants, and whether it is: the best one found where it isn't.

    `starts` are orders to begin with; `attempts` is how many moves are tried.  The same each time.
    """
    best, wrong = starts[0], _wrong(starts[0], variants)
    for start in starts[1:]:
        if wrong == 0:
            break
        score = _wrong(start, variants)
        if score < wrong:
            best, wrong = start, score
    source = random.Random(0)
    for _ in range(attempts if len(best) > 1 else 0):
        if wrong == 0:
            break
        first, last = source.randrange(len(best)), source.randrange(len(best))
        length = source.choice(_BLOCKS)
        rest = best[:first] + best[first + length :]
        moved = [*rest[:last], *best[first : first + length], *rest[last:]]
        if _numbers_rise(moved, best[first : first + length]):
            score = _wrong(moved, variants)
            if score <= wrong:
                best, wrong = moved, score
    return best, wrong == 0


def of_bus(names: Names) -> Names:
    """Names in the order in which a bus gets them: its own, then its devices, then what the machine adds."""
    own = [name for name in ("hotplug-handler", "realized") if name in names]
    devices = [name for name in by_number(names) if _number(name)[0] == "child"]
    return [*own, *devices, *(name for name in names if name not in own and name not in devices)]


def by_number(names: Names) -> Names:
    """Names in an order in which numbered ones rise."""
    return sorted(names, key=lambda name: _number(name)[1])


def _number(name: str) -> tuple[str, int]:
    match = _NUMBERED.fullmatch(name)
    if match is None:
        return name, -1
    return (match[1], int(match[2])) if match[2] else (match[3], int(match[4]))


def _numbers_rise(names: Names, moved: Names) -> bool:
    stems = {_number(name)[0] for name in moved}
    highest: dict[str, int] = {}
    for name in names:
        stem, number = _number(name)
        if stem in stems:
            if number < highest.get(stem, -2):
                return False
            highest[stem] = number
    return True


def _wrong(names: Names, variants: list[Variant]) -> int:
    """How many neighbours in the walks are not neighbours in what was seen."""
    wrong = 0
    for variant in variants:
        walk = HashTable(variant.expand(names)).walk()
        if walk != variant.walk:
            following = dict(pairwise(variant.walk))
            wrong += 1 + sum(following.get(left) != right for left, right in pairwise(walk))
    return wrong
