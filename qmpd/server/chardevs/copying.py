"""Copying between a monitor's socket and the descriptors of its character device."""

from __future__ import annotations

import os
import select
import socket

import trio

from qmpd.server.writer import Writer

CHUNK = 1 << 16
"""Bytes that are copied at once."""

MOST = 1 << 18
"""Bytes that wait to be written."""

PATIENCE = 0.01
"""Seconds until it is tried again to hand over what the thread has no room for."""

FAREWELL = 1.0
"""Seconds that a device is given to take the rest when the machine has ended."""


# What is being copied out now: the socket that it comes from, and what writes it.
_outward: list[tuple[socket.socket, Writer]] = []


def is_out() -> bool:
    """Whether all is written that monitors have handed over by now."""
    return not any(writer.waiting or select.select([ours], [], [], 0)[0] for ours, writer in _outward)


def _can_wait(number: int) -> bool:
    """Whether one can wait for a descriptor; a file on a disk can always be read and written."""
    with select.epoll() as probe:
        try:
            probe.register(number)
        except PermissionError:
            return False
    return True


async def _readable(number: int, can_wait: bool) -> None:
    if can_wait:
        await trio.lowlevel.wait_readable(number)
    else:
        await trio.lowlevel.checkpoint()


async def copy_in(reads: int, ours: socket.socket) -> None:
    """Hand what can be read to the monitor until it ends."""
    can_wait = _can_wait(reads)
    while True:
        await _readable(reads, can_wait)
        try:
            data = memoryview(os.read(reads, CHUNK))
        except BlockingIOError:
            continue
        except OSError:
            return  # EIO: the other end of the pseudo-terminal was closed
        if not data:
            return
        while data:
            try:
                await trio.lowlevel.wait_writable(ours)
                data = data[ours.send(data) :]
            except BlockingIOError:
                continue
            except OSError:
                return


async def copy_out(ours: socket.socket, writes: int) -> None:
    """Write what the monitor says; when the machine ends, all that it has said by then.

    Whoever reads it may take his time: a thread writes, and the monitor's socket holds back what is not taken.
    """
    writer = Writer(writes, MOST, owned=False)
    _outward.append((ours, writer))
    try:
        while True:
            await trio.lowlevel.wait_readable(ours)
            data = ours.recv(CHUNK)
            if not data:
                return
            while not writer.write(data):
                if writer.error is not None:
                    return  # nobody reads it any more
                await trio.sleep(PATIENCE)
    except OSError:
        return
    finally:
        _outward.remove((ours, writer))
        _drain(ours, writer)


def _drain(ours: socket.socket, writer: Writer) -> None:
    try:
        while writer.error is None:
            data = ours.recv(CHUNK)
            if not data:
                break
            while not writer.write(data):
                if not writer.settle(FAREWELL):
                    return
    except OSError:
        pass  # there is no more
    finally:
        writer.close(FAREWELL)
