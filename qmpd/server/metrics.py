"""A fleet's counts for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.metrics_core import Metric

    from qmpd.server.fleet import Fleet


class FleetCollector(Collector):
    """Reads the counts whenever they are asked for."""

    def __init__(self, fleet: Fleet) -> None:
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


def _registry(fleet: Fleet) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(FleetCollector(fleet))
    return registry


def metrics_text(fleet: Fleet) -> str:
    """All metrics in Prometheus's text format."""
    return generate_latest(_registry(fleet)).decode()


def serve_metrics(fleet: Fleet, address: str, port: int) -> WSGIServer:
    """Serve the metrics over HTTP, in a thread of its own.

    :raise OSError: the address cannot be listened on.
    """
    from prometheus_client import start_http_server

    server, _ = start_http_server(port, addr=address, registry=_registry(fleet))
    return server
