"""What QEMU prints when it is asked what there is: `-machine help`, `-device e1000,help` and the like.

Lists of names were captured; lists of properties are made of what is known about the types.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.cli.errors import OptionList

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.cli.option_groups import OptionGroups
    from qmpd.qapi.release import Release

_WIDTH = 24
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
        from qmpd.cli.machine_options import machines

        for known in machines(self._release):
            if name in (known["name"], known.get("alias")):
                kind = f"{known['name']}-machine"
                return OptionList(self._describe(kind, self._settable(kind, "machine", known["name"])), 0)
        return self.listed("-machine")

    def object(self, kind: str) -> OptionList | None:
        """The properties of a type of object; None where there is no such type."""
        if "user-creatable" not in self._release.object_types.is_a(kind):
            return None
        properties = self._settable(kind, "object", kind)
        if not properties:
            return OptionList(f"There are no options for {kind}.\n", 0)
        return OptionList(self._describe(kind, properties), 0)

    def device(self, driver: str) -> OptionList | None:
        """The properties of a type of device; None where there is none of this name."""
        if driver in ("help", "?"):
            return self.listed("-device")
        hardware = self._release.hardware
        alias = hardware.find("alias", driver)
        kind = driver if alias is None else alias["type"]
        if "device" not in self._release.object_types.is_a(kind):
            return None
        properties = self._reply("device-list-properties", kind)
        if not properties:
            return OptionList(f"There are no options for {kind}.\n", 0)
        return OptionList(self._describe(kind, properties), 0)

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

    def network_types(self) -> list[str]:
        """The types of network backend that were compiled in."""
        return (self.text("-netdev", "help") or "").splitlines()[1:]

    def network_cards(self, bus: str | None = None) -> list[str]:
        """The types of network card, sorted; with a bus, those that go on it."""
        types = self._release.object_types
        found = []
        for name in self._release.hardware.names("device"):
            known = types.is_a(name)
            if bus is not None and bus not in known:
                continue
            names = {each["name"] for each in self._reply("device-list-properties", name)}
            if "netdev" in names and "mac" in names:
                found.append(name)
        return sorted(found)

    def cpus(self) -> OptionList:
        """The models of CPU."""
        return self.listed("-cpu")

    def properties(self, kind: str) -> dict[str, str]:
        """The properties of a type and the type of each; none where it is not known."""
        return {each["name"]: each["type"] for each in self._reply("qom-list-properties", kind)}

    def _reply(self, command: str, kind: str) -> list[dict[str, Any]]:
        reply = self._release.captured(command, {"typename": kind}, "none", {})
        found: list[dict[str, Any]] = orjson.loads(reply) if isinstance(reply, bytes) else []
        return found

    def _settable(self, kind: str, what: str, name: str) -> list[dict[str, Any]]:
        """The properties of a type that can be set."""
        fixed = self._fixed(what, name)
        return [each for each in self._reply("qom-list-properties", kind) if each["name"] not in fixed]

    def _fixed(self, what: str, name: str) -> set[str]:
        """Those of an object's properties that cannot be set."""
        from qmpd.cli.machine_options import family_of

        hardware = self._release.hardware
        captured = hardware.find(what, family_of(name) if what == "machine" else name)
        if captured is None or "tree" not in captured:
            return {"type"}
        number = captured["tree"][0]
        if what == "machine":
            number = next((each[0] for each in captured["tree"][2] if str(each[1][0]).endswith("-machine")), number)
        return {name for name, _, code in hardware.shape(number)["properties"] if code == 0} | {"type"}

    @staticmethod
    def _describe(kind: str, properties: Iterable[dict[str, Any]]) -> str:
        lines = []
        for each in properties:
            line = f"  {each['name']}=<{each['type']}>"
            description, default = each.get("description"), each.get("default-value")
            if description is not None or default is not None:
                line = f"{line:<{_WIDTH}} - {description or ''}"
            if default is not None:
                line += f" (default: {json.dumps(default)})"
            lines.append(line)
        return "".join([f"{kind} options:\n", *(f"{line}\n" for line in sorted(lines))])
