"""A fleet's counts for Prometheus, and whether it lives, over HTTP: `/metrics`, `/healthz`, and nothing else.

Whoever connects may be slow, silent or many: a client has `PATIENCE` for all it wants, and where there are
`MOST_CLIENTS` already the one that has been there longest makes room.
"""

from __future__ import annotations

import socket
import traceback
from typing import TYPE_CHECKING

import h11
import trio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from qmpd.server import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from prometheus_client.metrics_core import Metric

    from qmpd.control.fleet import FleetStatistics
    from qmpd.server.listener import Listener

    class Counted(Protocol):
        """Whoever keeps count (`qmpd.server.fleet.Fleet`)."""

        def statistics(self) -> FleetStatistics:
            """The counts of now."""


MOST_CLIENTS = 16
"""Clients that are connected at once."""

PATIENCE = 5.0
"""Seconds that a client has to send its request and take the answer."""

MOST_BYTES = 1 << 14
"""Bytes that a request's head may have."""

_CHUNK = 1 << 16


class FleetCollector(Collector):
    """Reads the counts whenever they are asked for."""

    def __init__(self, fleet: Counted) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        """The metrics of now."""
        counts = self._fleet.statistics()
        yield GaugeMetricFamily("qmpd_machines", "Machines served", counts.machines)
        yield GaugeMetricFamily("qmpd_clients", "Clients connected to the machines' QMP sockets", counts.clients)
        yield CounterMetricFamily("qmpd_machines_created", "Machines created", counts.created)
        yield CounterMetricFamily("qmpd_machines_destroyed", "Machines that have ended", counts.destroyed)
        yield CounterMetricFamily("qmpd_machines_failed", "Machines that ended by an error of qmpd's", counts.failed)
        yield CounterMetricFamily("qmpd_connections", "Clients accepted", counts.connections)
        yield CounterMetricFamily("qmpd_commands", "QMP commands executed", counts.commands)
        yield CounterMetricFamily("qmpd_events", "QMP events emitted", counts.events)


def _registry(fleet: Counted) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FleetCollector(fleet))
    return registry


def metrics_text(fleet: Counted) -> str:
    """All metrics in Prometheus's text format."""
    return generate_latest(_registry(fleet)).decode()


class MetricsServer:
    """Answers at one TCP socket that listens.

    It does so in the fleet's own loop: nothing changes while it counts.
    """

    def __init__(self, fleet: Counted, listener: Listener) -> None:
        self._registry = _registry(fleet)
        self._listener = listener
        # What ends a client, the longest connected first.
        self._clients: dict[trio.CancelScope, None] = {}

    async def run(self) -> None:
        """Serve until it is cancelled."""
        async with trio.open_nursery() as nursery:
            while (accepted := await self._listener.accept("a client of the metrics")) is not None:
                if len(self._clients) >= MOST_CLIENTS:
                    first = next(iter(self._clients))
                    first.cancel()
                    del self._clients[first]
                scope = trio.CancelScope()
                self._clients[scope] = None
                nursery.start_soon(self._serve, accepted[0], scope)

    async def _serve(self, client: socket.socket, scope: trio.CancelScope) -> None:
        scope.deadline = trio.current_time() + PATIENCE
        try:
            with client, scope:
                await self._converse(client)
        except OSError:
            pass  # it is gone
        except Exception:
            log.error(f"a client of the metrics is disconnected:\n{traceback.format_exc().rstrip()}")
        finally:
            self._clients.pop(scope, None)

    async def _converse(self, client: socket.socket) -> None:
        """Take one request and answer it."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_BYTES)
        try:
            while (event := connection.next_event()) is h11.NEED_DATA:
                await trio.lowlevel.wait_readable(client)
                connection.receive_data(client.recv(_CHUNK))
        except h11.RemoteProtocolError as error:
            await _send(client, connection, error.error_status_hint, "text/plain", f"{error}\n".encode())
            return
        if not isinstance(event, h11.Request):
            return  # it has closed without a word
        status, kind, body = self._answer(event)
        await _send(client, connection, status, kind, body, with_body=event.method != b"HEAD")

    def _answer(self, request: h11.Request) -> tuple[int, str, bytes]:
        """The status, the content's type, and the content."""
        path = request.target.partition(b"?")[0]
        if path not in (b"/metrics", b"/healthz"):
            return 404, "text/plain", b"there are /metrics and /healthz\n"
        if request.method not in (b"GET", b"HEAD"):
            return 405, "text/plain", b"these are to be read\n"
        if path == b"/healthz":
            return 200, "text/plain", b"ok\n"
        accepted = b",".join(value for name, value in request.headers if name == b"accept")
        encode, kind = choose_encoder(accepted.decode("latin-1"))
        return 200, kind, encode(self._registry)


async def _send(
    client: socket.socket, connection: h11.Connection, status: int, kind: str, body: bytes, *, with_body: bool = True
) -> None:
    headers = [("content-type", kind), ("content-length", str(len(body))), ("connection", "close")]
    if status == 405:
        headers.append(("allow", "GET, HEAD"))
    data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    if with_body:
        data += connection.send(h11.Data(data=body)) or b""
    left = memoryview(data)
    while left:
        await trio.lowlevel.wait_writable(client)
        left = left[client.send(left) :]
    # A socket that is closed with something unread would take the answer back.
    client.shutdown(socket.SHUT_WR)
    while True:
        await trio.lowlevel.wait_readable(client)
        if not client.recv(_CHUNK):
            return
