"""The character devices that monitors talk through, as `query-chardev` and `query-yank` show them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Chardev:
    """One character device: its id, its backend's address, and whether it is a socket that listens."""

    label: str
    address: str
    listening: bool = True
    yankable: bool = True
    frontend_open: bool = True

    def describe(self, connected: bool, listening_suffix: str) -> str:
        """The `filename` of `query-chardev`."""
        if not self.listening:
            return self.address
        return f"{'' if connected else 'disconnected:'}{self.address}{listening_suffix}"
