"""`-chardev`, `-mon`, `-qmp`, `-qmp-pretty`, `-monitor`, `-serial` and `-parallel` of the drop-in program.

A listening Unix socket with a monitor on it becomes what `qmpd serve` has, so everything that works there works here;
any other device is a `ChardevSettings`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from qmpd.chardev import options as chardev_options
from qmpd.chardev import rules
from qmpd.chardev.facts import ChardevFacts, facts_of
from qmpd.chardev.multiplexer import MOST, MUX
from qmpd.chardev.short import MULTIPLEXED, read_short
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.option_language.errors import NOWHERE, OptionList
from qmpd.option_language.groups import HELP
from qmpd.server.chardevs.devices import settings_of
from qmpd.server.chardevs.probing import probe
from qmpd.server.listener import inherited_name
from qmpd.server.settings import MonitorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.option_language.groups import Entry, OptionGroups
    from qmpd.option_language.options import Given
    from qmpd.qapi.release import Release
    from qmpd.server.settings import ChardevSettings, VMSettings

_PARALLEL_PORTS = 3
_MODES = ("control", "readline")
_RECONNECTING = ("reconnect", "reconnect-ms")
_OF_ANOTHER = "chardev:"
_PORT = "port"


class _Device:
    """A character device that was asked for, and what uses it by now."""

    def __init__(self, label: str, location: str, backend: dict[str, Any], base: str) -> None:
        self.label = label
        self.location = location
        self.backend = backend
        # What the device itself is called where several may use it, else empty.
        self.base = base
        # Those that share it, in their order.
        self.users: list[MonitorSettings] = []
        self.monitor: MonitorSettings | None = None
        self.taken = False
        # Whether a device of the board's uses it.
        self.listened = False

    @property
    def shared(self) -> bool:
        """Whether several may use it."""
        return bool(self.base)

    @property
    def room(self) -> int:
        """How many more may use it."""
        if self.shared:
            return MOST - len(self.users)
        return 0 if self.monitor is not None or self.taken else 1

    def take(self, user: MonitorSettings) -> None:
        """Have one more user.

        :raise Refusal: it has as many as there can be.
        """
        if not self.room:
            raise Refusal("chardev-full" if self.shared else "chardev-taken", id=self.label, most=MOST)
        if self.shared:
            self.users.append(user)
        elif user.mode == _PORT:
            self.taken = True
        else:
            self.monitor = user


class Surroundings:
    """What the devices of a command line are to fit into."""

    def __init__(self, options: ChardevOptions, location: str) -> None:
        self._options = options
        self._location = location

    @property
    def client_wait_refused(self) -> bool:
        """See `qmpd.chardev.rules.Surroundings`."""
        return self._options.release.behaviour.client_wait_refused

    def is_kind(self, kind: str) -> bool:
        """See `qmpd.chardev.rules.Surroundings`."""
        return self._options.is_kind(kind)

    def has_chardev(self, label: str) -> bool:
        """See `qmpd.chardev.rules.Surroundings`."""
        return label in self._options.devices

    def object_type(self, name: str) -> str | None:
        """See `qmpd.chardev.rules.Surroundings`."""
        return self._options.object_type(name)

    def warn(self, code: str, /, **values: object) -> None:
        """See `qmpd.chardev.rules.Surroundings`."""
        text = self._options.release.refusals.message(Refusal(code, **values))
        self._options.warn(f"{self._location}: warning: {text}")


def _port(label: str) -> MonitorSettings:
    """A device of the guest's as a user of a character device that others use, too."""
    return MonitorSettings(path="", chardev=label, mode=_PORT)


def _probe_socket(backend: Mapping[str, Any]) -> None:
    """See whether a socket could be had that has a path, which is opened later.

    :raise Refusal: it could not.
    """
    if backend["type"] != "socket":
        return
    data = backend["data"]
    address = data["addr"]
    path = address["data"].get("path") if address["type"] == "unix" else None
    if path and not address["data"].get("abstract") and not any(data.get(name) for name in _RECONNECTING):
        try:
            os.stat(os.path.dirname(path) or "." if data["server"] else path)
        except OSError as error:
            code = "bind-failed" if data["server"] else "connect-failed"
            raise Refusal(code, place=path, reason=error.strerror) from None


class ChardevOptions:
    """Takes the options that make character devices and monitors, and makes a machine's settings of them.

    Devices are made when the machine is put together: those that `-chardev` and the monitors ask for first, then the
    monitors, then the guest's ports.
    """

    def __init__(
        self,
        release: Release,
        groups: OptionGroups,
        warn: Callable[[str], None],
        object_type: Callable[[str], str | None],
    ) -> None:
        """`warn` prints a line; `object_type` gives the type of an object that is there before any device."""
        self.release = release
        self.warn = warn
        self.object_type = object_type
        self.devices: dict[str, _Device] = {}
        self._groups = groups
        self._compatible = 0
        self._counts = {"serial": 0, "parallel": 0}
        # Whether an option decides about the human monitor that there is else.
        self.monitor_given = False

    @property
    def labels(self) -> dict[str, bool]:
        """The ids of all devices, and whether each is in use."""
        return {label: not device.room for label, device in self.devices.items()}

    @property
    def facts(self) -> dict[str, ChardevFacts]:
        """What those who use devices may ask of them, by their ids."""
        return {
            label: facts_of(device.backend, is_busy=not device.room, room=device.room)
            for label, device in self.devices.items()
        }

    def is_kind(self, kind: str) -> bool:
        """Whether the release has character devices of this kind."""
        return rules.is_driver(kind, self.release.object_types)

    # Options

    def take_short(self, given: Given, mode: str) -> None:
        """`-qmp`, `-qmp-pretty` or `-monitor`: a device in its short form, with a monitor on it.

        :raise Refusal: it is wrong.
        """
        text = given.value
        self.monitor_given = True
        if mode == "readline" and text.startswith("none"):
            return
        if text.startswith("chardev:"):
            label = text.removeprefix("chardev:")
        else:
            label = f"compat_monitor{self._compatible}"
            self._compatible += 1
            try:
                values = self.short(text)
            except Refusal as error:
                raise Refusal("chardev-unreadable", text=text, reason=error) from None
            device = self._groups.create("chardev", label, given.location)
            device.pairs = list(values.items())
        try:
            monitor = self._groups.create("mon", label, given.location)
        except Refusal as error:
            error.advises = False
            raise
        monitor.pairs = [("mode", mode), ("chardev", label)]
        if mode == "control":
            monitor.pairs.append(("pretty", "on" if given.option.name == "qmp-pretty" else "off"))

    def create(self) -> None:
        """Make the devices that were asked for.

        :raise Refusal: one cannot be made.
        """
        for entry in self._groups.find("chardev"):
            try:
                self._add(entry.identifier, entry.location, entry.values())
            except Refusal as error:
                raise error.at(entry.location) from None

    def create_monitors(self, make_object: Callable[[dict[str, Any]], None]) -> None:
        """Make the monitors; `make_object` makes an object for each, with what `object-add` would be given.

        :raise Refusal: one cannot be made.
        """
        for entry in self._groups.find("mon"):
            try:
                self._add_monitor(entry, make_object)
            except Refusal as error:
                raise error.at(entry.location) from None

    def _add_monitor(self, entry: Entry, make_object: Callable[[dict[str, Any]], None]) -> None:
        label = entry.get("chardev")
        mode = entry.get("mode")
        if mode is not None and mode not in _MODES:
            raise Refusal("monitor-mode", name="mode", value=mode)
        pretty = entry.flag("pretty")
        if label is None:
            raise Refusal("parameter-missing", name="chardev")
        device = self.devices.get(label)
        if device is None:
            raise Refusal("chardev-missing", id=label)
        if pretty and mode != "control":
            if self.release.behaviour.pretty_needs_control:
                raise Refusal("monitor-pretty")
            said = self.release.refusals.message(Refusal("monitor-pretty-useless"))
            self.warn(f"{entry.location}: warning: {said}")
        name = entry.identifier
        if name is None:
            name = f"compat_monitor{self._compatible}"
            self._compatible += 1
        kind, more = ("monitor-qmp", {"pretty": pretty}) if mode == "control" else ("monitor-hmp", {})
        make_object({"qom-type": kind, "id": name, "chardev": label, **more})
        device.take(MonitorSettings(
            path="", exclusive=True, pretty=pretty, chardev=label, mode=mode or "readline", location=device.location
        ))

    def make(self, label: str, text: str, location: str, *, taken: bool = True) -> None:
        """A device in its short form, for a port of the guest's or the like, which takes it at once or will.

        :raise Refusal: there is none like that.
        """
        if text.startswith(_OF_ANOTHER):
            other = text.removeprefix(_OF_ANOTHER)
            self.lend(other, _port(other))
            self.devices[other].listened = True
            return
        values = self.short(text)
        if label in self.devices:
            raise Refusal("object-duplicate", id=label)
        self._add(label, location, values)
        device = self.devices[label]
        device.taken = taken
        device.listened = True
        if text.startswith(MULTIPLEXED):
            device.take(MonitorSettings(path="", exclusive=True, chardev=label, mode="readline", location=location))
        if device.shared:
            device.take(_port(label))

    def try_out(self, label: str, text: str, location: str) -> None:
        """See whether a device in its short form could be had.

        :raise Refusal: it could not.
        """
        self.make(label, text, location)
        self.devices.pop(label, None)

    def lend(self, label: str, user: MonitorSettings) -> None:
        """Have this on a device that exists.

        :raise Refusal: somebody else uses it, or there is none of that name.
        """
        device = self.devices.get(label)
        if device is None:
            raise Refusal("chardev-short-form-silent")
        device.take(user)

    def lend_to_object(self, given: dict[str, Any]) -> None:
        """Have a monitor that is an object (`qmpd.system.monitors.settings_of`) on a device, which is free.

        :raise Refusal: somebody uses the device.
        """
        device = self.devices[given["chardev"]]
        device.take(MonitorSettings(path="", exclusive=True, removable=True, location=device.location, **given))

    def make_port(self, given: Given, kind: str) -> tuple[int, str] | None:
        """`-serial` or `-parallel`: the port's number and the device that it is connected to; None for no port.

        :raise Refusal: there is no such device.
        """
        number = self._counts[kind]
        if given.value == "none":
            self._counts[kind] += kind == "serial"
            return None
        if kind == "parallel" and number == _PARALLEL_PORTS:
            raise Refusal("parallel-ports").at(given.location)
        try:
            self.make(f"{kind}{number}", given.value, given.location)
        except Refusal as error:
            fault = Refusal("port-unconnected", kind=kind, text=given.value, reason=error)
            raise fault.at(given.location) from None
        self._counts[kind] += 1
        is_another = given.value.startswith(_OF_ANOTHER)
        return number, given.value.removeprefix(_OF_ANOTHER) if is_another else f"{kind}{number}"

    def make_qtest(self, given: Given) -> None:
        """`-qtest`: a device with the test program's protocol on it.

        :raise Refusal: there is no such device.
        """
        text, label = given.value, "qtest"
        try:
            if text.startswith(_OF_ANOTHER):
                label = text.removeprefix(_OF_ANOTHER)
            else:
                self.make(label, text, given.location, taken=False)
            self.lend(
                label, MonitorSettings(path="", exclusive=True, chardev=label, mode="qtest", location=given.location)
            )
        except Refusal as error:
            raise Refusal("qtest-unconnected", text=text, reason=error).at(NOWHERE) from None

    def default_monitor(self, nographic: bool) -> None:
        """What there is where no option decides about it."""
        from qmpd.option_language.options import Given, Option

        option = Option("monitor", "DEVICE", "", None)
        self.take_short(Given(option, "-monitor", "stdio" if nographic else "vc:80Cx24C"), "readline")

    @property
    def opened(self) -> list[_Device]:
        """The devices without those that share another one (multiplexers of their own)."""
        return [each for each in self.devices.values() if each.base not in self.devices]

    @property
    def consoles(self) -> list[tuple[str, dict[str, int]]]:
        """The devices that show text on a console, by their ids, each with the size that was asked for."""
        return [(each.label, each.backend["data"]) for each in self.opened if each.backend["type"] == "vc"]

    def short(self, text: str) -> dict[str, str]:
        """What a device in its short form is as a list.

        :raise Refusal: it is none.
        """
        return read_short(text, self._list)

    def _list(self, text: str, implied: str | None) -> dict[str, str]:
        return self._groups.flat_values("chardev", text, implied)

    # Devices

    def _add(self, label: str | None, location: str, values: dict[str, str]) -> None:
        if values.get("backend") in HELP:
            raise OptionList(self._groups.text("-chardev", "help"), 0)
        around = Surroundings(self, location)
        backend = chardev_options.new_backend(label, values, around, self.release.behaviour)
        assert label is not None
        if backend["type"] == "stdio" and any(each.backend["type"] == "stdio" for each in self.devices.values()):
            raise Refusal("chardev-stdio-twice")
        rules.check(backend, around)
        probe(backend)
        _probe_socket(backend)
        shared = chardev_options.is_shared(values)
        base = f"{label}-base" if shared else ""
        if backend["type"] == MUX:
            base = backend["data"]["chardev"]
            below = self.devices[base]
            if shared or below.shared:
                raise NotModelled("a multiplexer of a multiplexer")
            below.take(_port(base))
            backend, location = below.backend, below.location
        self.devices[label] = _Device(label, location, backend, base)

    def finish(self, settings: VMSettings, users: Callable[[str], int], escape: int) -> None:
        """Put the devices and the monitors into a machine's settings.

        `users` tells how many devices of the machine's use a character device; `escape` is what the keys of shared ones
        come after.
        """
        below = {device.base for device in self.devices.values()}
        for device in self.devices.values():
            if device.label in below:
                continue  # it is opened with what shares it
            if device.shared:
                # The monitors are made before the machine, whatever their order in the line; a board may have no port.
                monitors = [each for each in device.users if each.mode != _PORT]
                device.users = monitors + [_port(device.label)] * users(device.label)
            self._place(device, settings, escape)

    def _place(self, device: _Device, settings: VMSettings, escape: int) -> None:
        """Put a device where the server looks for it."""
        monitor, chardev = device.monitor, settings_of(device.label, device.backend)
        if chardev.logfile and (monitor is not None or any(each.mode != _PORT for each in device.users)):
            self.warn(f"{device.location}: warning: qmpd does not model the log of what a monitor says")
        chardev.base, chardev.users, chardev.escape = device.base, device.users, escape
        chardev.wait = chardev.listens and device.backend["data"]["wait"]
        if monitor is None or not chardev.listens or chardev.has_dialect or monitor.removable:
            chardev.location = device.location
            if monitor is not None and chardev.has_dialect:
                self._place_dialect(monitor, chardev)
            chardev.monitor = monitor
            chardev.listened = device.listened and settings.machine.board.has_cpus
            settings.chardevs.append(chardev)
            return
        monitor.wait = chardev.wait
        monitor.replaces = True
        monitor.path = chardev.path
        if chardev.descriptor is not None:
            monitor.descriptor = chardev.descriptor
            monitor.path, monitor.address = inherited_name(chardev.descriptor)
        elif chardev.host is not None:
            monitor.host, monitor.port = chardev.host, chardev.port
            monitor.address = f"tcp:{monitor.host}:{monitor.port}"
        settings.monitors.append(monitor)

    def _place_dialect(self, monitor: MonitorSettings, chardev: ChardevSettings) -> None:
        """Have a monitor whose clients speak telnet or websockets on a device of its own."""
        monitor.scheme = chardev.scheme
        monitor.path = chardev.path
        if chardev.host is not None:
            monitor.address = f"{monitor.scheme}:{chardev.host}:{chardev.port}"
        if monitor.mode == "control" and chardev.websocket:
            self.warn(
                f"{chardev.location}: warning: real QEMU greets a QMP client over a websocket and hears what it"
                " says only when a client of another monitor speaks; qmpd answers"
            )
