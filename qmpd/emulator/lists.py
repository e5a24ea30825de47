"""What QEMU prints when it is asked what there is: `-machine help`, `-device e1000,help` and the like.

Lists of names were captured; lists of properties are made of what is known about the types.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qmpd.emulator.machine_types import find_machine
from qmpd.machine.boards import board_of
from qmpd.option_language.errors import OptionList
from qmpd.option_language.groups import HELP
from qmpd.option_language.type_lists import device_options, object_options, properties_of

if TYPE_CHECKING:
    from qmpd.option_language.groups import OptionGroups
    from qmpd.qapi.release import Release

_VIRTIO_CARD = "virtio-net-pci"
_TPM_TYPES = (
    "Supported TPM types (choose only one):",
    " passthrough   Passthrough TPM backend driver",
    "    emulator   TPM emulator backend driver",
)


class Lists:
    """The lists of a release's program."""

    def __init__(self, release: Release, program: str) -> None:
        self._release = release
        self._program = program

    def text(self, *words: str) -> str | None:
        """A list that was captured; None where it was not."""
        found = self._release.command_line.text(*words, program=self._program)
        return None if found is None else found[0]

    def program(self, word: str) -> OptionList:
        """What `-help` and `-version` print."""
        return OptionList(self.text(word) or "", 0)

    def listed(self, option: str) -> OptionList:
        """What an option prints for `help`."""
        text, status = self._release.command_line.text(option, "help", program=self._program) or ("", 0)
        return OptionList(text, status)

    def group(self, group: str, groups: OptionGroups) -> OptionList:
        """The keys of a group that is part of the machine's properties."""
        listed = groups.listing(group)
        listed.status = 0
        return listed

    def machine(self, name: str | None) -> OptionList:
        """The machines, or the properties of this one."""
        if name is None:
            return self.listed("-machine")
        known = find_machine(self._release, name)
        if known is None:
            return self.listed("-machine")
        # Machines of a kind have the same properties; the list begins with the name.
        text = self.text("-machine", f"{board_of(known['name']).family},help") or ""
        if not self._release.behaviour.keyval_options:
            return OptionList(re.sub(r"(?m)^[^\s=]+\.(?=[^.=\s]+=)", f"{known['name']}.", text), 0)
        first, _, rest = text.partition("\n")
        return OptionList(f"{known['name']}-machine{first[first.find(' ') :]}\n{rest}" if rest else text, 0)

    def object(self, kind: str) -> OptionList | None:
        """The properties of a type of object; None where there is no such type."""
        text = object_options(self._release, kind)
        return None if text is None else OptionList(text, 0)

    def device(self, driver: str) -> OptionList:
        """The properties of a type of device, or the types that there are.

        :raise Refusal: there is none of this name, or no device of its own.
        """
        return self.listed("-device") if driver in HELP else OptionList(device_options(self._release, driver), 0)

    @staticmethod
    def nothing() -> OptionList:
        """The end of a program that has said all there is to say."""
        return OptionList("", 0)

    @staticmethod
    def failure() -> OptionList:
        """The end of a program that has told of its fault."""
        return OptionList("", 1)

    def tpm_types(self) -> tuple[str, ...]:
        """The types of TPM."""
        return _TPM_TYPES

    def choices(self, name: str) -> tuple[str, ...]:
        """What there is to choose from (`qmpd.qapi.command_line.CommandLine.choices`)."""
        return self._release.command_line.choices(name)

    def network_cards(self, bus: str | None = None) -> list[str]:
        """The types of network card, sorted; with a bus, those that go on it."""
        types = self._release.object_types
        found = []
        for name in self._release.hardware.names("device"):
            known = types.is_a(name)
            if bus is not None and bus not in known:
                continue
            names = {each["name"] for each in properties_of(self._release, "device", name)}
            if "netdev" in names and "mac" in names:
                found.append(name)
        return sorted(found)

    def cards(self, names: list[str]) -> OptionList:
        """The network cards of a machine; some releases tell of the one that has another name."""
        if not self._release.behaviour.virtio_card_named:
            return OptionList("Supported NIC models:\n" + "".join(f"{name}\n" for name in names), 0)
        shown = [f"{name} (aka virtio)" if name == _VIRTIO_CARD else name for name in names]
        return OptionList("Available NIC models for this configuration:\n" + "".join(f"{each}\n" for each in shown), 0)

    def cpus(self) -> OptionList:
        """The models of CPU."""
        return self.listed("-cpu")

    def properties(self, kind: str) -> dict[str, str]:
        """The properties of a type and the type of each; none where it is not known."""
        listed = {each["name"]: each["type"] for each in properties_of(self._release, "qom", kind)}
        if not listed and kind.endswith("-machine"):
            # Asking about the type ends some programs; the machine itself can be asked.
            shape = self._machine_shape(kind.removesuffix("-machine"))
            listed = {each[0]: each[1] for each in shape.get("properties", ())}
        return listed

    def device_properties(self, kind: str) -> dict[str, str]:
        """The same of a type of device."""
        return {each["name"]: each["type"] for each in properties_of(self._release, "device", kind)}

    def _machine_shape(self, name: str) -> dict[str, Any]:
        """The shape of the object that a machine of this name is."""
        captured = self._release.hardware.find("machine", board_of(name).family)
        for each in [] if captured is None else captured["tree"][2]:
            if str(each[1][0]).endswith("-machine"):
                return self._release.hardware.shape(each[0])
        return {}
