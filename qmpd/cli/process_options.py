"""The drop-in program's options about its process: background, log, user."""

from __future__ import annotations

import os
import pwd
import re
from typing import TYPE_CHECKING

from qmpd.cli.errors import OptionError

if TYPE_CHECKING:
    from qmpd.cli.options import Given
    from qmpd.server.daemon import Daemon

_IDS = re.compile(r"(\d+):(\d+)\Z")


class ProcessOptions:
    """Takes `-daemonize`, `-pidfile`, `-runas`, `-chroot`, `-D` and `-name process=`, and carries them out."""

    def __init__(self) -> None:
        self.daemonize = False
        self.pid_file: str | None = None
        self.name: str | None = None
        self.log_file: str | None = None
        self.logs = False
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
                self._root = given.value
            case "D":
                self.log_file = given.value
            case "runas":
                self._user = _user(given.value)

    def begin(self) -> None:
        """Go to the background, where that is asked for, and begin the log; nothing is made or opened before.

        :raise OptionError: the log cannot be written.
        """
        if self.log_file is not None and (self.logs or self.daemonize):
            path = self.log_file.replace("%d", str(os.getpid()))
            try:
                with open(path, "a", encoding="utf-8"):
                    pass
            except OSError as error:
                raise OptionError(f"Error opening logfile {path}: {error.strerror}") from None
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
            raise OptionError(f"Failed to initgroups(\"{name}\", {group})") from None
        try:
            os.setuid(user)
        except OSError:
            raise OptionError(f"Failed to setuid({user})") from None


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
        raise OptionError(f"User \"{text}\" doesn't exist (and is not <uid>:<gid>)")
    return int(match[1]), int(match[2]), None


def _rename(name: str) -> None:
    """Call this process something else, for `ps` and the like (`-name process=`)."""
    try:
        with open("/proc/self/comm", "w", encoding="utf-8") as comm:
            comm.write(name)
    except OSError:
        pass  # only its looks suffer
