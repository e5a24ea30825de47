"""The groups of options that take a list of keys, as a release knows them (query-command-line-options)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from qmpd.cli import key_values
from qmpd.cli.errors import OptionError
from qmpd.cli.key_values import BOOL, NUMBER, SIZE, STRING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.cli.options import Given
    from qmpd.qapi.release import Release

_TYPES = {"string": STRING, "boolean": BOOL, "number": NUMBER, "size": SIZE}
_IDENTIFIER = re.compile(r"[A-Za-z][-A-Za-z0-9._]*\Z")
IDENTIFIER_HINT = ("Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",)

IMPLIED = {
    "accel": "accel",
    "audiodev": "driver",
    "boot-opts": "order",
    "chardev": "backend",
    "device": "driver",
    "fsdev": "fsdriver",
    "fw_cfg": "name",
    "icount": "shift",
    "memory": "size",
    "mon": "chardev",
    "name": "guest",
    "net": "type",
    "netdev": "type",
    "nic": "type",
    "numa": "type",
    "object": "qom-type",
    "option-rom": "romfile",
    "plugin": "file",
    "rtc": "base",
    "sandbox": "enable",
    "smp-opts": "cpus",
    "tpmdev": "type",
    "trace": "enable",
    "virtfs": "fsdriver",
    "vnc": "vnc",
}
"""The key of a first value without one, by group."""

_MERGED = frozenset({"boot-opts", "icount", "memory", "name", "rtc", "smp-opts", "machine", "compat", "iscsi", "vnc"})


class OptionGroups:
    """Reads the lists of a release's options, and remembers the ids that were given."""

    def __init__(self, release: Release, warn: Callable[[str], None]) -> None:
        """`warn` is called with each warning, a line or more, that QEMU would print."""
        self._release = release
        self._warn = warn
        self._keys: dict[str, dict[str, str]] | None = None
        self._identifiers: dict[str, set[str]] = {}

    def keys(self, group: str) -> dict[str, str]:
        """The keys that a group has and the type of each; none where it takes any."""
        if self._keys is None:
            reply = self._release.captured("query-command-line-options", {}, "none", {})
            listed = orjson.loads(reply) if isinstance(reply, bytes) else []
            self._keys = {
                each["option"]: {key["name"]: _TYPES[key["type"]] for key in each["parameters"]} for each in listed
            }
        return self._keys.get(group, {})

    def pairs(self, given: Given, group: str) -> list[tuple[str, str]]:
        """The pairs of a list as they were typed."""

        def warn(flag: str, instead: str) -> None:
            if self._release.behaviour.keyval_options:
                self._warn(
                    f"{given.location}: warning: short-form boolean option '{flag}' deprecated\n"
                    f"Please use {instead} instead"
                )

        return key_values.flat_list(given.value, IMPLIED.get(group), warn)

    def read(self, given: Given, group: str) -> dict[str, str]:
        """The values of a list by key, as they were typed, checked against what the group knows; `id` among them.

        :raise OptionError: a key is unknown, a value not of its type, or the id no identifier or taken.
        """
        pairs = self.pairs(given, group)
        identifier = dict(pairs).get("id")
        if identifier is not None:
            self.claim(group, identifier)
        known = self.keys(group)
        if known:
            key_values.check_flat_list([pair for pair in pairs if pair[0] != "id"], known)
        return dict(pairs)

    def claim(self, group: str, identifier: str) -> None:
        """Take an id.

        :raise OptionError: it is none, or taken.
        """
        if _IDENTIFIER.match(identifier) is None:
            raise OptionError("Parameter 'id' expects an identifier", hint=IDENTIFIER_HINT)
        taken = self._identifiers.setdefault(group, set())
        if identifier in taken and group not in _MERGED:
            raise OptionError(f"Duplicate ID '{identifier}' for {group}")
        taken.add(identifier)
