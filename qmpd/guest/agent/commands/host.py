"""What the host asks for first: whether somebody is there, what it can do, what time it is; and the power button."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.agent import Agent, Handler

_MICROSECOND = 1000
_SECOND = 1_000_000_000
_YEAR_2070 = 3_155_760_000 * _SECOND
"""The first moment that the agent does not take."""
_MODES = ("powerdown", "halt", "reboot")


def ping(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-ping."""
    return {}


def sync(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-sync and guest-sync-delimited: the number comes back."""
    return arguments["id"]


def info(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-info."""
    return {
        "version": agent.face.number,
        "supported_commands": [
            {"name": name, "enabled": agent.is_enabled(name), "success-response": name not in agent.face.silent}
            for name in agent.face.commands
        ],
    }


def time(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-time: nanoseconds since 1970, to the microsecond."""
    return (agent.facts.now() + agent.model.offset) // _MICROSECOND * _MICROSECOND


def set_time(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-set-time: to a number of nanoseconds, which the real-time clock is told, too; or to what that says.

    :raise Refusal: the agent takes no such year, or the guest's kernel no time before the machine was started.
    """
    wanted = arguments.get("time")
    if wanted is not None:
        # The agent drops the fraction of a second towards zero.
        if not -_SECOND < wanted < _YEAR_2070:
            raise Refusal("agent-time-invalid")
        if wanted < agent.facts.running():
            raise Refusal("agent-time-not-set")
        agent.model.offset = wanted - agent.facts.now()
        agent.facts.set_clock(agent.model.offset)
    return {}


def shutdown(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-shutdown."""
    mode = arguments.get("mode", _MODES[0])
    if mode not in _MODES:
        raise Refusal("agent-shutdown-mode")
    agent.facts.shut_down(mode)
    return {}


def suspend_to_disk(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-suspend-disk."""
    agent.facts.suspend(to_disk=True)
    return {}


def suspend_to_memory(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-suspend-ram and guest-suspend-hybrid."""
    agent.facts.suspend(to_disk=False)
    return {}


HANDLERS: Mapping[str, Handler] = {
    "guest-ping": ping,
    "guest-sync": sync,
    "guest-sync-delimited": sync,
    "guest-info": info,
    "guest-get-time": time,
    "guest-set-time": set_time,
    "guest-shutdown": shutdown,
    "guest-suspend-disk": suspend_to_disk,
    "guest-suspend-ram": suspend_to_memory,
    "guest-suspend-hybrid": suspend_to_memory,
}
