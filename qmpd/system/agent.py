"""The agent of a machine's guest, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.block.executor import AtOnce
from qmpd.guest.agent.agent import Agent
from qmpd.guest.agent.files import FolderFiles
from qmpd.guest.agent.machine import MachineFacts, MachinePlace
from qmpd.guest.agent.port import AgentPort
from qmpd.guest.agent.scripted import follow
from qmpd.machine.errors import MachineError
from qmpd.machine.run_state import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Executor
    from qmpd.chardev.front_ends import FrontEnd
    from qmpd.common.computer import Computer
    from qmpd.guest.agent.port import Dialect
    from qmpd.guest.course import Guest
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine.machine import Machine
    from qmpd.qapi import Release
    from qmpd.system.disks import Disks

_EVENT, _PATH = "RTC_CHANGE", "qom-path"


class Home(Protocol):
    """The machine that the guest is in (`qmpd.system.system.System`)."""

    release: Release
    machine: Machine
    guest: Guest | None
    computer: Computer
    speak_as_agent: Callable[[Release, Agent, Executor, Callable[[bytes, str], None]], Dialect] | None

    @property
    def inventory(self) -> Inventory:
        """What it is made of."""

    @property
    def disks(self) -> Disks:
        """Its disks."""

    def make_front_end(self, label: str) -> FrontEnd:
        """The machine's end of a character device."""


def facts_of(system: Home) -> MachineFacts:
    """A machine as its guest finds it, and what the guest does to it.

    :raise MachineError: the machine has no guest.
    """
    release = system.release
    if system.guest is None:
        raise MachineError("the machine has no guest")

    def names_clock() -> bool:
        declared = release.introspection.object(release.introspection.event(_EVENT).data)
        return any(member.name == _PATH for member in declared.members)

    return MachineFacts(system.machine, system.guest, lambda: system.inventory, names_clock)


def make_agent(system: Home) -> AgentPort:
    """An agent for a machine's guest.

    :raise MachineError: the machine has no guest.
    """
    guest, machine, release = system.guest, system.machine, system.release
    if guest is None:
        raise MachineError("the machine has no guest")

    def speak(send: Callable[[bytes, str], None]) -> Dialect:
        if system.speak_as_agent is None:
            raise MachineError("nobody speaks the agent's dialect here")
        executor = AtOnce() if root is None else system.disks.executor
        return system.speak_as_agent(release, agent, executor, send)

    root = guest.settings.agent_root
    files = None if root is None else FolderFiles(system.computer, root)
    agent = Agent(release.agent, facts_of(system), files)
    follow(agent, guest.settings.script_text)
    return AgentPort(
        agent,
        MachinePlace(guest, lambda: system.inventory, system.make_front_end),
        machine.schedule,
        lambda: guest.settings,
        lambda: guest.listens and machine.state is RunState.RUNNING,
        speak,
        machine.notify,
    )
