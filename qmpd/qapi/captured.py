"""What a real machine answered to the commands that qmpd does not compute.

`Answers` finds the reply that was captured for a command and its arguments. A reply is kept in QEMU's own spelling.
Where it depends on the VM, the place has a marker, a JSON string between guillemets; QEMU's own output, all ASCII,
cannot contain one:

    "«memory»"                            the VM's memory in bytes; in the same way any other of the VM's values
    ["«for each index below cpus»", X]    a list of as many X as there are CPUs; in X, "«index»" counts them from 0,
                                          and "«index as text»" is the same as a string
    «memory + N as hex» inside of a text  the memory and N more bytes, as 0x and sixteen digits
    «name» inside of an error's text      the argument `name` of the command (a dotted path where it is nested)

`capture.answers` writes the files, `release` finds them.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

FOR_EACH = "«for each index below {}»"
_FOR_EACH = re.compile(FOR_EACH.replace("{}", "(.+)"))
_MARKER = re.compile("«(.+?)»")
_SUM = re.compile(r"«(\w+) \+ (-?\d+) as hex»")
_AS_TEXT = " as text"
_OPENING = "«".encode()
# The reply is the last member of its line, so that its bytes can be cut out as they are.
REPLY = b', "reply": '
_RETURN = b'{"return": '
_OPTIONS = "query-command-line-options"
LOADING_MODULES = "qom-list-types"
"""The command that makes QEMU load all its modules: from then on there are more options and backends."""


class CapturedError(NamedTuple):
    """The error that a real machine answered with: QMP's `class` and `desc`."""

    error_class: str
    description: str


def unpack(data: bytes) -> bytes:
    """The content of a file compressed by gzip.

    :raise ValueError: it is damaged.
    """
    try:
        return zlib.decompress(data, wbits=31)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def elements(array: bytes) -> list[bytes]:
    """The elements of a JSON array in QEMU's spelling, each as it stands there.

    :raise ValueError: it is no array.
    """
    import json

    text = array.decode()
    decoder = json.JSONDecoder()
    found, position = [], 1
    while position < len(text) - 1:
        _, end = decoder.raw_decode(text, position)
        found.append(text[position:end].encode())
        position = end + len(", ")
    return found


def key(arguments: Mapping[str, Any]) -> bytes:
    """Arguments as something to look up: the order of their members does not count."""
    return orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)


def argument(arguments: Mapping[str, Any], path: str) -> str:
    """The argument that a marker in an error's text stands for, as text; empty where it was not given."""
    value: Any = arguments
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def finish(reply: bytes, arguments: Mapping[str, Any], values: Mapping[str, int | str]) -> bytes | CapturedError:
    """What to answer for a captured reply: its return value's bytes, or the error; markers are replaced."""
    if reply.startswith(_RETURN):
        value = reply[len(_RETURN) : -1]
        return _fill(value, values) if _OPENING in value else value
    error = orjson.loads(reply)["error"]
    text = _MARKER.sub(lambda match: argument(arguments, match[1]), error["desc"])
    return CapturedError(error["class"], text)


def _fill(value: bytes, values: Mapping[str, int | str]) -> bytes:
    import json

    # Only values that `json` spells as QEMU does get markers.
    return json.dumps(replace_markers(orjson.loads(value), values)).encode()


def replace_markers(value: Any, values: Mapping[str, int | str]) -> Any:
    """A value with what its markers stand for.

    :raise KeyError: a marker stands for a value that is not among `values`.
    """
    if isinstance(value, dict):
        return {name: replace_markers(member, values) for name, member in value.items()}
    if isinstance(value, list):
        repeated = _FOR_EACH.fullmatch(value[0]) if value and isinstance(value[0], str) else None
        if repeated is not None:
            count = int(values[repeated[1]])
            return [replace_markers(value[1], {**values, "index": index}) for index in range(count)]
        return [replace_markers(element, values) for element in value]
    if isinstance(value, str) and "«" in value:
        marker = _MARKER.fullmatch(value)
        if marker is None or _SUM.fullmatch(value):
            return _SUM.sub(lambda match: f"0x{int(values[match[1]]) + int(match[2]):016x}", value)
        name = marker[1]
        return str(values[name.removesuffix(_AS_TEXT)]) if name.endswith(_AS_TEXT) else values[name]
    return value


class Answers:
    """Captured replies by command, arguments and reference machine.

    A line holds `execute`, `arguments` (those it was asked with; missing for none), `otherwise` (true: it answers
    whatever arguments no other line has), `machine` (missing where all reference machines answer the same), `modules`
    (true: it answers once the program has loaded all its modules) and `reply`.
    """

    def __init__(self, lines: list[bytes]) -> None:
        self._replies: dict[tuple[str, bytes | None, str | None], bytes] = {}
        self._with_modules: dict[tuple[str, bytes | None, str | None], bytes] = {}
        self.commands: dict[str, None] = {}
        for line in lines:
            head, _, reply = line.partition(REPLY)
            entry = orjson.loads(head + b"}")
            name = entry["execute"]
            arguments = None if entry.get("otherwise") else key(entry.get("arguments", {}))
            replies = self._with_modules if entry.get("modules") else self._replies
            replies[name, arguments, entry.get("machine")] = reply[:-1]
            self.commands[name] = None

    def find(
        self, command: str, arguments: Mapping[str, Any], machine: str, *, modules: bool = False
    ) -> bytes | None:
        """The captured reply with its markers; None where there is none for these arguments.

        `modules`: the program has loaded all its modules, which `LOADING_MODULES` makes it do.
        """
        if command == _OPTIONS and "option" in arguments:
            return self._option(arguments["option"], machine, modules)
        return self._find(command, arguments, machine, modules)

    def _find(self, command: str, arguments: Mapping[str, Any], machine: str, modules: bool) -> bytes | None:
        for replies in (self._with_modules, self._replies) if modules else (self._replies,):
            for asked in (key(arguments), None):
                for where in (machine, None):
                    reply = replies.get((command, asked, where))
                    if reply is not None:
                        return reply
        return None

    def _option(self, option: str, machine: str, modules: bool) -> bytes | None:
        """The reply for one group of command-line options: it is among those of all groups."""
        everything = self._find(_OPTIONS, {}, machine, modules)
        if everything is None:
            return None
        for element in elements(everything[len(_RETURN) : -1]):
            if orjson.loads(element)["option"] == option:
                return _RETURN + b"[" + element + b"]}"
        return self._find(_OPTIONS, {"option": option}, machine, modules)
