"""The commands of a control socket that are about its client's own session."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.values import Verbatim
from qmpd.monitor.errors import CommandError

if TYPE_CHECKING:
    from qmpd.control.interface import Interface
    from qmpd.control.stage import Stage
    from qmpd.monitor.session import Session


class Capability(enum.StrEnum):
    """QMP's capabilities; this socket offers none."""

    OOB = "oob"


@dataclass(frozen=True, slots=True)
class VersionTriple:
    """A version of QEMU."""

    major: int
    minor: int
    micro: int


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """The release that the machine shows, and what kind of socket this is."""

    qemu: VersionTriple
    package: str


@dataclass(frozen=True, slots=True)
class CommandInfo:
    """One command of this socket, and what it does."""

    name: str
    summary: str


class Dispatcher(Protocol):
    """Whoever executes the session's commands (`qmpd.control.dispatcher.ControlDispatcher`)."""

    @property
    def version(self) -> VersionInfo:
        """What the greeting says."""

    @property
    def interface(self) -> Interface:
        """The commands that there are."""

    def follow(self, session: Session, enable: bool) -> None:
        """Send the transcript's entries to this client, or no longer."""

    def tell_all(self, session: Session) -> None:
        """Send all entries that are kept."""


class SessionControl(Group):
    """The commands that QMP itself has: negotiation, and what there is."""

    __slots__ = ("dispatcher", "session")

    def __init__(self, stage: Stage, dispatcher: Dispatcher, session: Session) -> None:
        super().__init__(stage)
        self.dispatcher = dispatcher
        self.session = session

    @command("qmp_capabilities", silent=True)
    def capabilities(self, enable: list[Capability] | None = None) -> None:
        """Negotiate; the first command of every client."""
        if self.session.negotiated:
            raise CommandError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        if enable:
            raise ControlError(f"Capability {enable[0]} is not offered")
        self.session.negotiate(False)

    @command("query-version")
    def query_version(self) -> VersionInfo:
        """Tell which release the machine shows."""
        return self.dispatcher.version

    @command("query-commands")
    def query_commands(self) -> list[CommandInfo]:
        """List the commands of this socket."""
        commands = self.dispatcher.interface.commands
        return [CommandInfo(name, each.declaration.summary) for name, each in commands.items()]

    @command("query-qmp-schema")
    def query_qmp_schema(self) -> list[Any]:
        """Give this socket's introspection, in the form of QMP's."""
        return Verbatim(self.dispatcher.interface.entries)


class Following(SessionControl):
    """What a client of a machine's control socket may ask for itself, beside that."""

    __slots__ = ()

    @command("transcript-follow", silent=True)
    def follow(self, enable: bool = True, from_start: bool = False) -> None:
        """Have each entry of the transcript sent to this client as an event TRANSCRIPT, or no more."""
        self.dispatcher.follow(self.session, enable)
        if enable and from_start:
            self.dispatcher.tell_all(self.session)


SESSION_GROUPS: dict[str, type[SessionControl]] = {"session": SessionControl, "following": Following}
"""The commands that are about a client's own session, where a machine is played."""
