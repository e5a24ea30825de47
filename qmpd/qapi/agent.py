"""The guest agent of a release: its commands, in the order of guest-info, and how their arguments are checked.

A release's folder has it as `agent.json`.  The agent has no introspection, so the types of the arguments are written
down there in the same form, from the agent's documentation (QEMU's docs/interop/qemu-ga-ref).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.qapi.arguments import ArgumentCompiler
from qmpd.qapi.introspection import Introspection
from qmpd.qapi.naming import Names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.qapi.arguments import Checker

FILE = "agent.json"


class AgentFace:
    """What one release's agent is like.

    `number` is the version that it tells.  `commands` are in the order of guest-info, `silent` those that answer
    nothing where they succeed, `never` those that this system has not.  `tells_truncation`: guest-exec-status says
    whether captured output was cut.  `newest_processor_first`: guest-get-vcpus lists the processors from the last to
    the first.  `tells_privileged_bytes`: guest-get-fsinfo has what root may use of a file system, too.
    """

    __slots__ = (
        "_checkers",
        "_compiler",
        "commands",
        "never",
        "newest_processor_first",
        "number",
        "silent",
        "tells_privileged_bytes",
        "tells_truncation",
    )  # fmt: skip

    def __init__(self, content: Mapping[str, Any]) -> None:
        """:raise KeyError: `content`, a release's `agent.json`, lacks a member."""
        self.number: str = content["version"]
        self.commands: tuple[str, ...] = tuple(content["commands"])
        self.silent = frozenset(content["silent"])
        self.never = frozenset(content["never"])
        behaviour = content["behaviour"]
        self.tells_truncation: bool = behaviour["tells_truncation"]["value"]
        self.newest_processor_first: bool = behaviour["newest_processor_first"]["value"]
        self.tells_privileged_bytes: bool = behaviour["tells_privileged_bytes"]["value"]
        self._compiler = ArgumentCompiler(Introspection(content["types"]), Names())
        self._checkers: dict[str, Checker] = {}

    def check(self, command: str, arguments: dict[str, object]) -> None:
        """Check the arguments of one of the commands.

        :raise ArgumentError: they do not fit.
        """
        checker = self._checkers.get(command)
        if checker is None:
            checker = self._checkers[command] = self._compiler.checker(command)
        checker(arguments)
