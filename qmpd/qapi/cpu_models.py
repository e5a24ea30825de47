"""What query-cpu-model-expansion answered for the CPU models of a release.

It is kept in a file of captured replies (`qmpd.qapi.captured.Answers`) of its own, since it is large: each model as
`static` and as `full`, and the questions that management software puts. Beside these there are two replies to what does
not exist, in lines with `unknown`: `"model"`, and `"property"` (its text has the markers `«type»`, which is the model's
QOM type, and `«property»`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.common.dictionary_order import in_order
from qmpd.qapi.captured import REPLY, Answers

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = "query-cpu-model-expansion"


class CPUModels:
    """The CPU models of a release, and what they are made of."""

    def __init__(self, lines: list[bytes]) -> None:
        self._unknown: dict[str, bytes] = {}
        self._types: dict[str, str] = {}
        known = []
        for line in lines:
            if line.startswith(b'{"execute": '):
                known.append(line)
                continue
            head, _, reply = line.partition(REPLY)
            entry = orjson.loads(head + b"}") if reply else orjson.loads(line)
            if "unknown" in entry:
                self._unknown[entry["unknown"]] = reply[:-1]
            else:
                self._types = entry["types"]
        self._answers = Answers(known)

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that are answered: `COMMAND`, or none."""
        return tuple(self._answers.commands)

    def reply(self, arguments: Mapping[str, Any]) -> bytes | None:
        """The reply to `COMMAND`, with markers; None where it was not captured."""
        reply = self._answers.find(COMMAND, arguments, "")
        if reply is not None:
            return reply
        model = arguments["model"]
        name, properties = model["name"], model.get("props")
        if name not in self._types:
            return self._unknown.get("model")
        if isinstance(properties, dict) and "property" in self._unknown:
            known = self._properties(name)
            for each in in_order(tuple(properties)):
                if each not in known:
                    text = self._unknown["property"].replace("«type»".encode(), self._types[name].encode())
                    return text.replace("«property»".encode(), orjson.dumps(each)[1:-1])
        return None

    def _properties(self, name: str) -> frozenset[str]:
        reply = self._answers.find(COMMAND, {"type": "full", "model": {"name": name}}, "")
        found = orjson.loads(reply or b"{}").get("return", {}).get("model", {}).get("props", {})
        return frozenset(found)
