"""`-readconfig`: sections of a file, each a list of a group's keys (docs: "qemu-config", util/qemu-config.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.option_language import config_lines, key_values, typed_values
from qmpd.option_language.errors import NOWHERE, OptionError
from qmpd.option_language.options import Given, Option

if TYPE_CHECKING:
    from qmpd.emulator.reading.kept import KeptOptions
    from qmpd.option_language.groups import Entry

# Groups whose keys make a tree.
_TREES = ("object", "machine", "smp-opts", "boot-opts")
_MACHINE_TREES = {"smp-opts": "smp", "boot-opts": "boot"}
# Groups of which there is one list.
_ONE_EACH = ("machine", "memory", "smp-opts")
_INVALID = "Invalid argument"


def take(options: KeptOptions, given: Given) -> None:
    """Take all that is in a file.

    :raise Refusal: it cannot be read, or something in it is wrong.
    """
    path, behaviour = given.value, options.release.behaviour
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except IsADirectoryError:
        if not behaviour.keyval_options:
            options.complaints.error(OptionError("error reading file", NOWHERE))
            raise Refusal("config-unreadable", path=path, reason=_INVALID) from None
        raise Refusal("config-folder") from None
    except OSError as error:
        raise Refusal("config-not-opened", path=path, reason=error.strerror) from None
    if behaviour.keyval_options:
        _Sections(options, given.location if behaviour.config_faults_at_option else None).take(path, lines)
    else:
        _take_lines(options, path, lines)


class _Sections:
    """A file whose sections are each taken as a whole."""

    def __init__(self, options: KeptOptions, outer: str | None) -> None:
        """`outer`: where the option is, if faults are told to be there; else they are in the file."""
        self._options = options
        self._outer = outer

    def take(self, path: str, lines: list[str]) -> None:
        """Take the file's lines."""
        section: tuple[str, list[tuple[str, str]]] | None = None
        location: str | None = None
        for number, line in enumerate(lines, 1):
            if config_lines.is_ignored(line):
                continue
            heading = config_lines.heading(line)
            if heading is not None:
                if section is not None:
                    self._take_section(*section, location)
                group, identifier = heading
                section = group, [] if identifier is None else [("id", identifier)]
                continue
            location = f":{path}:{number}"
            try:
                pair = config_lines.pair(line)
                if section is None:
                    raise Refusal("config-group-missing")
            except Refusal as error:
                raise error.at(self._outer or location) from None
            section[1].append(pair)
        if section is not None:
            self._take_section(*section, location)

    def _take_section(self, group: str, pairs: list[tuple[str, str]], location: str | None) -> None:
        place = "" if location is None else location
        try:
            if group in _TREES:
                self._take_tree(group, pairs, place)
            else:
                self._take_group(group, pairs, place)
        except Refusal as error:
            if self._outer is None:
                error.advises = False
            raise error.at(place if self._outer is None else self._outer) from None

    def _take_group(self, group: str, pairs: list[tuple[str, str]], place: str) -> None:
        options = self._options
        if not options.groups.exists(group):
            raise Refusal("group-missing", group=group)
        entry = options.groups.create(group, dict(pairs).get("id"), place)
        for key, value in pairs:
            if key != "id":
                options.groups.put(entry, key, value)
        if group == "name":
            options.machine.set_name(entry.get("guest"))
        elif group == "memory":
            options.machine.take_memory(entry.values(), place)
        elif group == "action":
            options.machine.take_actions(entry.pairs, place)

    def _take_tree(self, group: str, pairs: list[tuple[str, str]], location: str) -> None:
        options = self._options
        tree: key_values.Tree = {}
        for key, value in pairs:
            key_values.plant(tree, key, value, is_checked=False)
        if group == "object":
            declared = typed_values.argument_type(options.release, "object-add")
            try:
                values = typed_values.from_tree(options.release, declared, tree)
            except Refusal as error:
                # Of an object the line is always named.
                raise error.at(location) from None
            options.objects.append((location, values))
        elif group == "machine":
            options.machine.merge(tree)
        else:
            options.machine.merge({_MACHINE_TREES[group]: tree})


def _take_lines(options: KeptOptions, path: str, lines: list[str]) -> None:
    """Each line of a file by itself, as before its sections were read as a whole."""
    entry: Entry | None = None
    entries: list[Entry] = []
    for number, line in enumerate(lines, 1):
        if config_lines.is_ignored(line):
            continue
        try:
            heading = config_lines.heading(line)
            if heading is None:
                pair = config_lines.pair(line)
                if entry is None:
                    raise Refusal("config-group-missing")
                options.groups.put(entry, *pair)
                continue
            group, identifier = heading
            if not options.groups.exists(group):
                raise Refusal("group-missing", group=group)
            entry = _created(options, group, identifier, f":{path}:{number}")
            if entry is not None:
                entries.append(entry)
        except Refusal as error:
            options.complaints.error(error.at(f":{path}:{number}"))
            raise Refusal("config-unreadable", path=path, reason=_INVALID) from None
    for each in entries:
        _take_entry(options, each)


def _created(options: KeptOptions, group: str, identifier: str | None, location: str) -> Entry | None:
    """A new entry; None where there cannot be one, of which nothing is said."""
    try:
        return options.groups.create(group, identifier, location)
    except Refusal:
        return None


def _take_entry(options: KeptOptions, entry: Entry) -> None:
    """Take what is not only a group's."""
    if entry.group == "object":
        options.add_object(entry)
    elif entry.group in _ONE_EACH and entry.identifier is not None:
        return  # it is none of the one that counts
    elif entry.group == "machine":
        options.machine.take_pairs(entry.pairs, entry.location)
    elif entry.group == "memory":
        options.machine.take_memory(entry.values(), entry.location)
    elif entry.group == "name":
        options.machine.set_name(entry.get("guest"))
    elif entry.group == "smp-opts":
        text = ",".join(f"{key}={value}" for key, value in entry.pairs)
        options.machine.take(Given(Option("smp", "TEXT", "", None), "-smp", text))
