"""Commands that open and close nodes, and what has to come first: that nobody reads or writes, and that files answer.

A disk may be slow, or answer never; the main loop goes on.  So the threads of the disks look at the files that a
command names, behind everything else that they have to do.  Where that takes no more than a moment the command is
executed at once; else its reply comes later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.files import look_at
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.system.system import System

MOMENT = 0.002
"""Seconds for which the main loop waits for the disks."""


def _nothing() -> None:
    """Done when everything before it is."""


def at_rest(system: System, act: Callable[[], object], arguments: object = None) -> object:
    """Do something while nobody reads or writes a disk; `arguments` may name files, which have to answer before.

    :raise Refusal: `act` raises it, and there was nothing to wait for.
    """
    if system.is_bare:
        return act()
    executor = system.disks.executor
    names = list(_filenames(arguments))
    if names:
        executor.do(lambda: look_at(names), lambda _: None)
    if executor.settle(MOMENT):
        return act()

    def may() -> bool:
        if executor.settle(MOMENT):
            return True
        # Somebody else reads or writes by now.
        executor.do(_nothing, lambda _: later.ready())
        return False

    later = Deferred(act, may)
    executor.do(_nothing, lambda _: later.ready())
    return later


def _filenames(options: object) -> Iterator[str]:
    """The names of files in the options of nodes."""
    if isinstance(options, dict):
        for name, value in options.items():
            if isinstance(value, str) and name in ("filename", "file"):
                yield value
            else:
                yield from _filenames(value)
    elif isinstance(options, list):
        for each in options:
            yield from _filenames(each)
