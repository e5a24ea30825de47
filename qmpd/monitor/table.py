"""The commands of a release as tables, shared by all machines of the release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.monitor.commands import find

if TYPE_CHECKING:
    from qmpd.monitor.entry import Entry
    from qmpd.qapi import Release


class CommandTable(dict[str, "Entry | None"]):
    """The commands of a release, each looked up when it is first asked for; None stands for an unknown one."""

    __slots__ = ("_only", "_release")

    def __init__(self, release: Release, only: frozenset[str] | None = None) -> None:
        super().__init__()
        self._release = release
        self._only = only

    def __missing__(self, name: str) -> Entry | None:
        if self._only is not None and name not in self._only:
            return None
        entry = find(self._release, name)
        if entry is not None:
            self[name] = entry
        return entry


_tables: dict[int, tuple[Release, CommandTable, CommandTable]] = {}


def command_tables(release: Release) -> tuple[CommandTable, CommandTable]:
    """The tables of command mode and of negotiation mode, shared by all machines of the release."""
    known = _tables.get(id(release))
    if known is None:
        known = (release, CommandTable(release), CommandTable(release, frozenset({"qmp_capabilities"})))
        _tables[id(release)] = known
    return known[1:]
