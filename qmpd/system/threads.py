"""The threads of the host that stand behind CPUs and iothreads: their numbers are told to clients, who pin them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qmpd.monitor.dispatcher import Dispatcher

_NAME = "CPU {}/{}"


class Threads(Protocol):
    """Whoever has threads to show: the server, where the process is this machine's alone."""

    def number(self, name: str) -> int:
        """The number of the thread of this name; it exists from now on."""

    def end(self, name: str) -> None:
        """The thread of this name is not needed any more."""


def cpu_thread(dispatcher: Dispatcher, index: int) -> int:
    """The thread of CPU number `index`; where there are none, numbers follow the process's own."""
    if dispatcher.threads is None:
        return os.getpid() + 1 + index
    return dispatcher.threads.number(_NAME.format(index, "KVM" if dispatcher.settings.kvm else "TCG"))


def iothread(dispatcher: Dispatcher, name: str, index: int) -> int:
    """The thread of an iothread; where there are none, numbers follow those of the CPUs."""
    if dispatcher.threads is None:
        return os.getpid() + 1 + dispatcher.settings.topology.maximum + index
    return dispatcher.threads.number(f"IO {name}")


def end_iothread(dispatcher: Dispatcher, name: str) -> None:
    """An object is gone, which may have been an iothread."""
    if dispatcher.threads is not None:
        dispatcher.threads.end(f"IO {name}")
