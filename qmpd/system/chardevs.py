"""Character devices that come and go while a machine runs, whoever asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.chardev import rules
from qmpd.chardev.device import Chardev
from qmpd.chardev.multiplexer import MUX
from qmpd.chardev.ring import Ring
from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.system.system import System

    Backend = Mapping[str, Any]

LATE_MULTIPLEXERS = "multiplexers of character devices that are added once there is a machine"
"""What is said of `mux`, and of `mux=on`."""

# Backends that nothing is opened for, and what query-chardev calls them.
_NOTHING = {"null": "null", "ringbuf": "ringbuf", "memory": "ringbuf", "testdev": "testdev", "msmouse": "msmouse"}


class Surroundings:
    """What a new device is to fit into (`qmpd.chardev.rules.Surroundings`); `warn` is told each line of a warning."""

    def __init__(self, system: System, warn: Callable[[str], None]) -> None:
        self._system = system
        self._warn = warn

    @property
    def client_wait_refused(self) -> bool:
        """See there."""
        return self._system.release.behaviour.client_wait_refused

    def is_kind(self, kind: str) -> bool:
        """See there."""
        return rules.is_driver(kind, self._system.release.object_types)

    def has_chardev(self, label: str) -> bool:
        """See there."""
        return find(self._system, label) is not None

    def object_type(self, name: str) -> str | None:
        """See there."""
        node = self._system.objects.find(name) if self._system.has_known_objects else None
        return None if node is None else node.type

    def warn(self, code: str, /, **values: object) -> None:
        """See there."""
        self._warn(f"warning: {self._system.release.refusals.message(Refusal(code, **values))}")


def find(system: System, label: str) -> Chardev | None:
    """The device of this name."""
    return next((each for each in system.chardevs if each.label == label), None)


def add(system: System, label: str, backend: Backend, around: Surroundings, monitor: str) -> str | None:
    """Add a device; gives the path of a pseudo-terminal.

    `monitor` is the monitor that asks, whose open files the backend may name.

    :raise Refusal: it cannot be had.
    """
    kind = backend["type"]
    rules.check_kind(kind, around)
    if kind == "stdio" and any(each.kind == "stdio" for each in system.chardevs):
        raise Refusal("chardev-stdio-twice")
    rules.check(backend, around)
    if kind == MUX:
        raise NotModelled(LATE_MULTIPLEXERS)
    opened = _with_file(system, monitor, backend)
    if find(system, label) is not None:
        raise Refusal("object-duplicate", id=label)
    if kind in _NOTHING and "logfile" not in backend.get("data", {}):
        ring = Ring(rules.ring_size(backend.get("data", {}))) if kind in rules.RINGS else None
        system.chardevs.append(Chardev(label, _NOTHING[kind], False, False, False, kind=kind, ring=ring))
        return None
    if system.host is None:
        raise NotModelled(f"adding character devices of type {kind}")
    return system.host.open_chardev(label, opened)


def _with_file(system: System, monitor: str, backend: Backend) -> Backend:
    """A socket's backend with the number of the file in place of the name that `getfd` gave it.

    :raise Refusal: there is no such file, or it is no socket.
    """
    data = backend.get("data", {})
    address = data.get("addr", {})
    if backend["type"] != "socket" or address.get("type") != "fd":
        return backend
    name = address["data"]["str"]
    if not name and data.get("server", True) and system.release.behaviour.chardev_without_address:
        return backend
    files = system.descriptors
    number = None if files is None else files.take(monitor, name)
    if files is None or number is None:
        raise Refusal("descriptor-name-missing", name=name)
    if system.computer.descriptor_kind(number) != "socket":
        files.close(number)
        raise Refusal("descriptor-no-socket", text=name)
    return {**backend, "data": {**data, "addr": {"type": "fd", "data": {"str": str(number)}}}}


def give_client(system: System, label: str, number: int) -> None:
    """Give a device that listens a client, by the descriptor of its socket, which is the caller's no more.

    :raise Refusal: the device takes none, or that is no socket.
    """
    if system.host is None or system.computer.descriptor_kind(number) != "socket":
        if system.descriptors is not None:
            system.descriptors.close(number)
    elif system.host.give_client(label, number):
        return
    raise Refusal("add-client-failed")


def is_busy(system: System, chardev: Chardev) -> bool:
    """Whether somebody uses a device: a multiplexer uses the one below it."""
    if any(each.base == chardev.label for each in system.chardevs):
        return True
    if chardev.base and system.release.behaviour.multiplexers_always_busy:
        return True
    return chardev.frontend_open or (not system.is_bare and system.inventory.backends.chardev_is_busy(chardev.label))


def remove(system: System, label: str) -> None:
    """Take a device away.

    :raise Refusal: there is none of this name, or somebody uses it.
    """
    chardev = find(system, label)
    if chardev is None:
        raise Refusal("chardev-not-found", id=label)
    if is_busy(system, chardev):
        raise Refusal("chardev-busy", id=label)
    _close(system, chardev)


def _close(system: System, chardev: Chardev) -> None:
    if system.host is not None:
        system.host.close_chardev(chardev.label)
    system.chardevs.remove(chardev)


def change(system: System, label: str, backend: Backend, around: Surroundings, monitor: str) -> str | None:
    """Give a device another backend; gives the path of a pseudo-terminal.

    :raise Refusal: there is no such device, or the backend cannot be had.
    """
    chardev = find(system, label)
    if chardev is None:
        raise Refusal("chardev-unknown", id=label)
    if chardev.kind in (MUX, "hub"):
        raise Refusal("chardev-change-shared")
    if is_busy(system, chardev):
        raise NotModelled("changing a character device that is in use")
    _close(system, chardev)
    return add(system, label, backend, around, monitor)


def ring_of(system: System, label: str) -> Ring:
    """The ring of the device of this name.

    :raise Refusal: there is no such device, or it has none.
    """
    chardev = find(system, label)
    if chardev is None:
        raise Refusal("ring-missing", id=label)
    if chardev.ring is None:
        raise Refusal("ring-none", id=label)
    return chardev.ring
