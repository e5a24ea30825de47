"""The guest's files, which the host opens, reads and writes by handles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.guest.agent import base64_text
from qmpd.guest.agent.agent import OpenFile, Work
from qmpd.guest.agent.files import MODES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.agent import Agent, Handler
    from qmpd.guest.agent.files import File

_USUAL_COUNT = 4096
_LARGEST_COUNT = 48 << 20
_WHENCE = {"set": 0, "cur": 1, "end": 2}
_NOT_READ, _NOT_WRITTEN = "agent-file-not-read", "agent-file-not-written"


def open_file(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-file-open: the handle."""
    path, mode = arguments["path"], arguments.get("mode", "r")
    if mode not in MODES:
        raise Refusal("agent-file-mode", mode=mode)

    def opened(file: File) -> int:
        number = agent.next_handle
        agent.next_handle += 1
        agent.handles[number] = OpenFile(path, mode, file)
        return number

    return Work(
        lambda: agent.files.open(path, MODES[mode]), opened, "agent-file-not-opened", {"path": path, "mode": mode}
    )


def close(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-file-close."""
    agent.handle(arguments["handle"])
    del agent.handles[arguments["handle"]]
    return {}


def read(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-file-read: at most 48 MiB."""
    count = arguments.get("count", _USUAL_COUNT)
    file = agent.handle(arguments["handle"]).file
    if not 0 <= count <= _LARGEST_COUNT:
        raise Refusal("agent-file-count", count=count)

    def was_read(data: bytes) -> object:
        return {"count": len(data), "buf-b64": base64_text.encode(data), "eof": len(data) < count}

    return Work(lambda: file.read(count), was_read, _NOT_READ)


def write(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-file-write."""
    file = agent.handle(arguments["handle"]).file
    data = base64_text.decode(arguments["buf-b64"])
    count = arguments.get("count", len(data))
    if not 0 <= count <= len(data):
        raise Refusal("agent-file-count", count=count)
    return Work(lambda: file.write(data[:count]), lambda written: {"count": written, "eof": False}, _NOT_WRITTEN)


def seek(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-file-seek."""
    file = agent.handle(arguments["handle"]).file
    whence = _WHENCE.get(arguments["whence"], arguments["whence"])
    if whence not in _WHENCE.values():
        raise Refusal("agent-file-whence", whence=whence)
    return Work(
        lambda: file.seek(arguments["offset"], whence),
        lambda place: {"position": place, "eof": False},
        "agent-file-not-sought",
    )


def flush(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-file-flush: what was written is where others see it."""
    agent.handle(arguments["handle"])
    return {}


HANDLERS: Mapping[str, Handler] = {
    "guest-file-open": open_file,
    "guest-file-close": close,
    "guest-file-read": read,
    "guest-file-write": write,
    "guest-file-seek": seek,
    "guest-file-flush": flush,
}
