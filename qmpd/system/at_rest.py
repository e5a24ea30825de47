"""Commands that open and close nodes, and what has to come first: that nobody reads or writes, and that files answer.

A disk may be slow, or answer never; the main loop goes on (`qmpd.system.apart`).  So the threads of the disks look at
the files that a command names, behind everything else that they have to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from qmpd.block.files import look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.system.system import System

T = TypeVar("T")


def at_rest(system: System, act: Callable[[], T], arguments: object = None) -> T:
    """Do something while nobody reads or writes a disk; `arguments` may name files, which have to answer before.

    :raise Refusal: `act` raises it.
    """
    names = list(_filenames(arguments))
    if system.is_bare and not names:
        return act()
    executor = system.disks.executor
    if names:
        executor.do(lambda: look_at(names), lambda _: None)
    executor.settle()
    return act()


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
