"""What a guest's script says of its agent (`qmpd.guest.script`)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qmpd.guest.agent.calls import ERR, OUT, Ending
from qmpd.guest.script import load, nanoseconds

if TYPE_CHECKING:
    from qmpd.guest.agent.agent import Agent


def follow(agent: Agent, text: str) -> None:
    """Let an agent find what the guest's script says, beside what it finds already."""
    found = load(text).agent
    for name, attribute in (("host-name", "host_name"), ("zone", "zone")):
        if name in found:
            setattr(agent.model, attribute, found[name])
    for file, content in found.get("files", {}).items():
        agent.files.put(file, content.encode())
    for each in found.get("exec", ()):
        printed = tuple((number, each[key].encode()) for number, key in ((OUT, "out"), (ERR, "err")) if each.get(key))
        seconds = nanoseconds(each.get("takes", 0)) / 1e9
        ending = Ending(printed, each.get("status", 0), each.get("signal"), seconds)
        agent.programs.scripted[each["path"]] = partial(_ending, ending)


def _ending(ending: Ending, _: object) -> Ending:
    return ending
