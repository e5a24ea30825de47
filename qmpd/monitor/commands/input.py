"""QAPI module `ui`: keys and pointing devices, which the guest sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.common.refusals import Refusal
from qmpd.machine.errors import DeviceNotFound
from qmpd.machine.run_state import RunState
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.qapi.introspection import Array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.course import Guest
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_FINGER = "mtt"
_BUSES = ("-pci", "-device")
_INPUT = {
    "i8042": {"key", "btn", "rel"},
    "usb-kbd": {"key"},
    "usb-mouse": {"btn", "rel"},
    "usb-tablet": {"btn", "abs"},
    **{f"virtio-keyboard{bus}": {"key"} for bus in _BUSES},
    **{f"virtio-mouse{bus}": {"btn", "rel"} for bus in _BUSES},
    **{f"virtio-tablet{bus}": {"btn", "abs"} for bus in _BUSES},
}
"""The kinds of events that each type of device takes."""
_TOUCH = frozenset(f"virtio-multitouch{bus}" for bus in _BUSES)
"""Those that fingers touch; before there were events for that they took those of a place."""


@command("send-key")
def send_key(system: System, session: Client, arguments: Arguments) -> object:
    """Any key can be pressed; a number that stands for none is let be."""
    if system.guest is not None:
        keys = cast("list[dict[str, object]]", arguments["keys"])
        system.guest.keys_pressed([str(each["data"]) for each in keys])
    return EMPTY


@command("input-send-event")
def send_event(system: System, session: Client, arguments: Arguments) -> object:
    """All events are refused where nothing in the machine takes one of them; the guest sees them."""
    device = arguments.get("device")
    if isinstance(device, str) and system.tree.resolve_typed(device, "device") is None:
        raise DeviceNotFound(f"Device '{device}' not found")
    if system.machine.state not in (RunState.RUNNING, RunState.SUSPENDED):
        raise Refusal("machine-not-running")
    events = cast("list[dict[str, Any]]", arguments["events"])
    types = {each.node.type for each in system.devices.buses.devices.values()}
    taken = set().union(*(kinds for name, kinds in _INPUT.items() if name in types))
    if types & _TOUCH:
        taken.add(_FINGER if _touches(system) else "abs")
    for each in events:
        if each["type"] not in taken:
            raise Refusal("input-event-unheard", kind=each["type"])
    if system.guest is not None:
        for each in events:
            _move(system.guest, each["type"], each["data"])
    return EMPTY


def _touches(system: System) -> bool:
    """Whether the release has events of their own for fingers."""
    known = system.release.introspection
    events = known.type(known.object(known.command("input-send-event").arguments).member("events").type)
    return isinstance(events, Array) and _FINGER in known.object(events.element).variants


def _move(guest: Guest, kind: str, data: Mapping[str, Any]) -> None:
    if kind == "key":
        guest.key_moved(str(data["key"]["data"]), down=data["down"])
    else:
        guest.pointer_moved(" ".join([kind, *(str(data[name]) for name in sorted(data))]))
