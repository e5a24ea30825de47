"""`-chardev`, `-mon`, `-qmp`, `-qmp-pretty`, `-monitor`, `-serial` and `-parallel` of the drop-in program.

A listening Unix socket with a monitor on it becomes what `qmpd serve` has, so everything that works there works here;
any other device is a `ChardevSettings`.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from typing import TYPE_CHECKING

from qmpd.cli import key_values
from qmpd.cli.errors import OptionError
from qmpd.server.settings import ChardevSettings, MonitorSettings

if TYPE_CHECKING:
    from qmpd.cli.option_groups import OptionGroups
    from qmpd.cli.options import Given
    from qmpd.server.settings import VMSettings

# A path with its final NUL has to fit into sockaddr_un.
_PATH_LIMIT = 108
_TCP = re.compile(r"(\[[^\]]*\]|[^:,\[]*):([^,]*)((?:,.*)?)\Z", re.DOTALL)
_BARE = ("null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio")
_BACKENDS = (*_BARE, "socket", "file", "pipe", "serial", "tty", "parallel", "parport", "udp", "vc", "ringbuf", "memory")
_MODES = ("control", "readline")


class _Device:
    """A character device that was asked for, and what uses it by now."""

    def __init__(self, label: str, location: str, values: dict[str, str]) -> None:
        self.label = label
        self.location = location
        self.values = values
        self.monitor: MonitorSettings | None = None
        self.taken = False

    def flag(self, name: str, default: bool = False) -> bool:
        return key_values.boolean(name, self.values[name]) if name in self.values else default


class ChardevOptions:
    """Takes the options that make character devices and monitors, and makes a machine's settings of them."""

    def __init__(self, groups: OptionGroups) -> None:
        self._groups = groups
        self._devices: dict[str, _Device] = {}
        self._monitors: list[tuple[Given, str, str, bool]] = []
        self._names: set[str] = set()
        self._compatible = 0
        self._counts = {"serial": 0, "parallel": 0}
        self.monitor_given = False

    @property
    def labels(self) -> list[str]:
        """The ids of all devices."""
        return list(self._devices)

    # Options

    def take_chardev(self, given: Given) -> None:
        """`-chardev`.

        :raise OptionError: it is wrong.
        """
        values = self._groups.read(given, "chardev")
        self._add(values.get("id"), given.location, values)

    def take_short(self, given: Given, mode: str) -> None:
        """`-qmp`, `-qmp-pretty` or `-monitor`: a device in its short form, with a monitor on it.

        :raise OptionError: it is wrong.
        """
        text = given.value
        if mode == "readline":
            self.monitor_given = True
            if text == "none":
                return
        if text.startswith("chardev:"):
            label = text.removeprefix("chardev:")
        else:
            label = "qtest" if mode == "qtest" else f"compat_monitor{self._compatible}"
            try:
                values = self.short(text)
            except _ParseError as error:
                first = f"{error}\n" if str(error) else ""
                raise OptionError(f"{first}parse error: {text}") from None
            self._add(label, given.location, values)
        self._compatible += mode != "qtest"
        self._monitors.append((given, label, mode, given.option.name == "qmp-pretty"))

    def take_mon(self, given: Given) -> None:
        """`-mon`.

        :raise OptionError: it is wrong.
        """
        values = self._groups.read(given, "mon")
        if "chardev" not in values:
            raise OptionError("Parameter 'chardev' is missing")
        mode = values.get("mode", "readline")
        if mode not in _MODES:
            raise OptionError(f"Parameter 'mode' does not accept value '{mode}'")
        pretty = "pretty" in values and key_values.boolean("pretty", values["pretty"])
        if pretty and mode == "readline":
            raise OptionError("'pretty' is not compatible with HMP monitors")
        if mode == "readline":
            self.monitor_given = True
        self._monitors.append((given, values["chardev"], mode, pretty))

    def take_port(self, given: Given, kind: str) -> None:
        """`-serial` or `-parallel`: a device with the guest's port on it.

        :raise OptionError: it is wrong.
        """
        label = f"{kind}{self._counts[kind]}"
        self._counts[kind] += 1
        if given.value == "none":
            return
        if given.value.startswith("chardev:"):
            return
        text = given.value.removeprefix("mon:")
        try:
            values = self.short(text)
        except _ParseError as error:
            first = f"{error}\n" if str(error) else ""
            raise OptionError(f"{first}could not connect {kind} device to character backend '{text}'") from None
        self._add(label, given.location, values)
        self._devices[label].taken = True
        if text != given.value:
            self._monitors.append((given, label, "readline", False))
            self.monitor_given = True

    def default_monitor(self, nographic: bool) -> None:
        """What there is where no `-monitor` was given."""
        from qmpd.cli.options import Given, Option

        option = Option("monitor", "DEVICE", "", None)
        self.take_short(Given(option, "-monitor", "stdio" if nographic else "vc:80Cx24C"), "readline")

    # The short form

    def short(self, text: str) -> dict[str, str]:
        """What a device in its short form is as a list.

        :raise _ParseError: it is none.
        """
        if text in _BARE:
            return {"backend": text}
        if text.startswith("vc"):
            return {"backend": "vc"}
        if text == "con:":
            return {"backend": "console"}
        head, colon, rest = text.partition(":")
        if colon:
            if head in ("file", "pipe", "serial", "tty"):
                return {"backend": head, "path": rest}
            if head == "unix":
                return {"backend": "socket", **self._list(rest, "path")}
            if head in ("tcp", "telnet", "tn3270", "websocket"):
                match = _TCP.match(rest)
                if match is None:
                    raise _ParseError("")
                values = {"backend": "socket", "host": match[1].strip("[]"), "port": match[2]}
                if head != "tcp":
                    values[head] = "on"
                return values | self._list(match[3][1:], None)
            if head == "udp":
                return {"backend": "udp", "host": rest}
        if text.startswith("/dev/parport"):
            return {"backend": "parallel", "path": text}
        if text.startswith("/dev/"):
            return {"backend": "serial", "path": text}
        raise _ParseError(f"'{text}' is not a valid char driver")

    def _list(self, text: str, implied: str | None) -> dict[str, str]:
        pairs = key_values.flat_list(text, implied)
        try:
            key_values.check_flat_list(pairs, self._groups.keys("chardev"))
        except OptionError as error:
            raise _ParseError(error.message) from None
        return dict(pairs)

    # Devices

    def _add(self, label: str | None, location: str, values: dict[str, str]) -> None:
        if label is None:
            raise OptionError("chardev: no id specified")
        backend = values.get("backend")
        if not backend:
            raise OptionError(f'chardev: "{label}" missing backend')
        if backend not in (*_BACKENDS, "console"):
            raise OptionError(f"'{backend}' is not a valid char driver name")
        device = _Device(label, location, values)
        if backend == "socket":
            _check_socket(device)
        elif backend in ("file", "pipe", "serial", "parallel", "tty") and not values.get("path"):
            what = "filename" if backend in ("file", "pipe") else "device path"
            raise OptionError(f"chardev: {backend}: no {what} given")
        self._devices[label] = device

    def finish(self, settings: VMSettings) -> None:
        """Put the devices and the monitors into a machine's settings.

        :raise OptionError: a monitor has no device, or one that is in use.
        """
        for given, label, mode, pretty in self._monitors:
            device = self._devices.get(label)
            if device is None:
                raise OptionError(f'chardev "{label}" not found', given.location)
            if device.monitor is not None or (device.taken and not given.value.startswith("mon:")):
                raise OptionError(f"Device '{label}' is in use", given.location)
            device.monitor = MonitorSettings(
                path="", exclusive=True, pretty=pretty, chardev=label, mode=mode, location=device.location
            )
        for device in self._devices.values():
            _place(device, settings)


class _ParseError(Exception):
    """A device's short form that is none; the text is QEMU's first line, which can be empty."""


def _check_socket(device: _Device) -> None:
    values = device.values
    listens = device.flag("server")
    if not listens and "wait" in values:
        raise OptionError("'wait' option is incompatible with socket in client connect mode")
    if listens and ("reconnect" in values or "reconnect-ms" in values):
        name = "reconnect" if "reconnect" in values else "reconnect-ms"
        raise OptionError(f"'{name}' option is incompatible with socket in server listen mode")
    if sum(key in values for key in ("path", "fd", "host")) > 1:
        raise OptionError("None or one of 'path', 'fd' or 'host' option required.")
    if "path" in values:
        path = values["path"]
        if len(path.encode("utf-8", "surrogateescape")) >= _PATH_LIMIT:
            raise OptionError(
                f"UNIX socket path '{path}' is too long", hint=(f"Path must be less than {_PATH_LIMIT} bytes",)
            )
    elif "host" in values:
        if not values.get("port"):
            raise OptionError("chardev: socket: no port given")
    else:
        _check_descriptor(values.get("fd", ""))


def _check_descriptor(text: str) -> None:
    if not text.isdigit():
        raise OptionError(f"Unable to parse FD number {text}")
    try:
        is_socket = stat.S_ISSOCK(os.fstat(int(text)).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        raise OptionError(f"File descriptor '{text}' is not a socket")


def _place(device: _Device, settings: VMSettings) -> None:
    """Put a device where the server looks for it."""
    values, monitor = device.values, device.monitor
    listens = device.flag("server")
    descriptor = int(values["fd"]) if "fd" in values else None
    if values["backend"] == "socket" and listens and monitor is not None:
        monitor.wait = device.flag("wait", True)
        monitor.path = values.get("path", "")
        if descriptor is not None:
            monitor.descriptor = descriptor
            monitor.path, monitor.address = _name_of(descriptor)
        elif "host" in values:
            monitor.host, monitor.port = values["host"], values["port"]
            monitor.address = f"tcp:{monitor.host}:{monitor.port}"
        settings.monitors.append(monitor)
        return
    backend = values["backend"]
    if backend == "socket":
        backend = "listen" if listens else "connect"
    reconnect = float(values.get("reconnect", 0)) or float(values.get("reconnect-ms", 0)) / 1000
    settings.chardevs.append(
        ChardevSettings(
            label=device.label,
            backend=backend,
            monitor=monitor,
            location=device.location,
            path=values.get("path", ""),
            input_path=values.get("input-path", ""),
            append=device.flag("append"),
            host=values.get("host"),
            port=values.get("port", ""),
            descriptor=descriptor,
            listens=listens,
            reconnect=reconnect,
            signal=device.flag("signal", True),
        )
    )


def _name_of(descriptor: int) -> tuple[str, str]:
    """The path that an inherited socket listens at, or else how query-chardev names its address."""
    with socket.socket(fileno=os.dup(descriptor)) as listening:
        name = listening.getsockname()
    if isinstance(name, str):
        return name, ""
    return "", f"tcp:{name[0]}:{name[1]}" if isinstance(name, tuple) else f"fd:{descriptor}"
