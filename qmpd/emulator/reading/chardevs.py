"""`-chardev`, `-mon`, `-qmp`, `-qmp-pretty`, `-monitor`, `-serial` and `-parallel` of the drop-in program.

A listening Unix socket with a monitor on it becomes what `qmpd serve` has, so everything that works there works here;
any other device is a `ChardevSettings`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.option_language import key_values
from qmpd.option_language.errors import NOWHERE, OptionError, OptionList
from qmpd.option_language.groups import HELP
from qmpd.server.chardevs import short_form
from qmpd.server.listener import inherited_name
from qmpd.server.settings import ChardevSettings, MonitorSettings

if TYPE_CHECKING:
    from qmpd.option_language.groups import Entry, OptionGroups
    from qmpd.option_language.options import Given
    from qmpd.server.settings import VMSettings

# A path with its final NUL has to fit into sockaddr_un.
_PATH_LIMIT = 108
_BACKENDS = (
    *(*short_form.BARE, "socket", "file", "pipe", "serial", "tty", "parallel", "parport", "udp", "vc", "ringbuf"),
    *("memory", "mux", "spicevmc", "spiceport", "qemu-vdagent", "dbus", "console"),
)
_ALIASES = {"tty": "serial", "parport": "parallel"}
_SPICE = ("vdagent", "smartcard", "usbredir")
_PARALLEL_PORTS = 3
_MODES = ("control", "readline")


class _Device:
    """A character device that was asked for, and what uses it by now."""

    def __init__(self, label: str, location: str, values: dict[str, str]) -> None:
        self.label = label
        self.location = location
        self.values = values
        self.monitor: MonitorSettings | None = None
        self.taken = False
        # Whether a device of the board's uses it.
        self.listened = False

    def flag(self, name: str, default: bool = False) -> bool:
        return key_values.boolean(name, self.values[name]) if name in self.values else default


class ChardevOptions:
    """Takes the options that make character devices and monitors, and makes a machine's settings of them.

    Devices are made when the machine is put together: those that `-chardev` and the monitors ask for first, then the
    monitors, then the guest's ports.
    """

    def __init__(self, groups: OptionGroups, warn: Callable[[str], None]) -> None:
        """`warn` prints a line."""
        self._groups = groups
        self._warn = warn
        self._devices: dict[str, _Device] = {}
        self._compatible = 0
        self._counts = {"serial": 0, "parallel": 0}
        # Whether an option decides about the human monitor that there is else.
        self.monitor_given = False

    @property
    def labels(self) -> dict[str, bool]:
        """The ids of all devices, and whether each is in use."""
        return {label: device.monitor is not None or device.taken for label, device in self._devices.items()}

    # Options

    def take_short(self, given: Given, mode: str) -> None:
        """`-qmp`, `-qmp-pretty` or `-monitor`: a device in its short form, with a monitor on it.

        :raise OptionError: it is wrong.
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
            except short_form.ShortFormError as error:
                first = f"{error}\n" if str(error) else ""
                raise OptionError(f"{first}parse error: {text}") from None
            device = self._groups.create("chardev", label, given.location)
            device.pairs = list(values.items())
        try:
            monitor = self._groups.create("mon", label, given.location)
        except OptionError as error:
            error.hint = ()
            raise
        monitor.pairs = [("mode", mode), ("chardev", label)]
        if mode == "control":
            monitor.pairs.append(("pretty", "on" if given.option.name == "qmp-pretty" else "off"))

    def create(self) -> None:
        """Make the devices that were asked for.

        :raise OptionError: one cannot be made.
        """
        for entry in self._groups.find("chardev"):
            try:
                self._add(entry.identifier, entry.location, entry.values())
            except Refusal as error:
                raise error.at(entry.location) from None

    def create_monitors(self) -> None:
        """Make the monitors.

        :raise OptionError: one cannot be made.
        """
        for entry in self._groups.find("mon"):
            try:
                self._add_monitor(entry)
            except Refusal as error:
                raise error.at(entry.location) from None

    def _add_monitor(self, entry: Entry) -> None:
        label = entry.get("chardev")
        mode = entry.get("mode")
        if label is None:
            raise OptionError("Parameter 'chardev' is missing")
        if mode is not None and mode not in _MODES:
            raise OptionError(f"Parameter 'mode' does not accept value '{mode}'")
        pretty = entry.flag("pretty")
        device = self._devices.get(label)
        if device is None:
            raise OptionError(f'chardev "{label}" not found')
        if pretty and mode != "control":
            raise OptionError("'pretty' is not compatible with HMP monitors")
        if not device.flag("mux") and (device.monitor is not None or device.taken):
            raise OptionError(self._groups.in_use(label))
        if device.monitor is None:
            device.monitor = MonitorSettings(
                path="", exclusive=True, pretty=pretty, chardev=label, mode=mode or "readline", location=device.location
            )

    def make(self, label: str, text: str, location: str, *, taken: bool = True) -> None:
        """A device in its short form, for a port of the guest's or the like, which takes it at once or will.

        :raise OptionError: there is none like that; each line of the text is an error.
        """
        if text.startswith("chardev:"):
            device = self._devices.get(text.removeprefix("chardev:"))
            if device is None:
                raise OptionError("")
            device.taken = device.listened = True
            return
        try:
            values = self.short(text)
        except short_form.ShortFormError as error:
            raise OptionError(str(error)) from None
        if label in self._devices:
            raise OptionError(f"attempt to add duplicate property '{label}' to object (type 'container')")
        self._add(label, location, values)
        device = self._devices[label]
        device.taken = taken
        device.listened = True
        if text.startswith("mon:"):
            device.monitor = MonitorSettings(path="", exclusive=True, chardev=label, mode="readline", location=location)

    def try_out(self, label: str, text: str, location: str) -> None:
        """See whether a device in its short form could be had.

        :raise OptionError: it could not.
        """
        self.make(label, text, location)
        device = self._devices.pop(label, None)
        if device is not None and "path" in device.values and device.values["backend"] == "socket":
            path, listens = device.values["path"], device.flag("server")
            try:
                os.stat(os.path.dirname(path) or "." if listens else path)
            except OSError as error:
                what = f"Failed to bind socket to {path}" if listens else f"Failed to connect to '{path}'"
                raise OptionError(f"{what}: {error.strerror}") from None

    def lend(self, label: str, monitor: MonitorSettings) -> None:
        """Have this on a device that exists.

        :raise OptionError: somebody else uses it, or there is none of that name.
        """
        device = self._devices.get(label)
        if device is None or device.monitor is not None or device.taken:
            raise OptionError("" if device is None else self._groups.in_use(label))
        device.monitor = monitor

    def make_port(self, given: Given, kind: str) -> None:
        """`-serial` or `-parallel`.

        :raise OptionError: there is no such device.
        """
        number = self._counts[kind]
        if given.value == "none":
            self._counts[kind] += kind == "serial"
            return
        if kind == "parallel" and number == _PARALLEL_PORTS:
            raise OptionError("too many parallel ports", given.location)
        try:
            self.make(f"{kind}{number}", given.value, given.location)
        except OptionError as error:
            first = f"{error.message}\n" if error.message else ""
            text = f"{first}could not connect {kind} device to character backend '{given.value}'"
            raise OptionError(text, given.location) from None
        self._counts[kind] += 1

    def make_qtest(self, given: Given) -> None:
        """`-qtest`: a device with the test program's protocol on it.

        :raise OptionError: there is no such device.
        """
        try:
            self.make("qtest", given.value, given.location)
        except OptionError as error:
            first = f"{error.message}\n" if error.message else ""
            raise OptionError(f'{first}Failed to initialize device for qtest: "{given.value}"', NOWHERE) from None
        device = self._devices["qtest"]
        device.monitor = MonitorSettings(
            path="", exclusive=True, chardev="qtest", mode="qtest", location=given.location
        )

    def default_monitor(self, nographic: bool) -> None:
        """What there is where no option decides about it."""
        from qmpd.option_language.options import Given, Option

        option = Option("monitor", "DEVICE", "", None)
        self.take_short(Given(option, "-monitor", "stdio" if nographic else "vc:80Cx24C"), "readline")

    def short(self, text: str) -> dict[str, str]:
        """What a device in its short form is as a list.

        :raise short_form.ShortFormError: it is none.
        """
        pairs = short_form.read(text)
        try:
            key_values.check_flat_list(pairs, self._groups.keys("chardev"))
        except OptionError as error:
            raise short_form.ShortFormError(error.message) from None
        return dict(pairs)

    # Devices

    def _add(self, label: str | None, location: str, values: dict[str, str]) -> None:
        backend = values.get("backend")
        if backend in HELP:
            raise OptionList(self._groups.text("-chardev", "help"), 0)
        if label is None:
            raise OptionError("chardev: no id specified")
        if not backend:
            raise OptionError(f'chardev: "{label}" missing backend')
        other = _ALIASES.get(backend) if self._groups.has_aliases else None
        known = self._groups.backends()
        if other is not None:
            self._warn(f"{location}: warning: The alias '{backend}' is deprecated, use '{other}' instead")
            values = {**values, "backend": other}
            backend = other
        if backend == "console" or (backend not in known if known else backend not in _BACKENDS):
            raise OptionError(f"'{backend}' is not a valid char driver name")
        device = _Device(label, location, values)
        if backend == "stdio" and any(each.values["backend"] == "stdio" for each in self._devices.values()):
            raise OptionError("cannot use stdio by multiple character devices")
        check = _CHECKS.get(backend)
        if check is not None:
            check(device)
        if backend in ("mux", "hub"):
            self._check_base(device, backend)
        log = values.get("logfile")
        if log is not None:
            probe_file(log, "Could not create")
        if backend == "file":
            probe_file(values["path"], "Could not open")
        self._devices[label] = device

    def _check_base(self, device: _Device, backend: str) -> None:
        if backend == "mux":
            name = device.values.get("chardev")
            if name is None:
                raise OptionError("chardev: mux: no chardev given")
            if name not in self._devices:
                raise OptionError(f"mux: base chardev {name} not found")
            return
        names = [value for key, value in device.values.items() if key.startswith("chardevs.")]
        if not names:
            raise OptionError("hub: 'chardevs' list is not defined")
        for name in names:
            if name not in self._devices:
                raise OptionError(f"hub: chardev can't be found by id '{name}'")

    def finish(self, settings: VMSettings) -> None:
        """Put the devices and the monitors into a machine's settings."""
        for device in self._devices.values():
            _place(device, settings)


def _check_socket(device: _Device) -> None:
    values = device.values
    listens = device.flag("server")
    if "delay" in values and "nodelay" in values:
        raise OptionError("'delay' and 'nodelay' are mutually exclusive")
    if "reconnect" in values and "reconnect-ms" in values:
        raise OptionError("'reconnect' and 'reconnect-ms' are mutually exclusive")
    if sum(key in values for key in ("path", "fd", "host")) > 1:
        raise OptionError("None or one of 'path', 'fd' or 'host' option required.")
    if "path" in values:
        path = values["path"]
        if len(path.encode("utf-8", "surrogateescape")) >= _PATH_LIMIT:
            raise OptionError(
                f"UNIX socket path '{path}' is too long", hint=(f"Path must be less than {_PATH_LIMIT} bytes",)
            )
    elif "host" in values:
        if values.get("port") is None:
            raise OptionError("chardev: socket: no port given")
    elif not values.get("fd", "").removeprefix("-").isdigit():
        raise OptionError(f"Unable to parse FD number {values.get('fd', '')}")
    if "tls-creds" in values:
        raise OptionError(f"No TLS credentials with id '{values['tls-creds']}'")
    if "tls-authz" in values:
        raise OptionError("'tls_authz' option requires 'tls_creds' option")
    if device.flag("websocket") and not listens:
        raise OptionError("Websocket client is not implemented")
    if not listens and "wait" in values:
        raise OptionError("'wait' option is incompatible with socket in client connect mode")
    if listens and ("reconnect" in values or "reconnect-ms" in values):
        name = "reconnect" if "reconnect" in values else "reconnect-ms"
        raise OptionError(f"'{name}' option is incompatible with socket in server listen mode")
    if not {"path", "host"} & set(values):
        _check_descriptor(values["fd"])
    if device.flag("ipv4", True) is device.flag("ipv6", True) is False and "host" in values:
        raise OptionError("Cannot disable IPv4 and IPv6 at same time")


def _check_descriptor(text: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(int(text)).st_mode)
    except OSError:
        is_socket = False
    if not is_socket:
        raise OptionError(f"File descriptor '{text}' is not a socket")


def probe_file(path: str, what: str) -> None:
    """Find out whether a file can be written, without a trace.

    :raise OptionError: it cannot.
    """
    if path.startswith("/dev/fdset/"):
        return  # a file of a set of `-add-fd`: it is looked for when it is opened
    try:
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not os.path.exists(path):
            os.stat(folder)
    except OSError as error:
        raise OptionError(f"{what} '{path}': {error.strerror}") from None


def _check_file(device: _Device) -> None:
    if "path" not in device.values:
        raise OptionError("chardev: file: no filename given")
    device.flag("append")
    if "input-path" in device.values:
        _probe_reading(device.values["input-path"])


def _check_pipe(device: _Device) -> None:
    if "path" not in device.values:
        raise OptionError("chardev: pipe: no device path given")
    _probe_reading(device.values["path"])


def _check_serial(device: _Device) -> None:
    if "path" not in device.values:
        raise OptionError("chardev: serial/tty: no device path given")
    _probe_reading(device.values["path"])


def _check_parallel(device: _Device) -> None:
    if "path" not in device.values:
        raise OptionError("chardev: parallel: no device path given")
    _probe_reading(device.values["path"])
    raise OptionError("not a parallel port: Inappropriate ioctl for device")


def _probe_reading(path: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        raise OptionError(f"Could not open '{path}': {error.strerror}") from None


def _check_datagrams(device: _Device) -> None:
    values = device.values
    if not values.get("port"):
        raise OptionError("chardev: udp: remote port not specified")
    named = ((values.get("localaddr") or "(null)", values.get("localport", "")),) if "localport" in values else ()
    for host, port in (*named, (values.get("host") or "localhost", values["port"])):
        if not port.isdigit():
            raise OptionError(f"address resolution failed for {host}:{port}: Servname not supported for ai_socktype")


def _check_ring(device: _Device) -> None:
    size = key_values.size("size", device.values["size"]) if "size" in device.values else 1 << 16
    if size & (size - 1) or not size:
        raise OptionError("size of ringbuf chardev must be power of two")


def _check_spice_channel(device: _Device) -> None:
    name = device.values.get("name")
    if not name:
        raise OptionError("chardev: spice channel: no name given")
    if name not in _SPICE:
        hint = (f"allowed spice char type names: {', '.join(_SPICE)}",)
        raise OptionError(f"unsupported type name: {name}", hint=hint)


def _check_spice_port(device: _Device) -> None:
    if not device.values.get("name"):
        raise OptionError("chardev: spice port: no name given")


def _check_bus(device: _Device) -> None:
    if not device.values.get("name"):
        raise OptionError("chardev: dbus: no name given")


def _check_braille(_device: _Device) -> None:
    raise OptionError("brlapi__openConnection: connect: No such file or directory")


_CHECKS: dict[str, Callable[[_Device], None]] = {
    "braille": _check_braille,
    "dbus": _check_bus,
    "file": _check_file,
    "memory": _check_ring,
    "parallel": _check_parallel,
    "pipe": _check_pipe,
    "ringbuf": _check_ring,
    "serial": _check_serial,
    "socket": _check_socket,
    "spiceport": _check_spice_port,
    "spicevmc": _check_spice_channel,
    "udp": _check_datagrams,
}


def _place(device: _Device, settings: VMSettings) -> None:
    """Put a device where the server looks for it."""
    values, monitor = device.values, device.monitor
    listens = device.flag("server")
    descriptor = int(values["fd"]) if "fd" in values else None
    if values["backend"] == "socket" and listens and monitor is not None:
        monitor.wait = device.flag("wait", True)
        monitor.replaces = True
        monitor.path = values.get("path", "")
        if descriptor is not None:
            monitor.descriptor = descriptor
            monitor.path, monitor.address = inherited_name(descriptor)
        elif "host" in values:
            monitor.host, monitor.port = values["host"], values["port"]
            monitor.address = f"tcp:{monitor.host}:{monitor.port}"
        settings.monitors.append(monitor)
        return
    backend = values["backend"]
    if backend == "socket":
        backend = "listen" if listens else "connect"
    reconnect = max(float(values.get("reconnect", 0)) or float(values.get("reconnect-ms", 0)) / 1000, 0)
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
            listened=device.listened and settings.machine.machine_type != "none",
            signal=device.flag("signal", True),
        )
    )
