"""Playing the guest's agent: what programs do, what is in files, who has logged in."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.times import Time, nanoseconds
from qmpd.guest.agent.calls import ERR, OUT, Ending
from qmpd.guest.agent.model import User
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from qmpd.guest.agent.agent import Agent
    from qmpd.guest.agent.port import AgentPort

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class AgentState:
    """Where the agent is (`closed`, `starting`, `open`), and what it has under way.

    `frozen` are the frozen file systems' mountpoints, `handles` the files that the host has opened, `processes` those
    whose end it has not asked for; `clock_offset` is what the guest's clock is ahead, in seconds.
    """

    state: str
    frozen: list[str]
    handles: list[int]
    processes: list[int]
    clock_offset: float


@dataclass(frozen=True, slots=True)
class AgentFile:
    """A file of the guest: its content, as text, bytes that are none replaced."""

    content: str


@dataclass(frozen=True, slots=True)
class AgentUser:
    """A user of the guest; `password` is what the host has set last."""

    home: str
    keys: list[str]
    password: str | None = None


class AgentControl(Group):
    """The guest agent.  Each raises ControlError where the guest has none (`guest-set agent=true`)."""

    __slots__ = ()

    @property
    def _port(self) -> AgentPort:
        guest = self._stage.host.system.guest
        if guest is None or not (guest.settings.agent or guest.agent is not None):
            raise ControlError("the guest has no agent")
        try:
            return guest.have_agent()
        except MachineError as error:
            raise ControlError(error.message) from None

    @property
    def _agent(self) -> Agent:
        return self._port.agent

    @command("query-agent")
    def query(self) -> AgentState:
        """Tell where the guest's agent is, and what it has under way."""
        port = self._port
        model = port.agent.model
        return AgentState(
            str(port.state),
            list(model.frozen or ()),
            list(port.agent.handles),
            list(port.agent.processes),
            model.offset / _SECOND,
        )

    @command("agent-exec")
    def execute(
        self, path: str, status: int = 0, out: str = "", err: str = "", signal: int | None = None, takes: Time = 0
    ) -> None:
        """Say what a program of the guest does from now on: print, take its time, and end.

        `signal` is the number of the one that ends it.
        """
        if not path:
            raise ControlError("'path' names a program")
        if not 0 <= status <= 255:
            raise ControlError("'status' is a number from 0 to 255")
        if signal is not None and not 1 <= signal <= 64:
            raise ControlError("'signal' is a number from 1 to 64")
        try:
            seconds = nanoseconds(takes) / _SECOND
        except ValueError as error:
            raise ControlError(f"'takes': {error}") from None
        printed = tuple((number, text.encode()) for number, text in ((OUT, out), (ERR, err)) if text)
        ending = Ending(printed, status, signal, seconds)
        self._agent.programs.scripted[path] = lambda call: ending

    @command("agent-put-file")
    def put_file(self, path: str, content: str = "") -> None:
        """Have a file in the guest, and the folders that it takes."""
        if not path.startswith("/") or path.endswith("/"):
            raise ControlError("'path' names a file from the root")
        self._agent.files.put(path, content.encode())

    @command("query-agent-file")
    def query_file(self, path: str) -> AgentFile:
        """Read a file of the guest."""
        try:
            return AgentFile(self._agent.files.get(path).decode(errors="replace"))
        except OSError as error:
            raise ControlError(f"{path}: {error.strerror}") from None

    @command("agent-put-user")
    def put_user(
        self, name: str, home: str | None = None, keys: list[str] | None = None, logged_in: bool = False
    ) -> None:
        """Have a user in the guest, who has logged in now, or has not."""
        facts = self._agent.facts
        since = facts.now() // 1000 / 1e6 if logged_in else None
        self._agent.model.users[name] = User(f"/home/{name}" if home is None else home, keys, since)

    @command("query-agent-user")
    def query_user(self, name: str) -> AgentUser:
        """Tell of a user of the guest."""
        user = self._agent.model.users.get(name)
        if user is None:
            raise ControlError(f"the guest has no user '{name}'")
        return AgentUser(user.home, list(user.keys or ()), user.password)

    @command("agent-set-addresses")
    def set_addresses(self, card: str, addresses: list[str]) -> None:
        """Give a network card, which goes by its hardware address, other addresses, like 192.168.1.5/24."""
        agent = self._agent
        if card not in agent.facts.cards:
            raise ControlError(f"the machine has no network card '{card}'")
        try:
            given = [ipaddress.ip_interface(each) for each in addresses]
        except ValueError as error:
            raise ControlError(f"'addresses': {error}") from None
        agent.model.addresses[card] = [(str(each.ip), each.network.prefixlen) for each in given]

    @command("agent-set-names")
    def set_names(
        self, host_name: str | None = None, zone: str | None = None, mountpoints: list[str] | None = None
    ) -> None:
        """Say what the guest is called, its time zone, and where its file systems are."""
        model = self._agent.model
        for name, value in (("host_name", host_name), ("zone", zone), ("mountpoints", mountpoints)):
            if value is not None:
                setattr(model, name, value)
