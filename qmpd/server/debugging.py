"""The character device that debuggers connect to: `-gdb`, `-s`, and the human monitor's `gdbserver`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.chardev import rules
from qmpd.chardev.options import new_backend
from qmpd.chardev.short import read_short
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.debugger.session import LABEL, make_stub, show_monitor, stub_of
from qmpd.option_language.groups import OptionGroups
from qmpd.server.chardevs.devices import settings_of
from qmpd.server.listener import ListenError
from qmpd.server.settings import ChardevSettings, MonitorSettings
from qmpd.system import chardevs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.chardev.rules import Surroundings
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
_SOCKET_KEYS = frozenset({
    "backend", "path", "host", "port", "server", "wait", "nodelay", "ipv4", "ipv6", "reconnect", "abstract", "tight",
})  # fmt: skip
_SOCKET = "socket"


class Alone:
    """No other devices and no objects that a device were to fit in with (`qmpd.chardev.rules.Surroundings`)."""

    def __init__(self, release: Release) -> None:
        self._release = release

    @property
    def client_wait_refused(self) -> bool:
        """See there."""
        return self._release.behaviour.client_wait_refused

    def is_kind(self, kind: str) -> bool:
        """See there."""
        return rules.is_driver(kind, self._release.object_types)

    def has_chardev(self, label: str) -> bool:
        """See there."""
        del label
        return False

    def object_type(self, name: str) -> str | None:
        """See there."""
        del name
        return None

    def warn(self, code: str, /, **values: object) -> None:
        """Nobody is told."""


def read_device(
    text: str, release: Release, location: str = "", around: Surroundings | None = None
) -> ChardevSettings:
    """The device that `-gdb` or `gdbserver` is given, in its short form; a TCP socket listens, whatever it says.

    `around` is what it is to fit in with, None where that is nothing.

    :raise Refusal: there is none like that.
    """
    if not text:
        raise Refusal("debugger-without-device")
    if text == NO_DEVICE:
        return ChardevSettings(label=LABEL, backend=NO_DEVICE, location=location)
    if text.startswith(OF_ANOTHER):
        return ChardevSettings(label=text.removeprefix(OF_ANOTHER), backend=OF_ANOTHER, location=location)
    around = Alone(release) if around is None else around
    groups = OptionGroups(release, lambda _: None)
    try:
        options = read_short(forced(text), lambda listed, implied: groups.flat_values("chardev", listed, implied))
        backend = new_backend(LABEL, options, around, release.behaviour)
        rules.check(backend, around)
    except Refusal as error:
        raise refused(error) from None
    kind = backend["type"]
    if kind == _SOCKET:
        _check_socket(options)
    elif kind not in _OPENED:
        raise NotModelled(f"debuggers at a character device of type {kind}")
    return _settings(backend, location)


def _check_socket(options: Mapping[str, str]) -> None:
    unknown = next((key for key in options if key not in _SOCKET_KEYS), None)
    if unknown is not None:
        raise NotModelled(f"'{unknown}' of a socket for debuggers")


def _settings(backend: Mapping[str, Any], location: str) -> ChardevSettings:
    settings = settings_of(LABEL, backend)
    settings.location = location
    monitor = settings.monitor = MonitorSettings(path="", exclusive=True, chardev=LABEL, mode=MODE, location=location)
    if backend["type"] == _SOCKET:
        settings.wait = settings.listens and backend["data"]["wait"]
        monitor.path, monitor.host, monitor.port = settings.path, settings.host, settings.port
        monitor.address = "" if settings.host is None else f"tcp:{settings.host}:{settings.port}"
    return settings


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
        return refused(Refusal("yank-duplicate"))
    return refused(Refusal("object-duplicate", id=LABEL))


def refused(reason: Refusal | str) -> Refusal:
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
    return [line for line in (reason(words, error), words.message(error)) if line]


def reason(words: Wordings, error: Refusal) -> str:
    """Why the device itself cannot be had; empty where nothing is said."""
    why = error.values.get("reason", "")
    return words.message(why) if isinstance(why, Refusal) else str(why)


def change_device(vm: DebuggedMachine, text: str) -> bool:
    """Let debuggers connect to another device, or to none; whether they can now (`gdbserver`).

    :raise Refusal: the machine takes no debugger, or the device cannot be opened.
    """
    make_stub(vm.system)
    system = vm.system
    around = chardevs.Surroundings(system, system.machine.report)
    settings = read_device(text, system.release, around=around)
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
