"""The character devices of a machine, as `query-chardev` and `query-yank` show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.chardev.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Sequence


class Chardev:
    """One character device: its id, its backend's address, and whether it is a socket that listens.

    `connected_address` is what a listening socket is called while it has a client, where that is another name.
    `held`: it has a client, though no monitor talks through it.  `kind` is what `chardev-add` calls its backend, empty
    where a monitor was asked for in qmpd's own way; `ring` is what it keeps, None where it keeps nothing; `base` is the
    device below a multiplexer, empty for other kinds.
    """

    __slots__ = (
        "address", "base", "connected_address", "frontend_open", "held", "kind", "label", "listening", "ring",
        "yankable",
    )  # fmt: skip

    def __init__(
        self,
        label: str,
        address: str,
        listening: bool = True,
        yankable: bool = True,
        frontend_open: bool = True,
        connected_address: str = "",
        held: bool = False,
        kind: str = "",
        ring: Ring | None = None,
        base: str = "",
    ) -> None:
        self.label = label
        self.address = address
        self.listening = listening
        self.yankable = yankable
        self.frontend_open = frontend_open
        self.connected_address = connected_address
        self.held = held
        self.kind = kind
        self.ring = ring
        self.base = base

    def take(self) -> list[object]:
        """All of it as plain data."""
        ring = None if self.ring is None else [self.ring.size, self.ring.content.decode("latin-1")]
        return [ring if name == "ring" else getattr(self, name) for name in self.__slots__]

    @classmethod
    def put(cls, state: Sequence[Any]) -> Chardev:
        """The device that `take` made `state` of.

        :raise ValueError: it is no such state.
        """
        values = dict(zip(cls.__slots__, state, strict=True))
        ring = values.pop("ring")
        return cls(**values, ring=None if ring is None else Ring(ring[0], ring[1].encode("latin-1")))

    def describe(self, connected: bool, flag: str) -> str:
        """The `filename` of `query-chardev`; `flag` is what stands behind each flag there."""
        if not self.listening:
            return self.address
        if connected or self.held:
            return _with_suffix(self.connected_address or self.address, f",server{flag}")
        return f"disconnected:{self.address},server{flag}"


def _with_suffix(address: str, suffix: str) -> str:
    """The suffix stands behind the address of this end."""
    here, arrow, there = address.partition(" <-> ")
    return f"{here}{suffix}{arrow}{there}"
