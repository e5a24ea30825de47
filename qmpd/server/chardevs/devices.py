"""Character devices that are no listening sockets with a monitor: standard input and output, pseudo-terminals, files,
and sockets that connect, or listen for something else (QEMU's `-chardev`).

What a monitor talks through is always a connected socket, so those that are none get a pair of sockets, and tasks that
copy between it and the device.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import trio

from qmpd.chardev.rules import RINGS, ring_size
from qmpd.common.addresses import socket_path
from qmpd.common.integers import from_digits
from qmpd.common.plain import from_plain, to_plain
from qmpd.common.refusals import NotModelled
from qmpd.server.chardevs.device import Device, Opening
from qmpd.server.chardevs.files import FileDevice, PseudoTerminal, StandardStreams
from qmpd.server.chardevs.sockets import ConnectingSocket, ListeningSocket, SocketDevice, address_of
from qmpd.server.listener import ListenError
from qmpd.server.settings import ChardevSettings, MonitorSettings
from qmpd.system.networks import NETWORK

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from qmpd.server.chardevs.device import Keep
    from qmpd.server.owner import DeviceOwner

_KINDS: dict[str, type[Device]] = {
    "stdio": StandardStreams,
    "file": FileDevice,
    "pty": PseudoTerminal,
    "connect": ConnectingSocket,
    "listen": ListeningSocket,
}


class CharacterDevices:
    """The devices of one machine: opened before it starts, closed when it ends."""

    __slots__ = ("_devices", "_opening", "_scopes", "_vm")

    def __init__(self, vm: DeviceOwner) -> None:
        # When those open that monitors share; None where there are no such.
        self._opening: Opening | None = None
        self._vm = vm
        self._devices: list[Device] = []
        # What ends what a device does.
        self._scopes: dict[str, trio.CancelScope] = {}

    def _new(self, settings: ChardevSettings) -> Device:
        if settings.network is not None:
            from qmpd.server.chardevs import networks

            return networks.new(self._vm, settings)
        return _KINDS.get(settings.backend, Device)(self._vm, settings)

    def open(self) -> None:
        """Open all of them, and tell the monitor that they are there.

        :raise ListenError: one cannot be opened; the others are closed again.
        """
        try:
            for settings in self._vm.settings.chardevs:
                device = self._new(settings)
                self._devices.append(device)
                if settings.shared and self._vm.system.release.behaviour.shared_monitors_open_late:
                    self._open_late(device)
                try:
                    device.open_log()
                    device.open()
                except ListenError as error:
                    place = f"{settings.location}: " if settings.location else ""
                    raise ListenError(f"{place}{error}") from None
        except BaseException:
            self.close()
            raise

    def _open_late(self, device: Device) -> None:
        if self._opening is None:
            self._opening = Opening()
            self._vm.dispatcher.first_events = []
        device.opening = self._opening

    def begin(self) -> None:
        """The machine has started."""
        if self._opening is not None:
            self._opening.events = self._vm.dispatcher.first_events or ()
            self._vm.dispatcher.first_events = None
            self._opening.begun.set()
            self._opening = None

    def add(self, settings: ChardevSettings) -> Device:
        """Open one more; it is carried at once where the machine runs.

        :raise ListenError: it cannot be opened; nothing is left of it then.
        """
        device = self._new(settings)
        known = len(self._vm.system.chardevs)
        try:
            device.open_log()
            device.open()
        except BaseException:
            device.close()
            del self._vm.system.chardevs[known:]
            raise
        finally:
            if settings.backend == "connect" and settings.descriptor is not None:
                os.close(settings.descriptor)  # the device has a copy
        self._devices.append(device)
        if self._vm.running:
            self._vm.nursery.start_soon(self._carry, device)
        return device

    async def _carry(self, device: Device) -> None:
        if device not in self._devices:
            return  # it was removed at once
        with trio.CancelScope() as scope:
            self._scopes[device.label] = scope
            await device.run()

    def remove(self, label: str) -> None:
        """Close one; a multiplexer's is that of the device below it, and is closed with that."""
        scope = self._scopes.pop(label, None)
        if scope is not None:
            scope.cancel()
        for device in [device for device in self._devices if device.label == label]:
            device.close()
            self._devices.remove(device)

    def give(self, label: str, client: socket.socket) -> bool:
        """Give one of them a client (`Device.give`)."""
        return any(device.give(client) for device in self._devices if device.label == label)

    def attach(self, given: Mapping[str, Any]) -> None:
        """Have a monitor on one of them (`qmpd.system.ports.Host.open_monitor`).

        :raise NotModelled: it is none that this can be done with.
        """
        label = given["chardev"]
        device = next((each for each in self._devices if each.label == label), None)
        if device is None:
            raise NotModelled("a monitor on a character device through which nothing passes")
        device.attach(MonitorSettings(path="", exclusive=True, removable=True, **given))

    def has_removable_monitor(self, label: str) -> bool:
        """Whether one of them has a monitor that can be taken away."""
        settings = (each.settings for each in self._devices if each.label == label)
        return any(each.monitor is not None and each.monitor.removable for each in settings)

    def detach(self, label: str) -> None:
        """Take away the monitor of one of them."""
        for device in self._devices:
            if device.label == label:
                device.detach()

    def remove_last(self) -> None:
        """Close the one that was opened last, which nothing has passed through."""
        self._devices.pop().close()

    async def run(self) -> None:
        """Carry what passes through them until the machine ends."""
        async with trio.open_nursery() as nursery:
            for device in self._devices:
                nursery.start_soon(self._carry, device)

    def waiting(self) -> list[tuple[str, str, trio.Event]]:
        """Those that hold the machine's start: who asked for each, its address, and what tells of a client."""
        found, flag = [], self._vm.system.release.behaviour.chardev_flag
        for device in self._devices:
            settings = device.settings
            if settings.wait:
                device.first = trio.Event()
                found.append((settings.location, address_of(settings, flag), device.first))
        return found

    def close(self) -> None:
        """Give them up."""
        for device in self._devices:
            device.close()
        self._devices.clear()

    # A live update

    @property
    def hindrance(self) -> str | None:
        """Why they cannot be handed over just now; None where they can."""
        if any(isinstance(device, SocketDevice) and device.speaking for device in self._devices):
            return "a client of a character device speaks telnet or websockets"
        if any(device.settings.monitor is not None and device.settings.monitor.removable for device in self._devices):
            return "a monitor is an object"
        return None

    def take(self, keep: Keep) -> list[list[Any]]:
        """The devices as plain data; `keep` gives the number by which that refers to an open file."""
        return [[to_plain(device.settings), device.take(keep)] for device in self._devices]

    def put(self, state: list[list[Any]], descriptors: Sequence[int]) -> None:
        """Have the devices that `take` made `state` of; the monitor knows them already."""
        for plain, inner in state:
            settings = from_plain(ChardevSettings, plain)
            device = self._new(settings)
            device.put(inner, descriptors)
            self._devices.append(device)

    def release(self) -> None:
        """Another process has them now: nothing more is read from them, and nothing is taken away."""
        for device in self._devices:
            device.release()
        self._devices.clear()


def settings_of(label: str, backend: Mapping[str, Any]) -> ChardevSettings:
    """The settings of a device with this backend, as `chardev-add` has it.

    :raise NotModelled: it is one that is not opened here.
    """
    kind, data = backend["type"], backend.get("data", {})
    settings = ChardevSettings(label=label, backend=kind, kind=kind, logfile=data.get("logfile", ""))
    settings.log_append = data.get("logappend", False)
    if kind == "socket":
        _take_socket(settings, data)
    elif kind == "file":
        settings.path, settings.input_path = data["out"], data.get("in", "")
        settings.append = data.get("append", False)
    elif kind == "stdio":
        settings.signal = data.get("signal", True)
    elif kind in RINGS:
        settings.ring = ring_size(data)
    elif kind == NETWORK:
        settings.network = dict(data)
    return settings


def _take_socket(settings: ChardevSettings, data: Mapping[str, Any]) -> None:
    settings.listens = data.get("server", True)
    settings.backend = "listen" if settings.listens else "connect"
    settings.telnet, settings.tn3270 = data.get("telnet", False), data.get("tn3270", False)
    settings.websocket = data.get("websocket", False)
    settings.reconnect = max(data.get("reconnect", 0) or data.get("reconnect-ms", 0) / 1000, 0)
    address = data["addr"]
    inner = address.get("data", {})
    if address["type"] == "unix":
        settings.path = socket_path(inner)
        if settings.listens and not settings.path:
            folder = os.environ.get("TMPDIR") or "/tmp"
            settings.path = os.path.join(folder, f"qemu-socket-{os.urandom(3).hex()}")
    elif address["type"] == "inet":
        settings.host, settings.port = inner["host"], inner["port"]
    elif address["type"] == "fd" and inner["str"]:
        settings.descriptor = from_digits(inner["str"])
    elif address["type"] != "fd":
        raise NotModelled(f"character devices with an address of type {address['type']}")
