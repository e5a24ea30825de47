"""QAPI module `ui`: the screen, and the passwords of remote displays.

The screen is black, and no display listens: what can be seen is who may be refused what.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, cast

from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.qom.node import Node
    from qmpd.system.system import System

_SCREENS = "/backend"
_DEVICES = "/machine/peripheral"
# A screen as the device starts with it, and in the firmware's text mode; in pixels.
_AT_START, _AS_TEXT = (640, 480), (720, 400)
_PROTOCOLS = ("vnc", "spice")
_PASSWORD_TIMES = ("now", "never")


@command("screendump")
def screendump(system: System, session: Client, arguments: Arguments) -> object:
    """The picture is black; where nobody can write files, it is looked at by nobody."""
    device, head = cast("str | None", arguments.get("device")), cast("int | None", arguments.get("head"))
    if device is not None:
        node = _find(system, device)
        tree = system.tree
        shown = [(tree.plain(each, each.value("device")), each.value("head")) for each in _screens(system)]
        if (node.path, head or 0) not in shown:
            raise CommandError(f"Device {device} (head {head or 0}) is not bound to a QemuConsole")
    elif head is not None:
        raise CommandError("'head' must be specified together with 'device'")
    elif not _screens(system):
        raise CommandError("There is no console to take a screendump from")
    guest = system.guest
    width, height = _AS_TEXT if guest is not None and guest.firmware_has_run else _AT_START
    path = cast("str", arguments["filename"])
    if system.host is None:
        return EMPTY
    picture = (_png if arguments.get("format") == "png" else _ppm)(width, height)
    written, outcome = system.host.write_file(path, picture)

    def finish() -> object:
        try:
            outcome()
        except OSError as error:
            refusal = system.release.behaviour.screendump_refusal
            raise CommandError(refusal.format(path=path, reason=error.strerror)) from None
        return EMPTY

    deferred = Deferred(finish)
    system.host.when_readable(written, deferred.ready)
    return deferred


def _find(system: System, name: str) -> Node:
    tree = system.tree
    start = tree.root if name.startswith("/") else tree.container(_DEVICES)
    node = tree.descend(start, name.split("/"))
    return system.devices.find(name).node if node is None else node


def _screens(system: System) -> list[Node]:
    """The consoles of the devices that show something."""
    container = system.tree.find(_SCREENS)
    return [] if container is None else [each for each in container.children.values() if each.property("head")]


def _ppm(width: int, height: int) -> bytes:
    return b"P6\n%d %d\n255\n" % (width, height) + bytes(width * height * 3)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = zlib.compress((b"\0" + bytes(width * 3)) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


# Passwords


def _check_spice(arguments: Arguments) -> None:
    """:raise Refusal: it is about SPICE, which no machine here has, or of a protocol that there is not."""
    if arguments["protocol"] not in _PROTOCOLS:
        raise Refusal("password-protocol", name="protocol", value=arguments["protocol"])
    if arguments["protocol"] == "spice":
        raise CommandError("SPICE is not in use", "DeviceNotActive")


def _display(system: System, arguments: Arguments) -> bool | None:
    """Whether the VNC display that is meant, the first if none is named, has a password; None: there is no such."""
    displays = system.settings.vnc
    name = arguments.get("display")
    return next((password for each, password in displays if name is None or each == name), None)


def _check_password(system: System, arguments: Arguments) -> None:
    """:raise CommandError: there is no display whose password could be set."""
    password = _display(system, arguments)
    behaviour = system.release.behaviour
    if password is None:
        raise Refusal("vnc-missing")
    if not password:
        raise CommandError(behaviour.vnc_password_disabled)


@command("set_password")
def set_password(system: System, session: Client, arguments: Arguments) -> object:
    _check_spice(arguments)
    if arguments.get("connected", "keep") != "keep":
        raise CommandError(system.release.behaviour.password_connected_refusal)
    _check_password(system, arguments)
    return EMPTY


@command("change-vnc-password")
def change_vnc_password(system: System, session: Client, arguments: Arguments) -> object:
    _check_password(system, arguments)
    return EMPTY


@command("expire_password")
def expire_password(system: System, session: Client, arguments: Arguments) -> object:
    behaviour = system.release.behaviour
    time = cast("str", arguments["time"])
    digits = time.removeprefix("+").removeprefix("-")
    if behaviour.password_expiry_refusal and time not in _PASSWORD_TIMES and not is_digits(digits):
        raise CommandError(behaviour.password_expiry_refusal.format(time=time))
    _check_spice(arguments)
    if _display(system, arguments) is None:
        raise CommandError(behaviour.vnc_expiry_missing)
    return EMPTY
