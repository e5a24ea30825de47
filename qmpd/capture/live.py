"""Copying what a running VM tells into a twin's file (`qmpd.qapi.twin`).

Somebody may depend on that VM, so it is only asked what changes nothing and cannot end it: `query-*` (but not
query-cpu-model-expansion, which builds a CPU) and `qom-list` through its tree. Its types are those of a shipped release
where it is the same build; otherwise it is asked for them as well, last of all since QEMU then loads all its modules:
`qom-list-types`, and `device-list-properties` of the device types that it has itself. Asking for the properties of any
type instantiates that type, and some releases do not survive that for some types. There is one connection, since the
other side may have no more than one client.
"""

from __future__ import annotations

import json
import socket
import zipfile
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.capture.answers import echoing, lines
from qmpd.capture.client import CaptureError, Client, Gone
from qmpd.capture.folder import command_lines, event_lines, nearest, release_file
from qmpd.capture.lines import join, line, spell
from qmpd.capture.object_types import object_types
from qmpd.capture.questions import COMPUTED, Question, questions
from qmpd.capture.transfer import transfer
from qmpd.qapi.captured import elements
from qmpd.qapi.introspection import Introspection
from qmpd.qapi.object_tree import COMMANDS as OBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qmpd.capture.answers import Asked
    from qmpd.capture.client import Outcome
    from qmpd.qapi import Release

STEPS = 4
"""How many steps `capture` announces."""

# Seconds for the greeting: a monitor that has another client does not greet until that one leaves.
_PATIENCE = 5.0
# Archives say when a file was written; the same VM shall make the same file.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_STRANGER = "/no-such-thing"


def capture(path: str, output: Path, step: Callable[[str], None], report: Callable[[str], None]) -> int:
    """Copy the VM whose monitor listens at `path` into the file `output`; gives the number of answers in it.

    `step` is told what is being asked (`STEPS` times), `report` what could not be found out.

    :raise CaptureError: nobody answers there, or not as a QEMU does.
    :raise OSError: the file cannot be written.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(path)
        client = Client(connection, _PATIENCE)
    except Gone as error:
        connection.close()
        raise CaptureError(f"{path}: {error} (is another client connected there?)") from error
    except OSError as error:
        connection.close()
        raise CaptureError(f"{path}: {error.strerror}") from error
    try:
        vm = _VM(client, step)
    except Gone as error:
        raise CaptureError(f"{path}: {error}") from error
    finally:
        client.close()
    files = vm.files()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), content, zipfile.ZIP_DEFLATED)
    return len(vm.answers)


class _VM:
    """Everything that a VM was asked."""

    def __init__(self, client: Client, step: Callable[[str], None]) -> None:
        self._client = client
        self.version: dict[str, Any] = client.greeting["version"]
        numbers = self.version["qemu"]
        self.base: Release = nearest((numbers["major"], numbers["minor"], numbers["micro"]))
        step("introspection")
        self.entries = elements(client.ask("query-qmp-schema").value or b"[]")
        self.introspection = Introspection(orjson.loads(entry) for entry in self.entries)
        self.commands: list[str] = [entry["name"] for entry in client.ask("query-commands").result]
        step("queries")
        self.answers = self._queries()
        step("object tree")
        used, tree = self._tree()
        self.answers += tree
        step("types and their properties")
        self.types = self._types(used)

    def _ask(self, asked: list[Asked]) -> list[Outcome | None]:
        return list(self._client.ask_all(asked))

    def _queries(self) -> list[bytes]:
        known = set(self.introspection.commands)
        own = [Question(name, {}) for name in sorted(COMPUTED & known)]
        others = [each for each in questions(self.introspection) if each.command.startswith("query-")]
        asked = own + others
        outcomes = self._client.ask_all([(each.command, each.arguments) for each in asked])
        replies: list[bytes | None] = [outcome.reply for outcome in outcomes]
        self.state = {each.command: outcome for each, outcome in zip(own, outcomes, strict=False)}
        return list(lines(asked, {"": echoing(self._ask, asked, replies)}))

    def _tree(self) -> tuple[set[str], list[bytes]]:
        """The types of the objects that there are, and the answers of qom-list."""
        used: set[str] = set()
        found: list[bytes] = []
        if "qom-list" not in self.introspection.commands:
            return used, found
        waiting = ["/"]
        while waiting:
            outcomes = self._client.ask_all([("qom-list", {"path": path}) for path in waiting])
            children = []
            for path, outcome in zip(waiting, outcomes, strict=True):
                if outcome.value is None:
                    continue
                found.append(line({"execute": "qom-list", "arguments": {"path": path}}, outcome.reply))
                for each in outcome.result:
                    if each["type"].startswith("child<"):
                        used.add(each["type"].removeprefix("child<").removesuffix(">"))
                        children.append(f"{path.rstrip('/')}/{each['name']}")
            waiting = children
        nothing = self._client.ask("qom-list", {"path": _STRANGER})
        if nothing.value is None:
            text = nothing.description.replace(_STRANGER, "«path»")
            error = spell({"error": {"class": nothing.error_class, "desc": text}})
            found.append(line({"execute": "qom-list", "otherwise": True}, error))
        return used, found

    def _types(self, used: set[str]) -> list[bytes]:
        needed = {"qom-list-types", "device-list-properties"}
        numbers = self.version["qemu"]
        version = (numbers["major"], numbers["minor"], numbers["micro"])
        if (version, self.version["package"]) == (self.base.version, self.base.package):
            return []
        return object_types(self._ask, used) if needed <= set(self.introspection.commands) else []

    def _result(self, command: str, otherwise: Any) -> Any:
        outcome = self.state.get(command)
        return otherwise if outcome is None or outcome.value is None else outcome.result

    def _facts(self) -> dict[str, Any]:
        status = self._result("query-status", {})
        cpus = len(self._result("query-cpus-fast", self._result("query-cpus", [])))
        uuid = self._result("query-uuid", {}).get("UUID")
        return {
            "base": self.base.name,
            "status": status.get("status", "running"),
            "name": self._result("query-name", {}).get("name"),
            "uuid": uuid if uuid is not None and uuid.strip("0-") else None,
            "memory": self._result("query-memory-size-summary", {}).get("base-memory", 0),
            "cpus": cpus,
            "machine_type": "pc" if cpus else "none",
        }

    def files(self) -> dict[str, bytes]:
        """The files of the archive."""
        status = self._result("query-status", {})
        found = {"singlestep_in_status": "singlestep" in status} if status else {}
        answering = {orjson.loads(each.partition(b', "reply": ')[0] + b"}")["execute"] for each in self.answers}
        answering |= {name for name, command in self.base.commands.items() if command.captured and name not in OBJECTS}
        if self.types:
            answering |= {"qom-list-types", "device-list-properties"}
        early = {name for name, command in self.base.commands.items() if command.allow_preconfig}
        names = transfer(self.base.names, self.base.introspection, self.introspection)
        table = self.base.human_monitor
        texts = {"help": table.help([]), "info": table.help(["info"]), "log": table.help(["log"])}
        texts |= {"migrate-parameters": table.migrate_parameters, "migrate-globals": table.migrate_globals}
        return {
            "twin.json": json.dumps(self._facts(), indent=2).encode() + b"\n",
            "release.json": release_file(self.version, found),
            "introspection.jsonl": join(self.entries),
            "commands.jsonl": join(command_lines(self.introspection, self.commands, early, answering)),
            "events.jsonl": join(event_lines(self.introspection)),
            "names.json": json.dumps(names.to_json(), indent=2).encode() + b"\n",
            "human-monitor.json": json.dumps(texts, indent=2).encode() + b"\n",
            "answers.jsonl.gz": _packed(self.answers),
            "types.jsonl.gz": _packed(self.types),
        }


def _packed(content: list[bytes]) -> bytes:
    import zlib

    # The archive compresses on its own; this is for a file's name to say what is in it.
    compressor = zlib.compressobj(0, wbits=31)
    return compressor.compress(join(content)) + compressor.flush()
