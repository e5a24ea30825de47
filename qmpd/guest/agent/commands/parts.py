"""The guest's processors and memory."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.guest.agent.model import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.agent import Agent, Handler

_TICK = 10
"""Milliseconds of the figures of guest-get-cpustats."""
_LOAD = 0.03125


def processors(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-vcpus; the first one stays online."""
    numbers = range(agent.facts.processors)
    return [
        {"logical-id": number, "online": number not in agent.model.processors_off, "can-offline": number > 0}
        for number in (reversed(numbers) if agent.face.newest_processor_first else numbers)
    ]


def set_processors(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-set-vcpus: how many were done with, an error only where that is none."""
    done = 0
    for wanted in arguments["vcpus"]:
        number, online = wanted["logical-id"], wanted["online"]
        refusal: Refusal | None = None
        if not 0 <= number < agent.facts.processors:
            refusal = Refusal("agent-processor-unknown", number=number)
        elif number == 0 and not online:
            refusal = Refusal("agent-processor-stays", number=number)
        if refusal is not None:
            if done:
                break
            raise refusal
        _switch(agent.model.processors_off, number, online=online)
        done += 1
    return done


def _switch(switched_off: list[int], number: int, *, online: bool) -> None:
    if online and number in switched_off:
        switched_off.remove(number)
    elif not online and number not in switched_off:
        switched_off.append(number)


def processor_statistics(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-cpustats: an idle guest's."""
    idle = agent.facts.running() // 1_000_000 // _TICK * _TICK
    names = ("user", "nice", "system", "iowait", "irq", "softirq", "steal", "guest", "guestnice")
    return [
        {"type": "linux", "cpu": number, **dict.fromkeys(names, 0), "idle": idle}
        for number in range(agent.facts.processors)
    ]


def load(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-load."""
    return {"load1m": _LOAD, "load5m": _LOAD, "load15m": _LOAD}


def memory_blocks(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-memory-blocks."""
    return [
        {"phys-index": number, "online": number not in agent.model.memory_off, "can-offline": True}
        for number in range(agent.facts.memory // BLOCK)
    ]


def set_memory_blocks(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-set-memory-blocks: what became of each."""
    results: list[dict[str, object]] = []
    for wanted in arguments["mem-blks"]:
        number = wanted["phys-index"]
        if number < agent.facts.memory // BLOCK:
            _switch(agent.model.memory_off, number, online=wanted["online"])
            results.append({"phys-index": number, "response": "success"})
        else:
            results.append({"phys-index": number, "response": "not-found", "error-code": errno.ENOENT})
    return results


def memory_block_info(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-memory-block-info: bytes of a block."""
    return {"size": BLOCK}


HANDLERS: Mapping[str, Handler] = {
    "guest-get-vcpus": processors,
    "guest-set-vcpus": set_processors,
    "guest-get-cpustats": processor_statistics,
    "guest-get-load": load,
    "guest-get-memory-blocks": memory_blocks,
    "guest-set-memory-blocks": set_memory_blocks,
    "guest-get-memory-block-info": memory_block_info,
}
