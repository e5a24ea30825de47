"""The kinds of long work that a process which takes a machine over goes on with (`qmpd.schedule.activity.Carried`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.hardware.removal import Unplug
from qmpd.migration.dirty_rate import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.schedule.activity import Activity
    from qmpd.system.system import System

    Make = Callable[[System, str, Mapping[str, Any]], Activity[Any]]


def _unplug(system: System, name: str, state: Mapping[str, Any]) -> Unplug:
    return Unplug(system.devices.removal, name, state["path"])


def _measurement(system: System, name: str, state: Mapping[str, Any]) -> Measurement:
    return Measurement(system.dirty_rate.end)


KINDS: dict[str, Make] = {Unplug.KIND: _unplug, Measurement.KIND: _measurement}
"""What makes a new activity of a kind, of its machine, its name and its state."""


def make_activity(system: System, kind: str, name: str, state: Mapping[str, Any]) -> Activity[Any]:
    """A new activity of this kind; the machine's parts are there by then.

    :raise ValueError: this program knows no such kind.
    """
    make = KINDS.get(kind)
    if make is None:
        raise ValueError(f"there is no long work of the kind {kind}")
    return make(system, name, state)
