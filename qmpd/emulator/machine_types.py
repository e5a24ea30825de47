"""The machine types of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.qapi.release import Release

    MachineTypes = Mapping[str, Mapping[str, Any]]

_known: WeakKeyDictionary[Release, MachineTypes] = WeakKeyDictionary()


def machine_types(release: Release) -> MachineTypes:
    """The machine types of a release by name, those that stand for another among them; none where it was not asked.

    Each is what query-machines tells of it, without its `compat-props`: they are most of the reply, and asked of
    nobody here.
    """
    known = _known.get(release)
    if known is None:
        known = _known[release] = _by_name(release)
    return known


def _by_name(release: Release) -> MachineTypes:
    reply = release.captured("query-machines", {}, "none", {})
    found = {}
    for each in orjson.loads(reply) if isinstance(reply, bytes) else []:
        each.pop("compat-props", None)
        found[each["name"]] = each
        if "alias" in each:
            found[each["alias"]] = each
    return found


def find_machine(release: Release, name: str) -> Mapping[str, Any] | None:
    """The machine type of this name, or that the name stands for; None where there is none."""
    return machine_types(release).get(name)
