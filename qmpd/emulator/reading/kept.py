"""What a command line says, as it is kept until the machine is put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.chardev.multiplexer import ESCAPE
from qmpd.common.refusals import Refusal
from qmpd.emulator.command_line.machine import MachineOptions
from qmpd.emulator.lists import Lists
from qmpd.emulator.process import ProcessOptions
from qmpd.option_language import typed_values
from qmpd.option_language.groups import Entry, OptionGroups

if TYPE_CHECKING:
    from qmpd.emulator.complaints import Complaints
    from qmpd.option_language.options import Given
    from qmpd.qapi.release import Release

    Values = dict[str, object]


class KeptOptions:
    """The options of a command line.

    `objects`, `netdevs`, `blockdevs` and `devices` are those that were given as trees of keys or as JSON, each behind
    its location; `values` has single options by their names, `given` those that may come several times.
    """

    def __init__(self, release: Release, complaints: Complaints) -> None:
        self.release = release
        self.complaints = complaints
        self.groups = OptionGroups(release, complaints.line)
        self.machine = MachineOptions(release, complaints.line)
        self.process = ProcessOptions()
        self.lists = Lists(release, complaints.program)
        self.objects: list[tuple[str, Values]] = []
        self.netdevs: list[tuple[str, Values]] = []
        self.blockdevs: list[tuple[str, Values]] = []
        self.devices: list[tuple[str, Values]] = []
        self.values: dict[str, str] = {}
        # What keys come after that ask for something of a character device that is shared (`-echr`).
        self.escape = ESCAPE
        # Ports, the gdb stub's and USB devices: what they were called with, in order.
        self.given: dict[str, list[Given]] = {}

    def add_object(self, entry: Entry) -> None:
        """Take an object that is a list of keys and text."""
        pairs = list(entry.pairs)
        if entry.identifier is not None:
            pairs.append(("id", entry.identifier))
        if not entry.has("qom-type"):
            raise Refusal("parameter-missing", name="qom-type").at(entry.location)
        if "object-add" in self.release.names.unchecked:
            # The objects themselves read the text.
            self.objects.append((entry.location, dict(pairs)))
            return
        declared = typed_values.argument_type(self.release, "object-add")
        self.objects.append((entry.location, typed_values.from_pairs(self.release, declared, pairs)))
