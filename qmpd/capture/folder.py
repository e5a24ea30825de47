"""Making a release's folder: everything is asked first and written at the end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from qmpd.capture import migration_lines
from qmpd.capture.answers import answers, asking
from qmpd.capture.behaviour import describe, measure
from qmpd.capture.client import CaptureError, Gone, Program, Refused
from qmpd.capture.command_line import command_line
from qmpd.capture.cpu_models import cpu_models
from qmpd.capture.debugger import debugger, document
from qmpd.capture.hardware import STEPS as STEPS_OF_HARDWARE
from qmpd.capture.hardware import hardware
from qmpd.capture.lines import join, spell, write
from qmpd.capture.naming import UNKNOWN_MEMBER, learn_names
from qmpd.capture.object_tree import object_tree
from qmpd.capture.object_types import object_types
from qmpd.capture.questions import questions
from qmpd.capture.reference import NO_MACHINE, OPTIONS
from qmpd.capture.transfer import transfer
from qmpd.qapi import load_release, release_names
from qmpd.qapi.captured import elements
from qmpd.qapi.debugger import FILE as DEBUGGER_FILE
from qmpd.qapi.hardware import FILE as HARDWARE_FILE
from qmpd.qapi.introspection import Introspection
from qmpd.qapi.json_schema import derive
from qmpd.qapi.object_tree import COMMANDS as OBJECT_COMMANDS
from qmpd.qapi.object_types import COMMANDS as TYPE_COMMANDS
from qmpd.qapi.refusals import FILE as REFUSALS_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from pathlib import Path

    from qmpd.qapi import Release

    Report = Callable[[str], None]

__all__ = ["STEPS", "STEPS_OF_HARDWARE", "capture", "nearest", "release_of"]

STEPS = 8 + len(OPTIONS)
"""How many steps `capture` announces; there are `STEPS_OF_HARDWARE` more with the hardware."""


class _Face:
    """What every monitor of the program says of itself."""

    def __init__(self, command: str, report: Report) -> None:
        with Program(command, OPTIONS[NO_MACHINE]) as program:
            client = program.client
            self.version: dict[str, Any] = client.greeting["version"]
            self.entries = elements(client.ask("query-qmp-schema").value or b"[]")
            self.commands = [entry["name"] for entry in client.ask("query-commands").result]
            self.introspection = Introspection(json.loads(entry) for entry in self.entries)

            def ask(name: str, arguments: dict[str, object]) -> str | None:
                outcome = client.ask(name, arguments)
                return None if outcome.value is not None else outcome.description

            try:
                self.names = learn_names(self.introspection, ask)
            except ValueError as error:
                report(f"the names of types cannot be asked for: {error}")
                like = nearest(self.numbers)
                self.names = transfer(like.names, like.introspection, self.introspection)
            self.option_groups = [each["option"] for each in client.ask("query-command-line-options").result]
            texts = {"help": "help", "info": "help info", "log": "help log"}
            self.human_monitor = {
                name: client.ask("human-monitor-command", {"command-line": line}).result for name, line in texts.items()
            }
            self.human_monitor |= migration_lines.learn(client)
        self.allowed_early = self._allowed_early(command, report)

    def _allowed_early(self, command: str, report: Report) -> set[str]:
        """The commands that are permitted before the machine exists."""
        try:
            with Program(command, [*OPTIONS[NO_MACHINE], "-preconfig"]) as program:
                refusal = program.client.ask("stop").description
                asked = [(name, {UNKNOWN_MEMBER: 1}) for name in self.commands]
                outcomes = program.client.ask_all(asked)
        except (Refused, Gone) as error:
            report(f"-preconfig does not work: {error}")
            return set()
        refusals = {name: refusal.replace("'stop'", f"'{name}'") for name in self.commands}
        return {
            name for name, outcome in zip(self.commands, outcomes, strict=True) if outcome.description != refusals[name]
        }

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The version."""
        numbers = self.version["qemu"]
        return numbers["major"], numbers["minor"], numbers["micro"]

    @property
    def release(self) -> str:
        """The release's name: the first two numbers of its version."""
        return f"{self.numbers[0]}.{self.numbers[1]}"


def _starts(command: str, machine: str, report: Report) -> bool:
    """Whether there is this reference machine at all: a program for another architecture has no `pc`."""
    try:
        with Program(command, OPTIONS[machine]):
            return True
    except Refused as error:
        report(f"there is no machine {machine}: {error}")
        return False


def release_of(command: str) -> str:
    """The name of the release that a program is, as it greets.

    :raise CaptureError: the program does not start.
    """
    with Program(command, OPTIONS[NO_MACHINE]) as program:
        numbers = program.client.greeting["version"]["qemu"]
        return f"{numbers['major']}.{numbers['minor']}"


def nearest(version: tuple[int, int, int]) -> Release:
    """The shipped release that behaves most like this version: the last one that is not later, or else the first."""
    known = [release for release in map(load_release, release_names()) if not release.extensions]
    if not known:
        raise CaptureError("no release is there to take after")
    earlier = [release for release in known if release.version[:2] <= version[:2]]
    return earlier[-1] if earlier else known[0]


def capture(
    command: str, directory: Path, step: Report, report: Report, *, with_hardware: bool = False
) -> list[str]:
    """Ask the program that `command` starts what it is, and write the release's folder; gives the changed files.

    The file of hardware is made `with_hardware` only; else one that is there stays.  `step` is told what is being
    asked (`STEPS` times), `report` what could not be found out.

    :raise CaptureError: the program does not start or is not what it should be.
    :raise OSError: the folder cannot be written.
    """
    step("introspection")
    face = _Face(command, report)
    machines = [machine for machine in OPTIONS if _starts(command, machine, report)]
    ask = asking(command, OPTIONS[NO_MACHINE], report)
    # Types take longest: they get a thread of their own.
    with ThreadPoolExecutor(1) as pool:
        step("types and their properties")
        types = pool.submit(object_types, ask)
        step("behaviour")
        found = measure(command, report)
        replies = answers(command, machines, list(questions(face.introspection)), report, step)
        step("CPU models")
        models = cpu_models(ask, face.introspection)
        step("objects")
        objects = object_tree(command, machines, report)
        step("command line")
        options = command_line(command, face.option_groups, report)
        step("what a debugger sees")
        debugged = debugger(command, report)
        type_lines = types.result()
    taken_apart = hardware(command, step, report) if with_hardware else None
    step("schema")
    answering = {json.loads(line.partition(b', "reply": ')[0] + b"}")["execute"] for line in replies}
    answering.update(("query-cpu-model-expansion",) if models else ())
    answering.update(TYPE_COMMANDS)
    answering.update(OBJECT_COMMANDS if objects else ())
    files = {
        "release.json": release_file(face.version, found),
        "introspection.jsonl": join(face.entries),
        "commands.jsonl": join(command_lines(face.introspection, face.commands, face.allowed_early, answering)),
        "events.jsonl": join(event_lines(face.introspection)),
        "names.json": _document(face.names.to_json()),
        "schema.json": _document(derive(face.introspection, face.names, face.release)),
        "human-monitor.json": _document(face.human_monitor),
        "answers.jsonl.gz": join(replies),
        "cpu-models.jsonl.gz": join(models),
        "types.jsonl.gz": join(type_lines),
        "objects.jsonl.gz": join(objects),
        "command-line.jsonl.gz": join(options),
    }
    if debugged is not None:
        files[DEBUGGER_FILE] = document(debugged)
    words = nearest(face.numbers).own_words
    if words is not None:
        files[REFUSALS_FILE] = words
    if taken_apart is not None:
        files[HARDWARE_FILE] = join(taken_apart)
    elif not (directory / HARDWARE_FILE).exists():
        report("devices cannot be added to this release's machines: that takes --hardware")
    elif not same_program(directory / "release.json", files["release.json"]):
        report(f"{HARDWARE_FILE} is kept, but is of another program: --hardware makes it anew")
    directory.mkdir(parents=True, exist_ok=True)
    return [name for name, content in files.items() if write(directory / name, content)]


def same_program(path: Path, content: bytes) -> bool:
    """Whether a release.json that may be there is of the same version and build as this new one."""
    new = json.loads(content)
    try:
        old = json.loads(path.read_bytes())
        return bool((old["version"], old["package"]) == (new["version"], new["package"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _document(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def release_file(program: dict[str, Any], found: dict[str, Any]) -> bytes:
    """The content of release.json.

    `program` is the `version` of the greeting, `found` the behaviours that were measured.
    """
    numbers = program["qemu"]
    version = {name: numbers[name] for name in ("major", "minor", "micro")}
    like = nearest((version["major"], version["minor"], version["micro"]))
    same_build = (like.version, like.package) == (tuple(version.values()), program["package"])
    behaviour = describe(found, like.behaviour, None if same_build else like.name)
    return _document({"version": version, "package": program["package"], "behaviour": behaviour})


def command_lines(
    introspection: Introspection, commands: Iterable[str], early: Container[str], answering: Container[str]
) -> list[bytes]:
    """The lines of commands.jsonl.

    `early` are the commands that preconfig allows, `answering` those with captured answers.
    """
    lines = []
    for name in commands:
        line: dict[str, Any] = {"name": name}
        entry = introspection.command(name)
        if entry.allow_oob:
            line["allow-oob"] = True
        if name in early:
            line["allow-preconfig"] = True
        if entry.features:
            line["features"] = list(entry.features)
        if name in answering:
            line["captured"] = True
        lines.append(spell(line))
    return lines


def event_lines(introspection: Introspection) -> list[bytes]:
    """The lines of events.jsonl."""
    lines = []
    for name in introspection.events:
        features = introspection.event(name).features
        lines.append(spell({"name": name, "features": list(features)} if features else {"name": name}))
    return lines
