"""The drop-in program's options about its process: background, log, user."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
from typing import TYPE_CHECKING

from qmpd.common.integers import from_digits
from qmpd.common.refusals import Refusal
from qmpd.option_language import key_values
from qmpd.option_language.errors import NOWHERE, OptionError

if TYPE_CHECKING:
    from qmpd.option_language.groups import Entry
    from qmpd.option_language.options import Given
    from qmpd.server.daemon import Daemon

_LARGEST_ID = (1 << 32) - 1
_LAST_STANDARD = 2
_IDS = re.compile(r"([0-9]+):([0-9]+)\Z")


class ProcessOptions:
    """Takes `-daemonize`, `-pidfile`, `-runas`, `-chroot`, `-D` and `-name process=`, and carries them out."""

    def __init__(self) -> None:
        self.daemonize = False
        self.pid_file: str | None = None
        self.name: str | None = None
        self.debug_threads = False
        self.log_file: str | None = None
        # What `-add-fd` puts into sets: the set, the file, and what it is for.
        self.descriptors: list[tuple[int, int, str | None]] = []
        self._root: str | None = None
        self._user: tuple[int, int, str | None] | None = None
        self._daemon: Daemon | None = None

    def take(self, given: Given) -> None:
        """Take one of them.

        :raise OptionError: it is wrong.
        """
        match given.option.name:
            case "daemonize":
                self.daemonize = True
            case "pidfile":
                self.pid_file = given.value
            case "chroot":
                self.set_root(given.value)
            case "D":
                self.log_file = given.value
            case "runas":
                self.set_user(given.value)

    def set_root(self, path: str) -> None:
        """Say which folder the machine is confined to."""
        self._root = path

    def set_user(self, text: str) -> None:
        """Say whose process it becomes.

        :raise OptionError: there is no such user.
        """
        self._user = _user(text)

    def add_descriptors(self, entries: list[Entry]) -> None:
        """Take the files that were handed over for sets (`-add-fd`); they are closed under their old numbers.

        :raise OptionError: one is none, or has no set.
        """
        for entry in entries:
            number, group = (_signed(entry.get(key)) for key in ("fd", "set"))
            if number < 0:
                raise entry.error("fd option is required and must be non-negative")
            if number <= _LAST_STANDARD:
                raise entry.error("fd cannot be a standard I/O stream")
            try:
                usable = os.get_inheritable(number)
            except OSError:
                usable = False
            if not usable:
                raise entry.error("fd is not valid or already in use")
            if group < 0:
                raise entry.error("set option is required and must be non-negative")
            self.descriptors.append((group, os.dup(number), entry.get("opaque")))
        for number in {_signed(entry.get("fd")) for entry in entries}:
            os.close(number)

    def open_of_set(self, identifier: int, way: int) -> int:
        """A copy of a file of a set that can be read and written as `way` says.

        :raise OSError: there is no such set (ENOENT), or no such file in it (EACCES).
        """
        found = [number for group, number, _ in self.descriptors if group == identifier]
        for number in found:
            if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == way & os.O_ACCMODE:
                return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0)
        reason = errno.EACCES if found else errno.ENOENT
        raise OSError(reason, os.strerror(reason))

    def descriptor(self, group: int) -> int | None:
        """The file of the set of this number; None where there is none."""
        return next((number for each, number, _ in self.descriptors if each == group), None)

    def open_log(self, *, logs: bool, always: bool) -> None:
        """Make the file for the log; `always`: even where nothing is to be logged.

        :raise Refusal: it cannot be written.
        """
        if self.log_file is None:
            return
        if self.log_file.count("%") > 1 or ("%" in self.log_file and "%d" not in self.log_file):
            raise OptionError(f"Bad logfile template: {self.log_file}", NOWHERE)
        if not (logs or always or self.daemonize):
            return
        path = self.log_file.replace("%d", str(os.getpid()))
        try:
            with open(path, "w", encoding="utf-8"):
                pass
        except OSError as error:
            raise Refusal("log-unwritable", path=path, reason=error.strerror).at(NOWHERE) from None

    def begin(self) -> None:
        """Go to the background, where that is asked for; nothing is listened at before."""
        if self.daemonize:
            from qmpd.server.daemon import Daemon

            self._daemon = Daemon()
        if self.name is not None:
            _rename(self.name)

    def settle(self) -> None:
        """The machine starts: give up rights and let the caller go.

        :raise OptionError: a right cannot be given up.
        """
        self._confine()
        if self._daemon is not None:
            self._daemon.ready()
            self._daemon = None

    def _confine(self) -> None:
        if self._root is not None:
            # Nothing of the guest's is ever opened here, and Python's modules are loaded when they are needed:
            # the folder is looked at, as QEMU does, and the process stays where it is.
            try:
                os.close(os.open(self._root, os.O_PATH | os.O_DIRECTORY))
            except OSError:
                raise OptionError("chroot failed") from None
        if self._user is None:
            return
        user, group, name = self._user
        try:
            os.setgid(group)
        except OSError:
            raise OptionError(f"Failed to setgid({group})") from None
        try:
            if name is None:
                os.setgroups([group])
            else:
                os.initgroups(name, group)
        except OSError:
            raise OptionError(f'Failed to initgroups("{name}", {group})') from None
        try:
            os.setuid(user)
        except OSError:
            raise OptionError(f"Failed to setuid({user})") from None


def _signed(text: str | None) -> int:
    """A number as C's `int`; -1 where there is none."""
    if text is None:
        return -1
    number = key_values.number("", text) & 0xFFFF_FFFF
    return number if number < 1 << 31 else number - (1 << 32)


def _user(text: str) -> tuple[int, int, str | None]:
    """A user's id, its group's, and its name.

    :raise OptionError: there is no such user.
    """
    try:
        found = pwd.getpwnam(text)
        return found.pw_uid, found.pw_gid, text
    except (KeyError, ValueError):
        match = _IDS.match(text)
    if match is None:
        raise OptionError(f'User "{text}" doesn\'t exist (and is not <uid>:<gid>)')
    if max(from_digits(match[1]), from_digits(match[2])) > _LARGEST_ID:
        raise OptionError(f'User "{text}" doesn\'t exist (and is not <uid>:<gid>)')
    return from_digits(match[1]), from_digits(match[2]), None


def _rename(name: str) -> None:
    """Call this process something else, for `ps` and the like (`-name process=`)."""
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as comm:
            comm.write(name)
    except OSError:
        pass  # only its looks suffer
