"""A character device: what all kinds have in common."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

import trio

from qmpd.chardev.device import Chardev
from qmpd.chardev.ring import Ring
from qmpd.server.chardevs.copying import copy_in, copy_out
from qmpd.server.listener import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qmpd.server.owner import DeviceOwner
    from qmpd.server.settings import ChardevSettings, MonitorSettings

    Keep = Callable[[int], int]


class Device:
    """A device that nothing passes through: `null` and the like.

    `first` is to be set when a client comes, where somebody waits for one.
    """

    first: trio.Event | None = None

    def __init__(self, vm: DeviceOwner, settings: ChardevSettings) -> None:
        self.vm = vm
        self.settings = settings

    def open_log(self) -> None:
        """Make the file that is to have what is written to the device; nothing is, but for what monitors say.

        :raise ListenError: it cannot be made.
        """
        path = self.settings.logfile
        if not path:
            return
        way = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if self.settings.log_append else os.O_TRUNC)
        try:
            os.close(os.open(path, way, 0o666))
        except OSError as error:
            raise ListenError(f"Could not create '{path}': {error.strerror}") from None

    def open(self) -> None:
        """Open it, and make it known to the monitor.

        :raise ListenError: it cannot be opened.
        """
        self.enter(self.settings.backend)

    def enter(self, address: str, listening: bool = False, yankable: bool = False) -> Chardev:
        """Make the device known to the monitor; `address` is what query-chardev calls it."""
        settings = self.settings
        is_used = settings.monitor is not None or settings.listened
        entry = Chardev(settings.label, address, listening, yankable, is_used, kind=settings.kind)
        if settings.ring:
            entry.ring = Ring(settings.ring)
        self.vm.system.chardevs.append(entry)
        return entry

    async def run(self) -> None:
        """Carry what passes through it until there is nothing more."""
        return

    def close(self) -> None:
        """Give it up."""
        return

    def give(self, client: socket.socket) -> bool:
        """Give it a client that was not let in here; False where it takes none.

        :raise NotModelled: real QEMU might.
        """
        return False

    def take(self, keep: Keep) -> Any:
        """What is open, by the numbers that `keep` gives."""
        return None

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """Have what `take` told of."""

    def release(self) -> None:
        """Let go of what is open, without a trace."""
        self.close()

    async def talk(self, monitor: MonitorSettings, reads: int | None, writes: int) -> None:
        """Serve the monitor of this device from one descriptor to another, until input ends."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        with ours:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.vm.acceptor.converse, monitor, theirs)
                nursery.start_soon(copy_out, ours, writes)
                if reads is not None:
                    await copy_in(reads, ours)
                    with contextlib.suppress(OSError):
                        ours.shutdown(socket.SHUT_WR)
