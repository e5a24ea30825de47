"""What makes the parts of a guest that almost no guest has; each is imported once it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.guest.agent.port import AgentPort
    from qmpd.guest.console import Console
    from qmpd.system.agent import Home as AgentHome
    from qmpd.system.console import Home as ConsoleHome


def agent_of(system: AgentHome) -> AgentPort:
    """A new agent for a machine's guest."""
    from qmpd.system.agent import make_agent

    return make_agent(system)


def console_of(system: ConsoleHome) -> Console:
    """New consoles for a machine's guest."""
    from qmpd.system.console import make_console

    return make_console(system)
