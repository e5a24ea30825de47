"""Making a release's folder: everything is asked first and written at the end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from qmpd.capture.answers import answers, asking
from qmpd.capture.behaviour import describe, measure
from qmpd.capture.client import CaptureError, Program
from qmpd.capture.cpu_models import cpu_models
from qmpd.capture.lines import join, spell, write
from qmpd.capture.object_types import object_types
from qmpd.capture.questions import questions
from qmpd.capture.reference import NO_MACHINE, OPTIONS, PC
from qmpd.qapi import load_release, release_names
from qmpd.qapi.captured import elements
from qmpd.qapi.introspection import Introspection
from qmpd.qapi.json_schema import derive
from qmpd.qapi.naming import UNKNOWN_MEMBER, Names, learn_names

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from pathlib import Path

    from qmpd.qapi import Release

    Report = Callable[[str], None]

STEPS = 7
"""How many steps `capture` announces."""


class _Face:
    """What every monitor of the program says of itself."""

    def __init__(self, command: str) -> None:
        with Program(command, OPTIONS[NO_MACHINE]) as program:
            client = program.client
            self.version: dict[str, Any] = client.greeting["version"]
            self.entries = elements(client.ask("query-qmp-schema").value or b"[]")
            self.commands = [entry["name"] for entry in client.ask("query-commands").result]
            self.introspection = Introspection(json.loads(entry) for entry in self.entries)

            def ask(name: str, arguments: dict[str, object]) -> str | None:
                outcome = client.ask(name, arguments)
                return None if outcome.value is not None else outcome.description

            self.names: Names = learn_names(self.introspection, ask)
            texts = {"help": "help", "info": "help info"}
            self.human_monitor = {
                name: client.ask("human-monitor-command", {"command-line": line}).result for name, line in texts.items()
            }
        with Program(command, [*OPTIONS[NO_MACHINE], "-preconfig"]) as program:
            client = program.client
            asked = [(name, {UNKNOWN_MEMBER: 1}) for name in self.commands]
            refusal = client.ask("stop").description
            self.allowed_early = {
                name
                for name, outcome in zip(self.commands, client.ask_all(asked), strict=True)
                if outcome.description != refusal.replace("'stop'", f"'{name}'")
            }

    @property
    def release(self) -> str:
        """The release's name: the first two numbers of its version."""
        numbers = self.version["qemu"]
        return f"{numbers['major']}.{numbers['minor']}"


def release_of(command: str) -> str:
    """The name of the release that a program is, as it greets.

    :raise CaptureError: the program does not start.
    """
    with Program(command, OPTIONS[NO_MACHINE]) as program:
        numbers = program.client.greeting["version"]["qemu"]
        return f"{numbers['major']}.{numbers['minor']}"


def nearest(version: tuple[int, int, int]) -> Release:
    """The shipped release that behaves most like this version: the last one that is not later, or else the first."""
    known = [load_release(name) for name in release_names()]
    if not known:
        raise CaptureError("no release is there to take after")
    earlier = [release for release in known if release.version[:2] <= version[:2]]
    return earlier[-1] if earlier else known[0]


def capture(command: str, directory: Path, step: Report, report: Report) -> list[str]:
    """Ask the program that `command` starts what it is, and write the release's folder; gives the changed files.

    `step` is told what is being asked (`STEPS` times), `report` what could not be found out.

    :raise CaptureError: the program does not start or is not what it should be.
    :raise OSError: the folder cannot be written.
    """
    step("introspection")
    face = _Face(command)
    ask = asking(command, OPTIONS[NO_MACHINE], report)
    # Types take longest: they get a thread of their own.
    with ThreadPoolExecutor(1) as pool:
        step("types and their properties")
        types = pool.submit(object_types, ask)
        step("behaviour")
        found = measure(command, report)
        replies = answers(command, (NO_MACHINE, PC), list(questions(face.introspection)), report, step)
        step("CPU models")
        models = cpu_models(ask, face.introspection)
        type_lines = types.result()
    step("schema")
    answering = {json.loads(line.partition(b', "reply": ')[0] + b"}")["execute"] for line in replies}
    answering.update(("query-cpu-model-expansion",) if models else ())
    answering.update(("qom-list-types", "qom-list-properties", "device-list-properties"))
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
    }
    directory.mkdir(parents=True, exist_ok=True)
    return [name for name, content in files.items() if write(directory / name, content)]


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
