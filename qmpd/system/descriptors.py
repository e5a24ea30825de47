"""The open files that clients have handed over: by name (`getfd`) and in sets (`add-fd`)."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any


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


class _Set:
    """A set of files, and how many copies of them are in use."""

    __slots__ = ("entries", "users")

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.users = 0

    def close(self, entries: list[_Entry]) -> None:
        """Close these of its files."""
        for entry in entries:
            os.close(entry.number)
        self.entries = [entry for entry in self.entries if entry not in entries]


class Descriptors:
    """All files of one machine.  Names belong to one monitor, sets to all of them.

    A set is there as long as it has a file or a user.
    """

    __slots__ = ("_named", "_sets")

    def __init__(self) -> None:
        self._named: dict[tuple[str, str], int] = {}
        self._sets: dict[int, _Set] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is no file."""
        return not (self._named or self._sets)

    # Names

    def name(self, monitor: str, name: str, number: int) -> None:
        """Give a file a name; another one of that name is closed."""
        before = self._named.pop((monitor, name), None)
        if before is not None:
            os.close(before)
        self._named[monitor, name] = number

    def has_name(self, monitor: str, name: str) -> bool:
        """Whether the monitor has a file of this name."""
        return (monitor, name) in self._named

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

    def close(self, number: int) -> None:
        """Close a file that was taken and is of no use."""
        os.close(number)

    # Sets

    def add(self, number: int, identifier: int | None, opaque: str | None) -> int:
        """Put a file into a set, the first that there is not where none is named; gives the set's number."""
        if identifier is None:
            identifier = next(free for free in range(len(self._sets) + 1) if free not in self._sets)
        self._sets.setdefault(identifier, _Set()).entries.append(_Entry(number, opaque))
        return identifier

    def open(self, identifier: int, way: int, *, is_counted: bool = True) -> int:
        """A copy of the file of a set that can be read and written as `way` says (`os.O_RDWR` and its like).

        Who has it uses the set, until `let_go`; where it is not `is_counted` others tell who does (`users`).

        :raise OSError: there is no such set (ENOENT), or no such file in it (EACCES).
        """
        if identifier not in self._sets:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for entry in self._sets[identifier].entries:
            if fcntl.fcntl(entry.number, fcntl.F_GETFL) & os.O_ACCMODE == way & os.O_ACCMODE:
                copy = fcntl.fcntl(entry.number, fcntl.F_DUPFD_CLOEXEC, 0)
                self._sets[identifier].users += is_counted
                return copy
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def open_to_write(self, identifier: int) -> int:
        """The same of a file that can be written, and not read."""
        return self.open(identifier, os.O_WRONLY)

    def let_go(self, identifier: int, at_once: bool) -> None:
        """A copy is closed: without users, a set closes what was removed from it, if that is to be done `at_once`."""
        found = self._sets.get(identifier)
        if found is not None:
            found.users -= 1
            if not found.users:
                self._tidy(identifier, at_once)

    def remove(self, identifier: int, number: int | None, at_once: bool, users: Collection[int] = ()) -> None:
        """Take one file out of a set, or all of them; with `at_once` they are closed and told of no more.

        `users` are the numbers of sets that are used though no copy is counted.

        :raise MachineError: there is no such set, or no such file in it.
        """
        what = f"fdset-id:{identifier}" + ("" if number is None else f", fd:{number}")
        found = self._sets.get(identifier)
        removed = [entry for entry in found.entries if number is None or entry.number == number] if found else []
        if not removed:
            raise MachineError(f"File descriptor named '{what}' not found")
        for entry in removed:
            entry.removed = True
        self._tidy(identifier, at_once, users)

    def clean_up(self, unused: bool, users: Collection[int]) -> None:
        """Close what was removed from sets, and with `unused` all files of those that nothing uses.

        `users` are the numbers of sets that are used though no copy is counted.
        """
        for identifier, each in list(self._sets.items()):
            if unused and not each.users and identifier not in users:
                each.close(each.entries)
            self._tidy(identifier, True, users)

    def _tidy(self, identifier: int, at_once: bool, users: Collection[int] = ()) -> None:
        found = self._sets[identifier]
        if at_once:
            found.close([entry for entry in found.entries if entry.removed])
        if not (found.entries or found.users or identifier in users):
            del self._sets[identifier]

    # A live update

    def snapshot(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """All of them as plain data; `keep` gives the number by which that refers to an open file.

        Users are left out: those that go on say so themselves (`use`).
        """
        return {
            "named": [[*names, keep(number)] for names, number in self._named.items()],
            "sets": [
                [identifier, [[keep(entry.number), entry.opaque, entry.removed] for entry in each.entries]]
                for identifier, each in self._sets.items()
            ],
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any], descriptors: Sequence[int]) -> Descriptors:
        """What `snapshot` has told of; the numbers of the files are this process's."""
        restored = cls()
        for monitor, name, number in state["named"]:
            restored._named[monitor, name] = descriptors[number]
        for identifier, entries in state["sets"]:
            made = restored._sets[identifier] = _Set()
            for number, opaque, removed in entries:
                made.entries.append(_Entry(descriptors[number], opaque))
                made.entries[-1].removed = removed
        return restored

    def use(self, identifier: int) -> None:
        """Somebody has a copy of a file of this set, opened by another process."""
        if identifier in self._sets:
            self._sets[identifier].users += 1

    def describe(self, users: Collection[int] = ()) -> list[dict[str, object]]:
        """The sets as query-fdsets tells them, the highest number first.

        `users` are the numbers of sets that are used though no copy is counted.
        """
        for identifier in list(self._sets):
            self._tidy(identifier, False, users)
        return [
            {"fdset-id": identifier, "fds": [_describe(entry) for entry in self._sets[identifier].entries]}
            for identifier in sorted(self._sets, reverse=True)
        ]


def _describe(entry: _Entry) -> dict[str, object]:
    described: dict[str, object] = {"fd": entry.number}
    if entry.opaque is not None:
        described["opaque"] = entry.opaque
    return described
