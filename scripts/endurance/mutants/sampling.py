"""Which mutants are looked at: all of some files, and some of the others by chance, from a seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from endurance.mutants.mutant import Mutant

FOLDERS = ("qmpd/wire", "qmpd/machine", "qmpd/monitor")

WHOLE = ("qmpd/machine/main_loop.py", "qmpd/monitor/events.py", "qmpd/monitor/session.py")
"""The files of which no mutant may survive: the main loop's turn, the limit on events, a session and its queue."""


def chosen(mutants: Iterable[Mutant], seed: int, count: int, whole: tuple[str, ...] = WHOLE) -> list[Mutant]:
    """All mutants of the files in `whole`, and `count` of the others (or all there are); the same for the same seed.

    A change in one file changes the choice as little as possible: each mutant draws its own lot.
    """
    always: list[Mutant] = []
    others: list[tuple[float, Mutant]] = []
    for mutant in mutants:
        if mutant.file in whole:
            always.append(mutant)
        else:
            lot = random.Random(f"{seed} {mutant.file} {mutant.function} {mutant.old} {mutant.new} {mutant.key}")
            others.append((lot.random(), mutant))
    others.sort()
    return sorted([*always, *(mutant for _, mutant in others[:count])])
