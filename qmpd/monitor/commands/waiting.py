"""Commands that wait, because they open a pipe that nobody writes to yet.

QEMU's driver blkdebug reads its configuration file when the node is made, so a named pipe blocks `blockdev-add` until
somebody opens the other end; there all of QEMU waits but out-of-band commands, here the client alone does.
(tests/qtest/qmp-test relies on it.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments, Handler
    from qmpd.system.system import System


def waits_for_pipes(handler: Handler) -> Handler:
    """The same handler, after each pipe among its arguments' files has been written."""

    def waiting(system: System, session: Client, arguments: Arguments) -> object:
        deferred = Deferred(lambda: handler(system, session, arguments))
        if system.host is not None:
            for path in _configurations(arguments):
                if system.host.wait_for_writer(path, deferred.ready):
                    return deferred
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
