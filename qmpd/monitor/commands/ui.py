"""QAPI module `ui`: the screen, and the passwords of remote displays.

No display listens: what can be seen of those is who may be refused what.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from qmpd.common.file_sets import set_number
from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_PROTOCOLS = ("vnc", "spice")
_PASSWORD_TIMES = ("now", "never")
_UNWRITTEN = {"ppm": "screendump-write", "png": "screendump-write-png"}


@command("screendump")
def screendump(system: System, session: Client, arguments: Arguments) -> object:
    """Where nobody can write files, nobody looks at the picture."""
    from qmpd.guest.picture import FORMATS
    from qmpd.system.screens import console_for, picture

    device, head = cast("str | None", arguments.get("device")), cast("int | None", arguments.get("head"))
    console = console_for(system, device, head)
    path = cast("str", arguments["filename"])
    if system.host is None:
        return EMPTY
    shown = picture(system, console)
    form = cast("str", arguments.get("format", "ppm"))
    file = _open_set(system, path)
    content = partial(FORMATS[form], shown)
    written, outcome = system.host.write_file(path if file is None else file[0], content)

    def finish() -> object:
        if file is not None and system.descriptors is not None:
            system.descriptors.let_go(file[1], system.removed_files_close)
        try:
            outcome()
        except OSError as error:
            if error.filename is not None:
                code = "screendump-file" if file is None else "screendump-set-shortened"
                raise Refusal(code, path=path, reason=error.strerror, number=file and file[0]) from None
            raise Refusal(_UNWRITTEN[form], reason=error.strerror) from None
        return EMPTY

    deferred = Deferred(finish)
    system.host.when_readable(written, deferred.ready)
    return deferred


def _open_set(system: System, path: str) -> tuple[int, int] | None:
    """A copy of the file of a set that a path stands for, and the set's number; None where it is another path.

    :raise Refusal: there is none that can be written.
    """
    try:
        number = set_number(path)
        if number is None or system.descriptors is None:
            return None
        return system.descriptors.open_to_write(number), number
    except ValueError:
        raise Refusal("screendump-set-unread", path=path) from None
    except OSError as error:
        code = "screendump-set" if isinstance(error, FileNotFoundError) else "screendump-set-mode"
        raise Refusal(code, path=path, reason=error.strerror, number=number) from None


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
