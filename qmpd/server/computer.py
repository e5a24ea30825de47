"""The computer that rules ask about (`qmpd.common.computer`)."""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# TUNGETIFF of linux/if_tun.h, and how long its struct ifreq is.
_GET_INTERFACE = 0x800454D2
_INTERFACE_BYTES = 40


class ThisComputer:
    """Its files."""

    __slots__ = ()

    def connect(self, address: Mapping[str, Any]) -> Any:
        """See `qmpd.common.computer.Computer`."""
        from qmpd.server.network import connect_server

        return connect_server(address)

    def check_access(self, path: str) -> None:
        """See `qmpd.common.computer.Computer`."""
        os.stat(path)

    def check_readable(self, path: str) -> None:
        """See `qmpd.common.computer.Computer`."""
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    def check_folder(self, path: str) -> None:
        """See `qmpd.common.computer.Computer`."""
        os.stat(os.path.dirname(path) or ".")

    def check_bindable(self, host: str, port: str, *, datagrams: bool = False) -> None:
        """See `qmpd.common.computer.Computer`."""
        from qmpd.server.places import bind_inet

        bind_inet(host, port, datagrams=datagrams).close()

    def is_folder(self, path: str) -> bool:
        """See `qmpd.common.computer.Computer`."""
        return os.path.isdir(path)

    def is_plain(self, path: str) -> bool:
        """See `qmpd.common.computer.Computer`."""
        return stat.S_ISREG(os.stat(path).st_mode)

    def read(self, path: str) -> bytes:
        """See `qmpd.common.computer.Computer`."""
        with open(path, "rb") as file:
            return file.read()

    def size(self, path: str) -> int:
        """See `qmpd.common.computer.Computer`."""
        found = os.stat(path)
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def descriptor_kind(self, number: int) -> str:
        """See `qmpd.common.computer.Computer`."""
        try:
            mode = os.fstat(number).st_mode
        except OverflowError:
            mode = os.fstat(-1).st_mode
        if stat.S_ISSOCK(mode):
            return "socket"
        if stat.S_ISFIFO(mode):
            return "pipe"
        return "tap" if stat.S_ISCHR(mode) and _is_tap(number) else "other"


def _is_tap(number: int) -> bool:
    try:
        fcntl.ioctl(number, _GET_INTERFACE, bytes(_INTERFACE_BYTES))
    except OSError:
        return False
    return True
