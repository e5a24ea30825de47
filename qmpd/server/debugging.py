"""The character device that debuggers connect to: `-gdb`, `-s`, and the human monitor's `gdbserver`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.debugger.session import LABEL, make_stub, show_monitor, stub_of
from qmpd.server.chardevs import short_form
from qmpd.server.chardevs.short_form import ShortFormError
from qmpd.server.listener import ListenError
from qmpd.server.settings import ChardevSettings, MonitorSettings

if TYPE_CHECKING:
    from qmpd.debugger.stub import Stub
    from qmpd.qapi import Release
    from qmpd.qapi.refusals import Wordings
    from qmpd.system.system import System

    class Devices(Protocol):
        """A machine's character devices (`qmpd.server.chardevs.devices.CharacterDevices`)."""

        def add(self, settings: ChardevSettings) -> object:
            """Open one more."""

        def remove(self, label: str) -> None:
            """Close one."""

        def remove_last(self) -> None:
            """Close the one that was opened last."""

    class DebuggedMachine(Protocol):
        """Whoever serves the machine."""

        @property
        def system(self) -> System:
            """The machine."""

        def character_devices(self) -> Devices:
            """The machine's character devices."""


MODE = "gdb"
"""The mode of the monitor that is a stub for debuggers."""

NO_DEVICE = "none"
"""What is given in place of a device to have none any more."""

USUAL = "tcp::1234"
"""The device of `-s`, and of a `gdbserver` that names none."""

OF_ANOTHER = "chardev:"
"""How the device begins where it is one that has an id of its own, and the backend that it has then."""

_FORCED = ",wait=off,nodelay=on,server=on"
_OPENED = frozenset({"null", "stdio", "pty", "file"})
_SOCKET_KEYS = frozenset({"path", "host", "port", "server", "wait", "nodelay", "ipv4", "ipv6", "reconnect"})
_SWITCHES = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}


def read_device(text: str, location: str = "") -> ChardevSettings:
    """The device that `-gdb` or `gdbserver` is given, in its short form; a TCP socket listens, whatever it says.

    :raise Refusal: there is none like that.
    """
    if not text:
        raise Refusal("debugger-without-device")
    if text == NO_DEVICE:
        return ChardevSettings(label=LABEL, backend=NO_DEVICE, location=location)
    if text.startswith(OF_ANOTHER):
        return ChardevSettings(label=text.removeprefix(OF_ANOTHER), backend=OF_ANOTHER, location=location)
    try:
        values = dict(short_form.read(forced(text)))
    except ShortFormError as error:
        raise refused(str(error)) from None
    kind = values.pop("backend")
    settings = ChardevSettings(label=LABEL, backend=kind, location=location, path=values.get("path", ""))
    settings.monitor = MonitorSettings(path="", exclusive=True, chardev=LABEL, mode=MODE, location=location)
    if kind == "socket":
        _read_socket(settings, values)
    elif kind not in _OPENED:
        raise NotModelled(f"debuggers at a character device of type {kind}")
    return settings


def _read_socket(settings: ChardevSettings, values: dict[str, str]) -> None:
    unknown = next((key for key in values if key not in _SOCKET_KEYS), None)
    if unknown is not None:
        raise NotModelled(f"'{unknown}' of a socket for debuggers")
    settings.listens = _switch(values, "server", False)
    settings.wait = settings.listens and _switch(values, "wait", True)
    settings.backend = "listen" if settings.listens else "connect"
    settings.host, settings.port = values.get("host"), values.get("port", "")
    monitor = settings.monitor
    assert monitor is not None
    monitor.path, monitor.host, monitor.port = settings.path, settings.host, settings.port
    monitor.address = "" if settings.host is None else f"tcp:{settings.host}:{settings.port}"
    if not settings.listens and "wait" in values:
        raise refused("'wait' option is incompatible with socket in client connect mode")


def _switch(values: dict[str, str], key: str, default: bool) -> bool:
    if key not in values:
        return default
    found = _SWITCHES.get(values[key])
    if found is None:
        raise refused(f"Parameter '{key}' expects 'on' or 'off'")
    return found


def forced(text: str) -> str:
    """The short form of a device with what it is given where it is a TCP socket."""
    return text + _FORCED if text.startswith("tcp:") else text


def check_free(before: ChardevSettings | None, release: Release) -> None:
    """A device is asked for where `before` was asked for already.

    :raise Refusal: one can only be given up then.
    """
    if before is not None and before.backend not in (NO_DEVICE, OF_ANOTHER):
        raise taken(release)


def taken(release: Release, *, is_socket: bool = True) -> Refusal:
    """There is a device for debuggers already."""
    if is_socket and "query-yank" in release.commands:
        return refused("duplicate yank instance")
    return refused(f"attempt to add duplicate property '{LABEL}' to object (type 'container')")


def refused(reason: str) -> Refusal:
    """A character device cannot be had; `reason` says why, and may be empty."""
    return Refusal("debugger-device-failed", reason=reason)


def begin(vm: DebuggedMachine, settings: ChardevSettings) -> None:
    """Let debuggers connect from the start, or, with -preconfig, once the machine exists.

    :raise ListenError: the device cannot be opened, or the machine takes no debugger.
    """
    machine = vm.system.machine
    if machine.preconfig:
        machine.when_created = lambda: _begin_late(vm, settings)
        return
    try:
        open_device(vm, settings)
    except Refusal as error:
        raise ListenError("\n".join(_lines(vm, settings, error))) from None


def _begin_late(vm: DebuggedMachine, settings: ChardevSettings) -> None:
    """The same for a process that runs: it ends where the device cannot be opened."""
    machine = vm.system.machine
    try:
        open_device(vm, settings)
    except Refusal as error:
        for line in _lines(vm, settings, error):
            machine.report(line)
        machine.end(1)


def _lines(vm: DebuggedMachine, settings: ChardevSettings, error: Refusal) -> list[str]:
    place = f"{settings.location}: " if settings.location else ""
    return [f"{place}{line}" for line in messages(vm.system.release.refusals, error)]


def messages(words: Wordings, error: Refusal) -> list[str]:
    """The lines that refuse a device: the device's own reason first, where there is one."""
    return [line for line in (str(error.values.get("reason", "")), words.message(error)) if line]


def change_device(vm: DebuggedMachine, text: str) -> bool:
    """Let debuggers connect to another device, or to none; whether they can now (`gdbserver`).

    :raise Refusal: the machine takes no debugger, or the device cannot be opened.
    """
    make_stub(vm.system)
    settings = read_device(text)
    if settings.backend == OF_ANOTHER:
        raise NotModelled("the debugger's taking over a character device that there is")
    open_device(vm, settings)
    return settings.backend != NO_DEVICE


def open_device(vm: DebuggedMachine, settings: ChardevSettings) -> None:
    """Let debuggers connect to this device from now on, or to none, and to no other.

    :raise Refusal: the machine takes no debugger, or the device cannot be opened.
    """
    stub = make_stub(vm.system)
    if settings.backend != OF_ANOTHER and settings.backend != NO_DEVICE:
        _open(vm, settings)
    show_monitor(vm.system)
    if settings.backend == NO_DEVICE:
        close_device(vm)
    else:
        _listen(vm, stub)


def _listen(vm: DebuggedMachine, stub: Stub) -> None:
    stub.start()
    # What is owed to the debugger goes out first.
    stub.hang_up = lambda: vm.system.machine.later(lambda: close_device(vm))


def _open(vm: DebuggedMachine, settings: ChardevSettings) -> None:
    system = vm.system
    is_taken = any(each.label == LABEL for each in system.chardevs)
    is_socket = settings.backend in ("listen", "connect")
    # Sockets enter themselves for `yank` first; other devices find out last that their name is taken.
    if is_taken and is_socket and "query-yank" in system.release.commands:
        raise taken(system.release)
    devices = vm.character_devices()
    try:
        devices.add(settings)
    except ListenError as error:
        raise refused(str(error)) from None
    if is_taken:
        devices.remove_last()
        system.chardevs.pop()
        raise taken(system.release, is_socket=False)


def open_again(vm: DebuggedMachine) -> None:
    """Let debuggers connect to a device that another process has opened; they meet a stub that is as new."""
    _listen(vm, make_stub(vm.system))


def close_device(vm: DebuggedMachine) -> None:
    """Let nobody connect any more; a debugger that is connected is not told."""
    system = vm.system
    stub = stub_of(system)
    if stub is not None:
        stub.stop()
    if any(each.label == LABEL for each in system.chardevs):
        vm.character_devices().remove(LABEL)
        system.chardevs[:] = [each for each in system.chardevs if each.label != LABEL]
