"""A character device that monitors and devices of the guest's share (`mux=on`), as its client sees it."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import TYPE_CHECKING

import trio

from qmpd.chardev.multiplexer import FAREWELL, Key, Multiplexer
from qmpd.machine import keys
from qmpd.server.chardevs.copying import CHUNK
from qmpd.server.chardevs.guests import BITE, front_end, room
from qmpd.server.chardevs.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.machine.events import Event
    from qmpd.server.owner import DeviceOwner
    from qmpd.server.settings import ChardevSettings

_CONTROL, _HUMAN, _PORT = "control", "readline", "port"
PROMPT = b"(qemu) "
_QUIET = 4
"""Passes of the event loop without a byte, after which a monitor has said everything by itself."""


def multiplexer(vm: DeviceOwner, settings: ChardevSettings) -> Multiplexer:
    """What the users of a device share it by."""
    return Multiplexer(len(settings.users), settings.escape, vm.clock.monotonic_nanoseconds)


async def share(
    vm: DeviceOwner, settings: ChardevSettings, by: Multiplexer, client: socket.socket, events: Sequence[Event],
    *, ends: bool,
) -> None:
    """Serve a client until it leaves; where that is not the end (`ends`), until the machine ends.

    Each QMP monitor tells the `events` before it greets the client.
    """
    shared = _Shared(vm, settings, by, client)
    try:
        async with trio.open_nursery() as nursery:
            await shared.begin(nursery, events)
            await shared.read()
            if not ends:
                await trio.sleep_forever()
            nursery.cancel_scope.cancel()
    except* (OSError, trio.ClosedResourceError):
        pass  # it has turned away
    finally:
        shared.close()


class _Shared:
    """One client of a shared device, and the users of it."""

    def __init__(
        self, vm: DeviceOwner, settings: ChardevSettings, by: Multiplexer, client: socket.socket
    ) -> None:
        self._vm = vm
        self._client = client
        self._label = settings.label
        self._users = settings.users
        self._multiplexer = by
        self._end = front_end(vm, settings.label)
        self._outlet = Outlet(client, self._end, vm.nursery)
        self._end.write = self._say
        # Our ends of the monitors' connections, by their numbers.
        self._monitors: dict[int, socket.socket] = {}
        # What a human monitor has said that has not the focus; it begins to be heard with what it has said by then.
        self._kept: dict[int, bytearray] = {}

    async def begin(self, nursery: trio.Nursery, events: Sequence[Event]) -> None:
        """Greet the client: the monitors do."""
        for user in self._users if events else ():
            if user.mode == _CONTROL:
                for event in events:
                    self._say(self._vm.dispatcher.spell_event(event, pretty=user.pretty))
        for number, user in enumerate(self._users):
            if user.mode == _PORT:
                continue
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            self._monitors[number] = ours
            if user.mode == _HUMAN:
                self._kept[number] = bytearray()
            self._vm.nursery.start_soon(self._vm.acceptor.converse, user, theirs)
            nursery.start_soon(self._listen_to, number, ours)
        for ours in self._monitors.values():
            await self._settle(ours)

    def close(self) -> None:
        """The client has left, or the machine has ended."""
        self._pump()
        self._end.left()
        for ours in self._monitors.values():
            ours.close()
        trio.lowlevel.notify_closing(self._client)
        self._client.close()

    def _say(self, data: bytes) -> None:
        self._outlet.say(self._multiplexer.write(data))

    async def _listen_to(self, number: int, ours: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(ours)
            if not self._hear(number, ours):
                return

    def _hear(self, number: int, ours: socket.socket) -> bool:
        """Hand on what a monitor has said; False where it has said its last."""
        data = ours.recv(CHUNK)
        if number in self._kept and self._multiplexer.focus != number:
            self._kept[number] += data
        elif data:
            self._say(data)
        return bool(data)

    def _pump(self) -> None:
        """Hand on what all monitors have said by now."""
        for number, ours in self._monitors.items():
            with contextlib.suppress(OSError):
                while self._hear(number, ours):
                    pass

    async def read(self) -> None:
        """Take what the client says until it leaves."""
        while True:
            most = BITE
            if self._users[self._multiplexer.focus].mode == _PORT or self._end.blocked:
                most = min(await room(self._end, self._client), BITE)
            await trio.lowlevel.wait_readable(self._client)
            try:
                data = self._client.recv(most)
            except BlockingIOError:
                continue
            if not data:
                return
            for each in self._multiplexer.read(data):
                if isinstance(each, bytes):
                    await self._give(each)
                else:
                    await self._press(each)

    async def _give(self, data: bytes) -> None:
        """Hand something to whoever has the focus."""
        ours = self._monitors.get(self._multiplexer.focus)
        if ours is None:
            front_end(self._vm, self._label)  # whoever listens is to be ready
            self._end.feed(data)
            return
        rest = memoryview(data)
        while rest:
            await trio.lowlevel.wait_writable(ours)
            rest = rest[ours.send(rest) :]
        await self._settle(ours)

    async def _settle(self, ours: socket.socket) -> None:
        """Let a monitor do what it was asked for, as far as it does so at once."""
        quiet = 0
        while quiet < _QUIET:
            await trio.lowlevel.checkpoint()
            quiet = 0 if select.select([ours], [], [], 0)[0] else quiet + 1

    async def _press(self, key: Key) -> None:
        if key is Key.SWITCH:
            await self._switch()
        elif key is Key.HELP:
            self._say(self._multiplexer.help())
        elif key is Key.END:
            self._say(FAREWELL)
            keys.end(self._vm.system.machine)
            self._vm.work()
            self._pump()
        elif key is Key.COMMIT:
            from qmpd.human.monitor import execute_line

            execute_line(self._vm.system, "commit all", own_words=True)

    async def _switch(self) -> None:
        """The focus goes on: a human monitor stops in the middle of its line, or begins a new one."""
        multiplexer = self._multiplexer
        if multiplexer.focus in self._kept:
            self._say(b"\r\n")
        number = multiplexer.switch()
        kept = self._kept.get(number)
        if kept is None:
            return
        is_new = kept.endswith(PROMPT)
        self._say(bytes(kept))
        kept.clear()
        if not is_new:
            self._prompt()
            await self._settle(self._monitors[number])

    def _prompt(self) -> None:
        from qmpd.human.terminal import Terminal

        for session in self._vm.dispatcher.sessions:
            if isinstance(session, Terminal) and session.label == self._label:
                session.begin_anew()
        self._vm.work()
