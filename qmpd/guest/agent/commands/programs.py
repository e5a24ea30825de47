"""The guest's programs, which the host begins and asks for their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.guest.agent import base64_text
from qmpd.guest.agent.calls import ERR, OUT, Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.agent import Agent, Handler

_MOST = 16 << 20
"""Bytes of a stream that are kept."""
_KEPT: Mapping[object, str] = {True: "separated", False: "none"}
_STREAMS: Mapping[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "none": (),
    "stdout": (("out", (OUT,)),),
    "stderr": (("err", (ERR,)),),
    "separated": (("out", (OUT,)), ("err", (ERR,))),
    "merged": (("out", (OUT, ERR)),),
}
"""By what is captured: the members that tell of it, and the streams that each is made of."""


def begin(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-exec: the number of the process."""
    wanted = arguments.get("capture-output", False)
    given = base64_text.decode(arguments.get("input-data", ""))
    environment = dict(each.partition("=")[::2] for each in arguments.get("env", ()))
    call = Call(arguments["path"], tuple(arguments.get("arg", ())), environment, given)
    try:
        return {"pid": agent.begin(call, _KEPT.get(wanted, wanted))}
    except OSError as error:
        raise Refusal("agent-not-executed", path=call.path, reason=error.strerror) from None


def status(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-exec-status: how a process has ended, which is told once."""
    process = agent.processes.get(arguments["pid"])
    if process is None:
        raise Refusal("agent-process-unknown")
    if agent.facts.running() < process.ends:
        return {"exited": False}
    del agent.processes[arguments["pid"]]
    ending = process.ending
    result: dict[str, object] = {"exited": True}
    if ending.signal is None:
        result["exitcode"] = ending.status
    else:
        result["signal"] = ending.signal
    truncated: dict[str, object] = {}
    for name, numbers in _STREAMS[process.captured]:
        data = ending.stream(*numbers)
        if data:
            result[f"{name}-data"] = base64_text.encode(data[:_MOST])
            if agent.face.tells_truncation or len(data) > _MOST:
                truncated[f"{name}-truncated"] = len(data) > _MOST
    return {**result, **truncated}


HANDLERS: Mapping[str, Handler] = {"guest-exec": begin, "guest-exec-status": status}
