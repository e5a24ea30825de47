"""Breakpoints and watchpoints: of each CPU its own, though a debugger sets them in all at once.

Software and hardware breakpoints are the same thing, as in a machine that interprets its instructions: what is set as
one kind can be removed as the other, and twice set is there twice (QEMU's accel/tcg/tcg-accel-ops.c).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

_ADDRESSES = 1 << 64


class Access(enum.StrEnum):
    """What a CPU does with memory."""

    EXECUTE = "execute"
    READ = "read"
    WRITE = "write"


class Kind(NamedTuple):
    """A kind of watchpoint: the accesses that hit it, and its name in a stop reply."""

    accesses: frozenset[Access]
    reply: str


BREAKPOINTS = frozenset({0, 1})
"""The numbers of the kinds of breakpoints in Z and z: software, hardware."""

WATCHPOINTS = {
    2: Kind(frozenset({Access.WRITE}), "watch"),
    3: Kind(frozenset({Access.READ}), "rwatch"),
    4: Kind(frozenset({Access.READ, Access.WRITE}), "awatch"),
}
"""The kinds of watchpoints, by their numbers in Z and z."""


class Watchpoint(NamedTuple):
    """A watchpoint: its kind's number, its first address and how many bytes it watches."""

    kind: int
    address: int
    length: int


class Unsupported(Exception):  # noqa: N818 - what the kind is
    """There is no such kind of breakpoint."""


class Invalid(Exception):  # noqa: N818 - what the watchpoint is
    """A watchpoint that watches nothing, or beyond the last address."""


class NotThere(Exception):  # noqa: N818 - what the breakpoint is
    """There is no such breakpoint."""


class Breakpoints:
    """Those of one CPU."""

    __slots__ = ("_addresses", "_watched")

    def __init__(self) -> None:
        self._addresses: list[int] = []
        self._watched: list[Watchpoint] = []

    def insert(self, kind: int, address: int, length: int) -> None:
        """Set one more.

        :raise Unsupported: there is no such kind.
        :raise Invalid: it is a watchpoint of no possible place.
        """
        if kind in BREAKPOINTS:
            self._addresses.append(address)
        elif kind not in WATCHPOINTS:
            raise Unsupported
        elif not length or address + length > _ADDRESSES:
            raise Invalid
        else:
            self._watched.append(Watchpoint(kind, address, length))

    def remove(self, kind: int, address: int, length: int) -> None:
        """Remove one.

        :raise Unsupported: there is no such kind.
        :raise NotThere: there is no such one.
        """
        try:
            if kind in BREAKPOINTS:
                self._addresses.remove(address)
            elif kind not in WATCHPOINTS:
                raise Unsupported
            else:
                self._watched.remove(Watchpoint(kind, address, length))
        except ValueError:
            raise NotThere from None

    def clear(self) -> None:
        """Remove all."""
        self._addresses.clear()
        self._watched.clear()

    def breaks(self, address: int) -> bool:
        """Whether an instruction at `address` is not to be executed."""
        return address in self._addresses

    def watches(self, access: Access, address: int, length: int) -> Watchpoint | None:
        """The watchpoint that an access to `length` bytes hits."""
        for point in self._watched:
            overlaps = point.address < address + length and address < point.address + point.length
            if overlaps and access in WATCHPOINTS[point.kind].accesses:
                return point
        return None
