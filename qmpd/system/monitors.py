"""Monitors that are objects of users: `monitor-qmp` and `monitor-hmp`, on a character device that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from qmpd.qom.node import Node
    from qmpd.system.system import System

MODES = {"monitor-qmp": "control", "monitor-hmp": "readline"}
"""What each type of object speaks, in the words of `-mon`."""


def settings_of(node: Node) -> dict[str, Any]:
    """What `-mon` would be given for such an object: the device, the mode, and whether it is indented."""
    return {"chardev": node.value("chardev"), "mode": MODES[node.type], "pretty": node.value("pretty") is True}


def begin(system: System, node: Node) -> None:
    """A new object may be a monitor: have it talk.

    :raise Refusal: it cannot, and the object is gone.
    """
    if node.type not in MODES:
        return
    try:
        if system.host is None:
            raise NotModelled("monitors where nobody can connect")
        system.host.open_monitor(settings_of(node))
    except BaseException:
        system.objects.remove(node.name)
        raise
    _mark(system, node.value("chardev"), used=True)


def _mark(system: System, label: str, *, used: bool) -> None:
    for entry in system.chardevs:
        if entry.label == label:
            entry.frontend_open = used
    system.inventory.backends.chardevs = system.chardev_facts


def check_removal(system: System, identifier: str, asks: str) -> None:
    """Refuse to take away an object that is a monitor which has to stay; `asks` is the monitor of whoever wants it.

    :raise Refusal: it has to stay.
    """
    node = system.objects.find(identifier)
    if node is None or node.type not in MODES:
        return
    if node.type == "monitor-hmp":
        raise Refusal("monitor-human-stays")
    if node.value("chardev") == asks:
        raise Refusal("monitor-own-stays")
    if system.host is None or not system.host.has_removable_monitor(node.value("chardev")):
        raise NotModelled("taking away a monitor that the command line has made with -mon, -qmp or the like")


def removed(system: System, node: Node) -> None:
    """An object is gone that was a monitor: nobody speaks on its device any more."""
    label = node.value("chardev")
    if system.host is not None:
        system.host.close_monitor(label)
    _mark(system, label, used=False)


def client_left(system: System, label: str) -> None:
    """The client of a monitor has left, which may be to go with him, and its device with it (`close-action`)."""
    nodes = [node for node in system.objects.of_type("monitor-qmp") if node.value("chardev") == label]
    for node in [node for node in nodes if node.value("close-action") == "delete"]:
        system.objects.remove(node.name)
        if system.host is not None:
            system.host.close_chardev(label)
        system.chardevs[:] = [each for each in system.chardevs if each.label != label]
