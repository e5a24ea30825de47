"""A character device: what all kinds have in common."""

from __future__ import annotations

import contextlib
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from qmpd.chardev.device import Chardev
from qmpd.chardev.multiplexer import MUX
from qmpd.chardev.ring import Ring
from qmpd.common.refusals import NotModelled
from qmpd.server.chardevs.copying import copy_in, copy_out
from qmpd.server.chardevs.guests import listen
from qmpd.server.listener import ListenError
from qmpd.server.slow_file import appender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qmpd.chardev.multiplexer import Multiplexer
    from qmpd.machine.events import Event
    from qmpd.server.owner import DeviceOwner
    from qmpd.server.settings import ChardevSettings, MonitorSettings

    Keep = Callable[[int], int]


class Opening:
    """When the monitors that share a device open: once the machine has started; they are told its first `events` then.

    QEMU opens such a device behind the machine, and a monitor that has greeted nobody yet keeps no event to itself.
    """

    __slots__ = ("begun", "events")

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.events: Sequence[Event] = ()


class Device:
    """A device that nothing passes through: `null` and the like.

    `first` is to be set when a client comes, where somebody waits for one.
    """

    first: trio.Event | None = None
    # Whether somebody is at the other end from the beginning, to whom nothing is to be lost.
    always_there = False
    # By what its users share it; None until somebody comes.
    _multiplexer: Multiplexer | None = None
    # When its users open for whoever is there first, where that is not at once.
    opening: Opening | None = None

    def __init__(self, vm: DeviceOwner, settings: ChardevSettings) -> None:
        self.vm = vm
        self.settings = settings

    def open_log(self) -> None:
        """Make the file that has what is written to the device, whoever listens; what monitors say is not.

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
        if self.settings.monitor is None:
            self.vm.system.make_front_end(self.settings.label).log = appender(path)

    def open(self) -> None:
        """Open it, and make it known to the monitor.

        :raise ListenError: it cannot be opened.
        """
        self.enter(self.settings.backend)

    def enter(self, address: str, listening: bool = False, yankable: bool = False) -> Chardev:
        """Make the device known to the monitor; `address` is what query-chardev calls it."""
        settings = self.settings
        is_used = bool(settings.users) if settings.shared else settings.monitor is not None or settings.listened
        entry = Chardev(self.label, address, listening, yankable, is_used, kind=settings.kind)
        if self.always_there:
            self.lose_nothing()
        if settings.ring:
            entry.ring = Ring(settings.ring)
        self.vm.system.chardevs.append(entry)
        if settings.shared:
            shared = Chardev(settings.label, MUX, False, False, is_used, kind=MUX, base=self.label)
            self.vm.system.chardevs.append(shared)
        return entry

    def lose_nothing(self) -> None:
        """Keep what the machine says for whoever is at the other end already, until it is served."""
        if self.settings.monitor is None:
            self.vm.system.make_front_end(self.settings.label).early = bytearray()

    @property
    def label(self) -> str:
        """What the device itself is called: where it is shared, its name is that of what its users have."""
        return self.settings.base or self.settings.label

    async def serve(self, client: socket.socket, address: Any = None, *, ends: bool = True) -> None:
        """Serve whoever is at the other end, by a connected socket, which is closed afterwards.

        :param ends: nothing more is said to him once he has said the last.
        """
        settings = self.settings
        if settings.shared:
            from qmpd.server.chardevs.sharing import multiplexer, share

            if self._multiplexer is None:
                self._multiplexer = multiplexer(self.vm, settings)
            await share(self.vm, settings, self._multiplexer, client, await self._first_events(), ends=ends)
        elif settings.monitor is not None:
            await self.vm.acceptor.converse(settings.monitor, client, address)
        else:
            with client:
                try:
                    await listen(self.vm, settings.label, client)
                    if not ends:
                        await trio.sleep_forever()
                except (OSError, trio.ClosedResourceError):
                    return
                finally:
                    trio.lowlevel.notify_closing(client)
                    end = self.vm.system.front_end(settings.label)
                    if end is not None:
                        end.left()

    async def _first_events(self) -> Sequence[Event]:
        """Wait until its users open, and give what the machine has told by then, to who was there at its start."""
        opening, self.opening = self.opening, None
        if opening is None or (self.vm.started and not self.always_there and self.settings.backend != "connect"):
            return ()
        await opening.begun.wait()
        return opening.events

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

    def attach(self, monitor: MonitorSettings) -> None:
        """Have a monitor on it from now on.

        :raise NotModelled: that is not done with such a device once it is open.
        """
        raise NotModelled(f"a monitor on a character device of type {self.settings.kind} that is open already")

    def detach(self) -> None:
        """Have no monitor on it any more; whoever is connected stays so, and is heard by nobody."""
        self.settings.monitor = None

    def take(self, keep: Keep) -> Any:
        """What is open, by the numbers that `keep` gives."""
        return None

    def put(self, state: Any, descriptors: Sequence[int]) -> None:
        """Have what `take` told of."""

    def release(self) -> None:
        """Let go of what is open, without a trace."""
        self.close()

    async def talk(self, reads: int | None, writes: int, *, ends: bool = True) -> None:
        """Serve whoever uses this device from one descriptor to another, until input ends (`ends`)."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        # What is said last is still written where all is cancelled.
        out = trio.CancelScope(shield=True)

        async def write() -> None:
            with out:
                await copy_out(ours, writes)

        with ours:
            async with trio.open_nursery() as outer:
                outer.start_soon(write)
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(partial(self.serve, theirs, ends=ends))
                        if reads is not None:
                            await copy_in(reads, ours)
                            with contextlib.suppress(OSError):
                                ours.shutdown(socket.SHUT_WR)
                except BaseException:
                    out.cancel()
                    raise
                out.shield = False
