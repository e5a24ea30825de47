"""The character devices that monitors talk through, as `query-chardev` and `query-yank` show them."""

from __future__ import annotations


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


def _with_suffix(address: str, suffix: str) -> str:
    """The suffix stands behind the address of this end."""
    here, arrow, there = address.partition(" <-> ")
    return f"{here}{suffix}{arrow}{there}"
