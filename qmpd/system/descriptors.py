"""The open files that clients have handed over: by name (`getfd`) and in sets (`add-fd`)."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Protocol

from qmpd.machine.errors import MachineError


class Source(Protocol):
    """A connection on which files can come."""

    def take_descriptor(self) -> int | None:
        """A file that has come with the client's latest bytes, to be closed by the caller; None without one."""


class _Entry:
    """One file of a set."""

    __slots__ = ("number", "opaque", "removed")

    def __init__(self, number: int, opaque: str | None) -> None:
        self.number = number
        self.opaque = opaque
        self.removed = False


class Descriptors:
    """All files of one machine.  Names belong to one monitor, sets to all of them."""

    __slots__ = ("_named", "_sets")

    def __init__(self) -> None:
        self._named: dict[tuple[str, str], int] = {}
        self._sets: dict[int, list[_Entry]] = {}

    def name(self, monitor: str, name: str, number: int) -> None:
        """Give a file a name; another one of that name is closed."""
        before = self._named.pop((monitor, name), None)
        if before is not None:
            os.close(before)
        self._named[monitor, name] = number

    def forget(self, monitor: str, name: str) -> None:
        """Close the file of this name.

        :raise MachineError: there is none.
        """
        number = self._named.pop((monitor, name), None)
        if number is None:
            raise MachineError(f"File descriptor named '{name}' not found")
        os.close(number)

    def take(self, monitor: str, name: str) -> int | None:
        """The file of this name, which is the caller's from now on; None where there is none."""
        return self._named.pop((monitor, name), None)

    def add(self, number: int, identifier: int | None, opaque: str | None) -> int:
        """Put a file into a set, the first that there is not where none is named; gives the set's number."""
        if identifier is None:
            identifier = next(free for free in range(len(self._sets) + 1) if free not in self._sets)
        self._sets.setdefault(identifier, []).append(_Entry(number, opaque))
        return identifier

    def open(self, identifier: int, way: int) -> int:
        """A copy of the file of a set that can be read and written as `way` says (`os.O_RDWR` and its like).

        :raise OSError: there is no such set (ENOENT), or no such file in it (EACCES).
        """
        if identifier not in self._sets:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for entry in self._sets[identifier]:
            if fcntl.fcntl(entry.number, fcntl.F_GETFL) & os.O_ACCMODE == way & os.O_ACCMODE:
                return fcntl.fcntl(entry.number, fcntl.F_DUPFD_CLOEXEC, 0)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def remove(self, identifier: int, number: int | None, at_once: bool) -> None:
        """Take one file out of a set, or all of them; with `at_once` they are closed and told of no more.

        :raise MachineError: there is no such set, or no such file in it.
        """
        what = f"fdset-id:{identifier}" + ("" if number is None else f", fd:{number}")
        entries = self._sets.get(identifier, [])
        removed = [entry for entry in entries if number is None or entry.number == number]
        if not removed:
            raise MachineError(f"File descriptor named '{what}' not found")
        for entry in removed:
            entry.removed = True
        if at_once:
            for entry in entries:
                if entry.removed:
                    os.close(entry.number)
            left = [entry for entry in entries if not entry.removed]
            if left:
                self._sets[identifier] = left
            else:
                del self._sets[identifier]

    def describe(self) -> list[dict[str, object]]:
        """The sets as query-fdsets tells them, the highest number first."""
        return [
            {"fdset-id": identifier, "fds": [_describe(entry) for entry in self._sets[identifier]]}
            for identifier in sorted(self._sets, reverse=True)
        ]


def _describe(entry: _Entry) -> dict[str, object]:
    described: dict[str, object] = {"fd": entry.number}
    if entry.opaque is not None:
        described["opaque"] = entry.opaque
    return described
