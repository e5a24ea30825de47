"""The agent's commands, a module a family; each is a function from the agent and the arguments to a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.guest.agent.commands import disks, files, host, network, parts, programs, users

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.agent import Agent, Handler

HANDLERS: Mapping[str, Handler] = {
    **host.HANDLERS, **parts.HANDLERS, **disks.HANDLERS, **network.HANDLERS, **files.HANDLERS, **programs.HANDLERS,
    **users.HANDLERS,
}  # fmt: skip
"""All of them, by name."""


def execute(agent: Agent, command: str, arguments: dict[str, Any]) -> object:
    """Carry out a command: its value, or `Work` that gives one.

    :raise Refusal: it is refused.
    """
    if command not in agent.face.commands:
        raise Refusal("agent-command-unknown", command=command)
    if command in agent.face.never or command in agent.blocked:
        raise Refusal("agent-command-disabled", command=command)
    if not agent.is_enabled(command):
        raise Refusal("agent-command-frozen", command=command)
    agent.face.check(command, arguments)
    return HANDLERS[command](agent, arguments)
