"""What the client of a character device says to the machine, and the machine to him."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import trio

from qmpd.server.chardevs.copying import CHUNK
from qmpd.server.chardevs.outlet import Outlet

if TYPE_CHECKING:
    import socket

    from qmpd.chardev.front_ends import FrontEnd
    from qmpd.server.owner import DeviceOwner

LOOK = 0.2
"""Seconds between two looks at whether a client has left of which no more is read."""

BITE = 1 << 8
"""Bytes that are taken from a client at once, so that what it asks for is done while others have their turn."""


def front_end(vm: DeviceOwner, label: str) -> FrontEnd:
    """The machine's end of a device."""
    return vm.system.front_end(label) or vm.system.make_front_end(label)


async def listen(vm: DeviceOwner, label: str, client: socket.socket) -> None:
    """Give the machine's end of a device what its client says, until he leaves; where nobody listens it is lost.

    :raise OSError: the client has turned away.
    """
    end = front_end(vm, label)
    Outlet(client, end, vm.nursery)
    while True:
        most = await room(end, client)
        await trio.lowlevel.wait_readable(client)
        try:
            data = client.recv(min(BITE if end.holds else CHUNK, most))
        except BlockingIOError:
            continue
        if not data:
            return
        front_end(vm, label)  # whoever listens is to be ready
        end.feed(data)


async def room(end: FrontEnd, client: socket.socket) -> int:
    """Wait until the machine's end has room for more; gives for how many bytes.

    :raise BrokenPipeError: the client has left meanwhile.
    """
    looking: select.poll | None = None
    while not (most := end.room):
        if looking is None:
            looking = select.poll()
            looking.register(client, 0)
        if looking.poll(0):
            raise BrokenPipeError
        resumed = trio.Event()
        end.resumed = resumed.set
        with trio.move_on_after(LOOK):
            await resumed.wait()
    return most
