"""Whoever serves, as its parts see it; each part asks for no more than it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from typing import Any

    import trio

    from qmpd.control.dispatcher import ControlDispatcher
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.machine import Clock
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.server.settings import MonitorSettings, VMSettings
    from qmpd.system.system import System


class Owner(Protocol):
    """Whoever serves connections: a virtual machine, or a fleet."""

    @property
    def nursery(self) -> trio.Nursery:
        """The nursery of the connections' tasks."""

    @property
    def handed_over(self) -> bool:
        """Whether the clients are another process's by now."""

    @property
    def keeps_up(self) -> bool:
        """Whether what clients have sent is executed before anything else goes on, though they do not read."""

    def work(self) -> None:
        """Do what a client has just asked for."""


class MachineOwner(Owner, Protocol):
    """Whoever serves one virtual machine; the attributes are those of `VirtualMachine`."""

    settings: VMSettings
    handed_over: bool

    @property
    def clock(self) -> Clock:
        """The machine's clock."""

    @property
    def system(self) -> System:
        """The machine."""

    @property
    def dispatcher(self) -> Dispatcher:
        """The machine's monitors."""

    async def await_disks(self) -> None:
        """Wait until what was begun on the disks is done, but not for those that do not answer: they are given up."""

    @property
    def puppeteer(self) -> Puppeteer | None:
        """Who plays the machine; None for almost all machines."""

    @property
    def control(self) -> ControlDispatcher | None:
        """The control socket's dispatcher; None where there is none."""

    @property
    def started(self) -> bool:
        """Whether the machine has started."""


class Monitors(Protocol):
    """Who serves a monitor on a connection."""

    async def converse(self, monitor: MonitorSettings, client: socket.socket, address: Any = None) -> None:
        """Greet a client and serve it until it leaves."""

    def admit(self, monitor: MonitorSettings, client: socket.socket) -> bool:
        """Serve a client that somebody else has let in; False where the monitor has one and takes no other."""


    def part(self, monitor: MonitorSettings) -> socket.socket | None:
        """End the session of a monitor's client; gives his connection, None where there is none."""


class DeviceOwner(MachineOwner, Protocol):
    """Whoever serves a virtual machine with character devices."""

    @property
    def running(self) -> bool:
        """Whether it has a nursery for tasks."""

    @property
    def accepts(self) -> bool:
        """Whether it has this process for itself, standard input and output included."""

    @property
    def acceptor(self) -> Monitors:
        """What serves the monitors that talk through the devices."""
