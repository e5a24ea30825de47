"""A release of QEMU, as its folder in `schemas/` describes it.

A new `Release` has read only `release.json`; the command table, the introspection and the captured answers
are read when they are first asked for, so that a server greets before it has read them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import orjson

from qmpd.qapi.behaviour import Behaviour
from qmpd.qapi.errors import BadRelease
from qmpd.qapi.folders import PREFIX, common_words

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from pathlib import Path
    from typing import Any

    from qmpd.qapi.agent import AgentFace
    from qmpd.qapi.arguments import ArgumentCompiler
    from qmpd.qapi.captured import Answers, CapturedError
    from qmpd.qapi.command_line import CommandLine
    from qmpd.qapi.cpu_models import CPUModels
    from qmpd.qapi.debugger import DebuggerFace
    from qmpd.qapi.hardware import Hardware
    from qmpd.qapi.human_monitor import HumanMonitorTable
    from qmpd.qapi.introspection import Introspection
    from qmpd.qapi.migration import MigrationFace
    from qmpd.qapi.naming import Names
    from qmpd.qapi.object_tree import ObjectTree
    from qmpd.qapi.object_types import ObjectTypes
    from qmpd.qapi.refusals import Wordings

_WITH_MEMORY = {"none": "none with memory"}


class Command:
    """One command of a release.

    `allow_oob`: it may be sent as `exec-oob`.  `allow_preconfig`: it may run before `x-exit-preconfig`.
    `captured`: a real machine's answers to it are known (`Release.captured`).
    `features`: its QAPI features (`deprecated`, `unstable`, ...).
    """

    __slots__ = ("_checker", "_release", "allow_oob", "allow_preconfig", "captured", "features", "name")

    def __init__(
        self,
        release: Release,
        name: str,
        *,
        allow_oob: bool,
        allow_preconfig: bool,
        features: tuple[str, ...],
        captured: bool = False,
    ) -> None:
        self.name = name
        self.allow_oob = allow_oob
        self.allow_preconfig = allow_preconfig
        self.captured = captured
        self.features = features
        self._release = release
        self._checker: Callable[[dict[str, object]], None] | None = None

    @property
    def checker(self) -> Callable[[dict[str, object]], None]:
        """The function that checks arguments against the command's declaration.

        It raises ArgumentError where they do not fit.
        """
        checker = self._checker
        if checker is None:
            checker = self._checker = self._release.argument_compiler.checker(self.name)
        return checker

    def check(self, arguments: dict[str, object]) -> None:
        """Check the arguments against the command's declaration.

        :raise ArgumentError: they do not fit.
        """
        self.checker(arguments)


class Release:
    """One release: what its folder says, read when it is asked for.

    `answered_first` names the commands whose captured answer counts even where qmpd could compute one: none, but for
    a twin (`qmpd.qapi.twin`).
    """

    answered_first: frozenset[str] = frozenset()

    def __init__(self, directory: Path) -> None:
        """Read the folder's release.json.

        :raise BadRelease: it is missing or not a release file.
        """
        self.directory = directory
        self.name = directory.resolve().name.removeprefix(PREFIX)
        path = directory / "release.json"
        try:
            members = orjson.loads(self._read("release.json"))
            version = members["version"]
            self.version: tuple[int, int, int] = (version["major"], version["minor"], version["micro"])
            self.package: str = members["package"]
            self.behaviour = Behaviour.from_json(members["behaviour"])
            self.extensions: tuple[str, ...] = tuple(members.get("extensions", ()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRelease(f"{path}: {error}") from error

    def _read(self, name: str) -> bytes:
        """The content of one of the release's files.

        :raise OSError: it cannot be read.
        """
        return (self.directory / name).read_bytes()

    def _lines(self, name: str) -> list[bytes]:
        try:
            return self._read(name).splitlines()
        except OSError as error:
            raise BadRelease(f"{self.directory / name}: {error.strerror}") from error

    @cached_property
    def commands(self) -> Mapping[str, Command]:
        """The commands by name, in the order of query-commands."""
        commands = {}
        for line in self._lines("commands.jsonl"):
            entry = orjson.loads(line)
            commands[entry["name"]] = Command(
                self,
                entry["name"],
                allow_oob=entry.get("allow-oob", False),
                allow_preconfig=entry.get("allow-preconfig", False),
                features=tuple(entry.get("features", ())),
                captured=entry.get("captured", False),
            )
        return commands

    @cached_property
    def events(self) -> Mapping[str, tuple[str, ...]]:
        """The events' names in the order of query-qmp-schema, each with its QAPI features."""
        entries = [orjson.loads(line) for line in self._lines("events.jsonl")]
        return {entry["name"]: tuple(entry.get("features", ())) for entry in entries}

    @cached_property
    def introspection_reply(self) -> bytes:
        """The return value of query-qmp-schema as this release prints it (compact form, no line end)."""
        return b"[" + b", ".join(self._lines("introspection.jsonl")) + b"]"

    @cached_property
    def introspection(self) -> Introspection:
        """The introspection; entries are parsed, and types built, when they are asked for."""
        from qmpd.qapi.introspection import Introspection

        return Introspection.from_lines(self._lines("introspection.jsonl"))

    @cached_property
    def names(self) -> Names:
        """What introspection hides (`qmpd.qapi.naming`), as names.json has it; empty where there is no such file."""
        from qmpd.qapi.naming import Names

        try:
            return Names.from_json(orjson.loads(self._read("names.json")))
        except FileNotFoundError:
            return Names()

    @cached_property
    def argument_compiler(self) -> ArgumentCompiler:
        """Builds the argument checks of this release's commands (`Command.check` is the way to use them)."""
        from qmpd.qapi.arguments import ArgumentCompiler

        return ArgumentCompiler(self.introspection, self.names)

    @cached_property
    def human_monitor(self) -> HumanMonitorTable:
        """The human monitor's commands, as human-monitor.json has captured their help.

        :raise BadRelease: the file cannot be read.
        """
        from qmpd.qapi.human_monitor import HumanMonitorTable

        path = self.directory / "human-monitor.json"
        try:
            texts = orjson.loads(self._read(path.name))
            known = ("log", "migrate-parameters", "migrate-globals")
            told = (texts["help"], texts["info"], *(texts.get(name, "") for name in known))
            return HumanMonitorTable(*(text.replace("\r\n", "\n") for text in told))
        except (OSError, ValueError, KeyError) as error:
            raise BadRelease(f"{path}: {error}") from error

    def captured(
        self,
        command: str,
        arguments: Mapping[str, Any],
        machine_type: str,
        values: Mapping[str, int | str],
        *,
        modules: bool = False,
    ) -> bytes | CapturedError | None:
        """What a real machine answered: the return value in QEMU's spelling, or the error; None if that isn't known.

        `arguments` are as `Command.check` lets them through.  `machine_type` is the reference machine that answers,
        `none` or `pc`.  `values` are what takes the place of its own: `memory` in bytes and `cpus`, a count.
        `modules`: the program has loaded all its modules (`qmpd.qapi.captured.LOADING_MODULES`).

        :raise BadRelease: a file of the release cannot be read.
        """
        from qmpd.qapi import captured, cpu_models, object_tree, object_types

        machine = reference_machine(machine_type, values.get("memory", 0))
        if command in self.answers.commands:
            reply = self.answers.find(command, arguments, machine, modules=modules)
        elif command in object_types.COMMANDS:
            reply = self.object_types.reply(command, arguments)
        elif command == cpu_models.COMMAND:
            reply = self.cpu_models.reply(arguments)
        elif command in object_tree.COMMANDS and values.get("cpus", 1) in (0, 1):
            # With more CPUs there are more objects, and others have other names.
            reply = self.object_tree(machine).reply(command, arguments)
        else:
            reply = None
        return None if reply is None else captured.finish(reply, arguments, values)

    @cached_property
    def answers(self) -> Answers:
        """The captured replies to what has no file of its own."""
        from qmpd.qapi.captured import Answers

        return Answers(self._captured_lines("answers.jsonl.gz"))

    @cached_property
    def object_types(self) -> ObjectTypes:
        """The QOM types and their properties."""
        from qmpd.qapi.object_types import ObjectTypes

        return ObjectTypes(self._captured_lines("types.jsonl.gz"))

    @cached_property
    def hardware(self) -> Hardware:
        """What the machines and devices are made of."""
        from qmpd.qapi.hardware import FILE, Hardware

        return Hardware(self._captured_lines(FILE))

    @cached_property
    def debugger(self) -> DebuggerFace | None:
        """What a debugger sees of the release's machines; None where that was not captured.

        :raise BadRelease: the file cannot be read.
        """
        from qmpd.qapi.debugger import FILE, DebuggerFace

        try:
            return DebuggerFace.from_json(orjson.loads(self._read(FILE)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadRelease(f"{self.directory / FILE}: {error}") from error

    @cached_property
    def agent(self) -> AgentFace:
        """The guest agent of the release.

        :raise BadRelease: the file cannot be read.
        """
        from qmpd.qapi.agent import FILE, AgentFace

        try:
            return AgentFace(orjson.loads(self._read(FILE)))
        except (OSError, ValueError, KeyError) as error:
            raise BadRelease(f"{self.directory / FILE}: {error}") from error

    @cached_property
    def migration(self) -> MigrationFace:
        """What the release refuses of migrations; nothing where that is not known.

        :raise BadRelease: the file cannot be read.
        """
        from qmpd.qapi.migration import FILE, MigrationFace

        try:
            return MigrationFace.from_json(orjson.loads(self._read(FILE)))
        except FileNotFoundError:
            return MigrationFace()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadRelease(f"{self.directory / FILE}: {error}") from error

    @cached_property
    def refusals(self) -> Wordings:
        """How the release says what it refuses.

        :raise BadRelease: a file of words cannot be read.
        """
        from qmpd.qapi.refusals import FILE, Wordings

        try:
            own = orjson.loads(self.own_words or b"{}")
        except (OSError, ValueError) as error:
            raise BadRelease(f"{self.directory / FILE}: {error}") from error
        behaviour = self.behaviour
        measured = {
            "chardev-failed": behaviour.chardev_failure,
            "enum-refusal": behaviour.enum_refusal,
            "property-not-writable": behaviour.property_not_writable,
        }
        return Wordings(common_words(), own, measured, self.hardware.texts)

    @property
    def own_words(self) -> bytes | None:
        """The file of the refusals that this release says otherwise than most; None where it has none.

        :raise OSError: it cannot be read.
        """
        from qmpd.qapi.refusals import FILE

        try:
            return self._read(FILE)
        except FileNotFoundError:
            return None

    @cached_property
    def cpu_models(self) -> CPUModels:
        """The CPU models and what they are made of."""
        from qmpd.qapi.cpu_models import CPUModels

        return CPUModels(self._captured_lines("cpu-models.jsonl.gz"))

    @cached_property
    def command_line(self) -> CommandLine:
        """The options of the release's program."""
        from qmpd.qapi.command_line import CommandLine

        return CommandLine(self._captured_lines("command-line.jsonl.gz"))

    def states(self, machine: str) -> bytes | None:
        """What `-dump-vmstate` writes for a machine of this full name; None where it was not captured.

        :raise BadRelease: it cannot be read.
        """
        lines = self._captured_lines("states.json.gz")
        if not lines:
            return None
        # The machine's own entry comes first.
        place = next(place for place, line in enumerate(lines) if b'"Name": ' in line)
        lines[place] = lines[place].partition(b": ")[0] + b": " + orjson.dumps(machine)
        return b"\n".join(lines) + b"\n"

    def object_tree(self, machine: str) -> ObjectTree:
        """The QOM objects of a reference machine."""
        known = self._object_trees.get(machine)
        if known is None:
            from qmpd.qapi.object_tree import ObjectTree

            known = self._object_trees[machine] = ObjectTree(self._captured_lines("objects.jsonl.gz"), machine)
        return known

    @cached_property
    def _object_trees(self) -> dict[str, ObjectTree]:
        return {}

    def _captured_lines(self, name: str) -> list[bytes]:
        """The lines of a file of captured replies; none where the folder has no such file.

        :raise BadRelease: it cannot be read.
        """
        from qmpd.qapi.captured import unpack

        try:
            return unpack(self._read(name)).splitlines()
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise BadRelease(f"{self.directory / name}: {error}") from error

    def classify(self, command: str, modelled: Container[str]) -> str:
        """How a command is answered: `modelled` (it is among those), `captured` or `refused`.

        :raise KeyError: the release has no such command.
        """
        description = self.commands[command]
        if command in modelled and command not in self.answered_first:
            return "modelled"
        return "captured" if description.captured else "refused"


def reference_machine(machine_type: str, memory: int | str) -> str:
    """The reference machine that answers: another one where there is memory without CPUs."""
    return _WITH_MEMORY.get(machine_type, machine_type) if memory else machine_type
