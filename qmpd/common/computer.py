"""What rules ask of the computer that they run on: whoever has input and output answers (`qmpd.server.computer`)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.refusals import NotModelled

if TYPE_CHECKING:
    from collections.abc import Mapping


class Computer(Protocol):
    """Files and open files.  Each fails with the operating system's own OSError."""

    def connect(self, address: Mapping[str, Any]) -> Any:
        """A connection to a server (QAPI's SocketAddress), as `qmpd.block.exports.client.Stream` has it.

        :raise Refusal: it cannot be reached.
        """

    def check_access(self, path: str) -> None:
        """See whether there is a file at a path.

        :raise OSError: there is none, or it cannot be looked at.
        """

    def check_readable(self, path: str) -> None:
        """See whether a file can be opened for reading.

        :raise OSError: it cannot.
        """

    def check_folder(self, path: str) -> None:
        """See whether there is the folder that a file at this path would be in.

        :raise OSError: there is none.
        """

    def check_bindable(self, host: str, port: str, *, datagrams: bool = False) -> None:
        """See whether a socket can have this IPv4 address; an empty host is any, and the port a number.

        :raise OSError: it cannot.
        """

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder at a path."""

    def is_plain(self, path: str) -> bool:
        """Whether a plain file is at a path.

        :raise OSError: there is nothing, or it cannot be looked at.
        """

    def read(self, path: str) -> bytes:
        """The content of a file.

        :raise OSError: it cannot be read.
        """

    def size(self, path: str) -> int:
        """How many bytes a file has; 0 of what is no plain file.

        :raise OSError: it cannot be looked at.
        """

    def descriptor_kind(self, number: int) -> str:
        """What an open file is: `socket`, `pipe`, `tap` or `other`.

        :raise OSError: it is not open.
        """


class NoComputer:
    """A computer without any files."""

    __slots__ = ()

    def connect(self, address: Mapping[str, Any]) -> Any:
        """See `Computer`."""
        raise NotModelled("connections of a computer that has none")

    def check_access(self, path: str) -> None:
        """See `Computer`."""
        raise _missing()

    def check_readable(self, path: str) -> None:
        """See `Computer`."""
        raise _missing()

    def check_folder(self, path: str) -> None:
        """See `Computer`."""
        raise _missing()

    def check_bindable(self, host: str, port: str, *, datagrams: bool = False) -> None:
        """See `Computer`; here no socket is ever made."""

    def is_folder(self, path: str) -> bool:
        """See `Computer`."""
        return False

    def is_plain(self, path: str) -> bool:
        """See `Computer`."""
        raise _missing()

    def read(self, path: str) -> bytes:
        """See `Computer`."""
        raise _missing()

    def size(self, path: str) -> int:
        """See `Computer`."""
        raise _missing()

    def descriptor_kind(self, number: int) -> str:
        """See `Computer`."""
        raise OSError(errno.EBADF, "Bad file descriptor")


def _missing() -> OSError:
    return FileNotFoundError(errno.ENOENT, "No such file or directory")


class Asker(Protocol):
    """Who asks for something, as far as that decides what is meant."""

    def descriptor(self, text: str) -> int:
        """The number of the open file that a text names.

        :raise Refusal: it names none.
        """

    def complain(self, text: str) -> None:
        """Print what a program that was asked for help would have said itself."""
