"""The character devices that monitors talk through, as `query-chardev` and `query-yank` show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Chardev:
    """One character device: its id, its backend's address, and whether it is a socket that listens.

    `connected_address` is what a listening socket is called while it has a client, where that is another name.
    `held`: it has a client, though no monitor talks through it.
    """

    __slots__ = ("address", "connected_address", "frontend_open", "held", "label", "listening", "yankable")

    def __init__(
        self,
        label: str,
        address: str,
        listening: bool = True,
        yankable: bool = True,
        frontend_open: bool = True,
        connected_address: str = "",
        held: bool = False,
    ) -> None:
        self.label = label
        self.address = address
        self.listening = listening
        self.yankable = yankable
        self.frontend_open = frontend_open
        self.connected_address = connected_address
        self.held = held

    def describe(self, connected: bool, listening_suffix: str) -> str:
        """The `filename` of `query-chardev`."""
        if not self.listening:
            return self.address
        if connected or self.held:
            return _with_suffix(self.connected_address or self.address, listening_suffix)
        return f"disconnected:{self.address}{listening_suffix}"


class ChardevHost(Protocol):
    """Who opens character devices while the machine runs: the server.  What it opens it enters among the others."""

    def open_chardev(self, label: str, backend: str, options: Mapping[str, Any]) -> str | None:
        """Open one: `backend` and `options` are as `chardev-add` has them.  Gives the path of a pseudo-terminal.

        :raise ValueError: it cannot be opened; the text says why.
        """

    def write_file(self, path: str, content: bytes) -> tuple[int, Callable[[], None]]:
        """Write a file that a client asks for.

        The descriptor that this gives can be read when that is done or has failed; the function raises OSError then
        where it has.
        """

    def open_log(self, path: str | None) -> Callable[[str], None]:
        """What writes lines to the file of this name, behind what is there, or to standard error.

        Nobody waits for the file; where it cannot be written that is told, and the lines are lost.
        """

    def close_chardev(self, label: str) -> None:
        """Close one that was opened so, or when the machine started."""


def _with_suffix(address: str, suffix: str) -> str:
    """The suffix stands behind the address of this end."""
    here, arrow, there = address.partition(" <-> ")
    return f"{here}{suffix}{arrow}{there}"
