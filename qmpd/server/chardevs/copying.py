"""Copying between a monitor's socket and the descriptors of its character device."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import socket

CHUNK = 1 << 16
"""Bytes that are copied at once."""


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


async def _writable(number: int, can_wait: bool) -> None:
    if can_wait:
        await trio.lowlevel.wait_writable(number)
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
    """Write what the monitor says; when the machine ends, all that it has said by then."""
    can_wait = _can_wait(writes)
    data = memoryview(b"")
    try:
        while True:
            await trio.lowlevel.wait_readable(ours)
            data = memoryview(ours.recv(CHUNK))
            if not data:
                return
            while data:
                await _writable(writes, can_wait)
                try:
                    data = data[os.write(writes, data) :]
                except BlockingIOError:
                    continue
    except OSError:
        return  # nobody reads it any more
    finally:
        _drain(ours, writes, data)


def _drain(ours: socket.socket, writes: int, data: memoryview) -> None:
    while True:
        try:
            while data:
                data = data[os.write(writes, data) :]
            data = memoryview(ours.recv(CHUNK))
        except OSError:
            return
        if not data:
            return
