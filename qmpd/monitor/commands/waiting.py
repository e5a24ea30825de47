"""Commands that wait, because they open a pipe that nobody writes to yet, or connect to a server.

QEMU's driver blkdebug reads its configuration file when the node is made, so a named pipe blocks `blockdev-add` until
somebody opens the other end; there all of QEMU waits but out-of-band commands, here the client alone does.
(tests/qtest/qmp-test relies on it.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.servers import wanted_by
from qmpd.common.refusals import Refusal
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments, Handler
    from qmpd.system.system import System


def apart(handler: Handler) -> Handler:
    """The same handler, which the main loop does not wait for where it waits for disks or servers."""

    def execute(system: System, session: Client, arguments: Arguments) -> object:
        if system.host is None:
            return handler(system, session, arguments)
        return system.disks.apart.run(lambda: handler(system, session, arguments))

    return execute


def looks(handler: Handler) -> Handler:
    """The same for a query."""

    def execute(system: System, session: Client, arguments: Arguments) -> object:
        if system.host is None or system.is_bare:
            return handler(system, session, arguments)
        return system.disks.apart.look(lambda: handler(system, session, arguments))

    return execute


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


def waits_for_servers(handler: Handler) -> Handler:
    """The same handler, after the servers of all nodes among its arguments have been connected to, in a thread."""

    def waiting(system: System, session: Client, arguments: Arguments) -> object:
        wanted = list(wanted_by(arguments))
        if not wanted or system.host is None:
            return handler(system, session, arguments)
        servers = system.inventory.backends.block.servers

        def finish() -> object:
            try:
                return handler(system, session, arguments)
            finally:
                servers.settle()

        try:
            work = [servers.ahead(each, _resolved(system, session, each)) for each in wanted]
        except Refusal:
            # The handler refuses that in its own order.
            return handler(system, session, arguments)
        deferred = Deferred(finish)

        def connect() -> None:
            for each in work:
                each()

        system.host.do_apart(connect, deferred.ready)
        return deferred

    return waiting


def _resolved(system: System, session: Client, options: dict[str, Any]) -> dict[str, Any] | None:
    """The server of a node whose address is an open file with a name (`getfd`); None for any other."""
    server = options.get("server")
    if not isinstance(server, dict) or server.get("type") != "fd" or system.descriptors is None:
        return None
    number = system.descriptors.take(session.label, str(server["str"]))
    return None if number is None else {"type": "fd", "str": str(number)}
