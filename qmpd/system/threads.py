"""The threads of the host that stand behind CPUs and iothreads: their numbers are told to clients, who pin them."""

from __future__ import annotations

from typing import Protocol


class Threads(Protocol):
    """Whoever has threads to show: the server, where the process is this machine's alone."""

    def number(self, name: str) -> int:
        """The number of the thread of this name; it exists from now on."""

    def end(self, name: str) -> None:
        """The thread of this name is not needed any more."""
