"""What makes the parts of a guest that almost no guest has; each is imported once it is wanted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from qmpd.system.boot_media import media

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.guest.agent.port import AgentPort
    from qmpd.guest.console import Console
    from qmpd.guest.course import Guest
    from qmpd.guest.firmware_text import Media
    from qmpd.guest.screen import Screen
    from qmpd.system.agent import Home as AgentHome
    from qmpd.system.boot_devices import Home as BootHome
    from qmpd.system.console import Home as ConsoleHome
    from qmpd.system.guest_ports import Home as PortHome

    class Home(AgentHome, ConsoleHome, BootHome, Protocol):
        """The machine that the guest is in (`qmpd.system.system.System`)."""


def give_parts(guest: Guest, system: Home) -> None:
    """Let a guest make its parts when they are wanted; some have to be there from the start."""
    guest.make_agent = partial(_agent_of, system)
    guest.make_console = partial(_console_of, system)
    guest.make_screen = partial(_screen_of, system)
    guest.look = partial(_media_of, system)
    if guest.settings.agent:
        guest.have_agent()
    if guest.settings.script is not None or system.machine.settings.prints_on_port(system.release.behaviour):
        guest.have_console()


def unread_by_guest(system: PortHome, label: str) -> Callable[[], int | None]:
    """What tells how many bytes a character device takes while the guest does not read them, None while it does."""
    from qmpd.system.guest_ports import unread

    return partial(unread, system, label)


def _agent_of(system: AgentHome) -> AgentPort:
    from qmpd.system.agent import make_agent

    return make_agent(system)


def _console_of(system: ConsoleHome) -> Console:
    from qmpd.system.console import make_console

    return make_console(system)


def _screen_of(system: BootHome) -> Screen:
    from qmpd.system.screens import make_screen

    return make_screen(system)


def _media_of(system: ConsoleHome) -> Media | None:
    # Where nothing has been built nobody has changed anything, and it can be looked at later.
    return None if system.is_bare else media(system.inventory)
