"""The fleet's control socket: machines are created, listed and destroyed while the fleet runs.

It speaks what the control socket of one machine speaks (`qmpd.control.dispatcher`), with these commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from qmpd.control.declaration import Group, command
from qmpd.control.dispatcher import ControlDispatcher
from qmpd.control.own_commands import SessionControl, VersionInfo, VersionTriple
from qmpd.qapi.folders import common_words
from qmpd.qapi.refusals import Wordings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.control.interface import Interface
    from qmpd.control.performance import Declaration, Steps
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.control.stage import Stage
    from qmpd.monitor.session import Session

PACKAGE = "qmpd fleet socket"


@dataclass(frozen=True, slots=True)
class FleetMachine:
    """One machine of a fleet: its run state, where its sockets are, and how many clients it has on its QMP socket."""

    name: str
    release: str
    status: str
    qmp_path: str
    control_path: str | None
    clients: int


@dataclass(frozen=True, slots=True)
class FleetStatistics:
    """How many machines, clients, commands and events there are and have been since the fleet started.

    `failed` machines ended by an error of qmpd's own; `commands` and `events` are those of the QMP sockets.
    """

    machines: int
    created: int
    destroyed: int
    failed: int
    clients: int
    connections: int
    commands: int
    events: int


@dataclass(frozen=True, slots=True)
class FleetMetrics:
    """The statistics in Prometheus's text format."""

    text: str


class FleetHost(Protocol):
    """Whoever keeps the machines (`qmpd.server.fleet.Fleet`)."""

    @property
    def version(self) -> tuple[int, int, int]:
        """The version that the greeting shows: that of the machines' release, unless they say otherwise."""

    def create_machine(self, name: str | None, release: str | None, options: list[str] | None) -> FleetMachine:
        """Create a machine and serve it."""

    def destroy_machine(self, name: str) -> None:
        """End a machine at once."""

    def machines(self) -> list[FleetMachine]:
        """All machines, in the order of their creation."""

    def statistics(self) -> FleetStatistics:
        """The counts of now."""

    def metrics(self) -> str:
        """The counts in Prometheus's text format."""

    def end(self) -> None:
        """End all machines, and the fleet."""

    def report(self, text: str) -> None:
        """Tell what qmpd itself has failed at."""


class FleetControl(Group):
    """The fleet's commands."""

    __slots__ = ("_host",)

    def __init__(self, stage: Stage, host: FleetHost) -> None:
        super().__init__(stage)
        self._host = host

    @command("create")
    def create(
        self, name: str | None = None, release: str | None = None, options: list[str] | None = None
    ) -> FleetMachine:
        """Create a machine; what is not said is as the fleet was started with.

        :raise ControlError: the name is taken or no name for a folder, or the options are wrong.
        """
        return self._host.create_machine(name, release, options)

    @command("destroy")
    def destroy(self, name: str) -> None:
        """End a machine at once: its clients are disconnected, its sockets are gone.

        :raise ControlError: there is no machine of that name.
        """
        self._host.destroy_machine(name)

    @command("query-machines")
    def query_machines(self) -> list[FleetMachine]:
        """List the machines in the order of their creation."""
        return self._host.machines()

    @command("query-statistics")
    def query_statistics(self) -> FleetStatistics:
        """Count machines, clients, commands and events."""
        return self._host.statistics()

    @command("query-metrics")
    def query_metrics(self) -> FleetMetrics:
        """Give the counts in Prometheus's text format."""
        return FleetMetrics(self._host.metrics())

    @command("quit")
    def quit(self) -> None:
        """End all machines, each with SHUTDOWN to its clients, and the fleet."""
        self._host.end()


class FleetPuppeteer:
    """Executes the fleet's commands."""

    __slots__ = ("fleet",)

    def __init__(self, host: FleetHost) -> None:
        self.fleet = FleetControl(cast("Stage", self), host)

    def steps(
        self, declaration: Declaration, group: Group, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Steps[Any]:
        """Execute a command; each is a single step."""
        yield from ()
        return declaration.function(group, *arguments, **options)


@cache
def fleet_interface() -> Interface:
    """The interface of every fleet's control socket."""
    from qmpd.control.interface import Interface

    return Interface({**FleetDispatcher.session_groups, "fleet": FleetControl}, {})


class FleetDispatcher(ControlDispatcher):
    """The sessions of a fleet's control socket."""

    __slots__ = ("_host",)

    session_groups: ClassVar[dict[str, type[SessionControl]]] = {"session": SessionControl}

    def __init__(self, host: FleetHost) -> None:

        self._host = host
        self.puppeteer = cast("Puppeteer", FleetPuppeteer(host))
        self.unsent = []
        self.ready: list[Session] = []
        self.sessions = {}
        self.unfinished = []
        self._followers = {}
        self.json_parser = "classic"
        self.commands = {}
        self.negotiation_commands = {}

    @property
    def interface(self) -> Interface:
        """The commands, made when the first is executed."""
        return fleet_interface()

    @property
    def words(self) -> Wordings:
        """How refusals are told."""
        return Wordings(common_words())

    @property
    def version(self) -> VersionInfo:
        """What the greeting says."""
        return VersionInfo(VersionTriple(*self._host.version), PACKAGE)

    def _report(self, text: str) -> None:
        self._host.report(text)

    def close_session(self, session: Session) -> None:
        """Forget a client."""
        session.ended = True
        self.sessions.pop(session, None)
        session.queue.clear()
