"""Commands that keep the main loop waiting, because they open a pipe that nobody writes to yet.

QEMU's driver blkdebug reads its configuration file when the node is made, so a named pipe blocks `blockdev-add` until
somebody opens the other end; meanwhile only out-of-band commands are executed.  (tests/qtest/qmp-test relies on it.)
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, cast

from qmpd.monitor.errors import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments, Handler
    from qmpd.monitor.session import Session
    from qmpd.system.system import System


def waits_for_pipes(handler: Handler) -> Handler:
    """The same handler, after each pipe among its arguments' files has been written."""

    def waiting(system: System, session: Client, arguments: Arguments) -> object:
        for path in _configurations(arguments):
            try:
                if not stat.S_ISFIFO(os.stat(path).st_mode):
                    continue
                # A reader that does not block waits for the first writer's end of file.
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue  # the handler says what is wrong with it
            raise Waiting(cast("Session", session), descriptor, lambda: handler(system, session, arguments))
        return handler(system, session, arguments)

    return waiting


def _configurations(value: object) -> Iterator[str]:
    """The configuration files of a node and of those below it."""
    if not isinstance(value, dict):
        return
    path = value.get("config")
    if value.get("driver") == "blkdebug" and isinstance(path, str):
        yield path
    for each in value.values():
        yield from _configurations(each)
