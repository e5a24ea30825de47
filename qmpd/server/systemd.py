"""What a service manager hands to a service and wants to hear: sd_listen_fds(3) and sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket

from qmpd.common.integers import is_digits

FIRST = 3
"""The number of the first descriptor that is handed over (SD_LISTEN_FDS_START)."""


def handed_over() -> list[tuple[str, int]]:
    """The sockets that the service manager has opened for this process, each with its name, and forget them.

    A socket's name is its FileDescriptorName=; those of a unit that gives none are called after the unit.
    """
    process, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if process != str(os.getpid()) or not is_digits(count):
        return []
    known = names.split(":") if names else []
    sockets = []
    for index in range(int(count)):
        os.set_inheritable(FIRST + index, False)
        sockets.append((known[index] if index < len(known) else "", FIRST + index))
    return sockets


def path_of(descriptor: int) -> str | None:
    """Where the Unix socket of this descriptor listens; None where it is no such socket."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as each:
        if each.family == socket.AF_UNIX and each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            name = each.getsockname()
            return name if isinstance(name, str) else None
    return None


def notify(state: str) -> None:
    """Tell the service manager, where one listens: `READY=1`, `STOPPING=1`, ..."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        # One that does not listen is not waited for.
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as manager,
    ):
        manager.sendto(state.encode(), address)
