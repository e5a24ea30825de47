"""The programs of the guest: scripted ones, and a handful that any guest has.

A program is a function of how it is called; it says what it prints, how it ends, and how long it takes on the
machine's own time.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from qmpd.block.images.errors import failure
from qmpd.guest.agent.calls import ERR, OUT, Call, Ending, Program, printing
from qmpd.guest.agent.shell import run


def _echo(call: Call) -> Ending:
    arguments = list(call.arguments)
    end = "\n"
    if arguments[:1] == ["-n"]:
        end, arguments = "", arguments[1:]
    return printing(" ".join(arguments) + end)


def _cat(call: Call) -> Ending:
    return Ending(((OUT, call.input),))


def _environment(call: Call) -> Ending:
    return printing("".join(f"{name}={value}\n" for name, value in call.environment.items()))


def _sleep(call: Call) -> Ending:
    try:
        return Ending(seconds=sum(float(each) for each in call.arguments))
    except ValueError:
        return Ending(((ERR, f"sleep: invalid time interval '{call.arguments[0]}'\n".encode()),), 1)


def _shell(call: Call) -> Ending:
    return run(call, {name.rpartition("/")[2]: program for name, program in USUAL.items()})


USUAL: Mapping[str, Program] = {
    "/bin/true": lambda call: Ending(),
    "/bin/false": lambda call: Ending(status=1),
    "/bin/echo": _echo,
    "/bin/cat": _cat,
    "/bin/env": _environment,
    "/bin/sleep": _sleep,
    "/bin/sh": _shell,
    "/bin/bash": _shell,
}
"""What any guest has, by path; /usr/bin and a bare name find them, too."""

_FOLDERS = ("/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/")


class Programs:
    """The programs of one guest; `scripted` are those that somebody has put there."""

    def __init__(self) -> None:
        self.scripted: dict[str, Program] = {}

    def run(self, call: Call) -> Ending:
        """Run one.

        :raise OSError: there is no such program.
        """
        program = self.scripted.get(call.path) or self._find(call.path)
        if program is None:
            raise failure(errno.ENOENT)
        return program(call)

    def _find(self, path: str) -> Program | None:
        folder, slash, name = path.rpartition("/")
        if slash and f"{folder}/" not in _FOLDERS:
            return None
        known = {**USUAL, **self.scripted}
        return next((known[f"{each}{name}"] for each in _FOLDERS if f"{each}{name}" in known), None) if name else None
