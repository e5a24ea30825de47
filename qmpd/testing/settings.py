"""What a test asks for, as the settings of a VM."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qmpd.cli import serve as command_line
from qmpd.common.refusals import Refusal
from qmpd.control import guest_options
from qmpd.control.clock import PuppetClock
from qmpd.machine.blueprint import GuestSettings
from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError
from qmpd.qapi import BadRelease, UnknownRelease, load_release
from qmpd.server.settings import MonitorSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import MachineSettings
    from qmpd.qapi import Release
    from qmpd.server.settings import VMSettings

LONGEST_FOLDER = 80
"""Bytes of a folder's path beyond which another one is taken: a socket's path may have 107."""


class StartError(Exception):
    """The VM cannot be started; the text says why, in the words of `qmpd serve`."""


class Folder:
    """A private folder with a short path, for sockets.  It is removed by `remove`."""

    def __init__(self) -> None:
        place = tempfile.gettempdir()
        if len(os.fsencode(place)) > LONGEST_FOLDER:
            place = "/tmp"
        self.path = tempfile.mkdtemp(prefix="qmpd-", dir=place)

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, name)

    def remove(self) -> None:
        """Remove it, and all that is in it."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path)


def guest_pairs(guest: str | Mapping[str, Any]) -> list[tuple[str, str]]:
    """The options of a guest, as `-guest` has them or by name.

    :raise StartError: the text is no list of options.
    """
    if isinstance(guest, str):
        try:
            return key_values.flat_list(guest) if guest else []
        except OptionError as error:
            raise StartError(f"guest: {error}") from None
    return [(name.replace("_", "-"), _spell(value)) for name, value in guest.items()]


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:f}" if isinstance(value, float) else str(value)


def arguments(machine: str, guest: Sequence[tuple[str, str]] | None, release: str, options: Sequence[str]) -> list[str]:
    """The command line of `qmpd serve` that this comes to, without sockets and clock."""
    line = ["-release", release, "-machine", machine]
    if guest:
        line += ["-guest", ",".join(f"{name}={value.replace(',', ',,')}" for name, value in guest)]
    return [*line, *options]


def settings(
    machine: str, guest: Sequence[tuple[str, str]] | None, release: str, clock: str, options: Sequence[str]
) -> tuple[VMSettings, Inventory | None]:
    """The settings of a VM, and what was built for it; its monitors are those of the options.

    :raise StartError: an option is wrong.
    """
    try:
        parsed = command_line.parse(arguments(machine, None, release, options))
        if parsed is None:
            raise StartError("the options ask for help")
        result, _, warnings, inventory = parsed
        if guest is not None:
            result.machine = _with_guest(result.machine, guest)
        PuppetClock.parse(clock)
    except (OptionError, ValueError) as error:
        raise StartError(str(error)) from None
    for warning in warnings:
        sys.stderr.write(f"qmpd: {warning}\n")
    result.clock = clock
    return result, inventory


def _with_guest(machine: MachineSettings, guest: Sequence[tuple[str, str]]) -> MachineSettings:
    """The machine with an operating system.

    :raise ValueError: an option of the guest is wrong.
    """
    if not machine.board.has_cpus:
        raise StartError("machine 'none' has no guest")
    changes = guest_options.parse(list(guest))
    return replace(machine, guest=replace(machine.guest or GuestSettings(), **changes))


_OF_A_PROCESS = ("daemonize", "chroot", "runas", "pidfile", "sandbox", "qtest", "add-fd")


def of_command_line(
    line: Sequence[str], guest: Sequence[tuple[str, str]] | None, release: str, clock: str
) -> tuple[VMSettings, Inventory]:
    """The settings of a VM that QEMU's own command line asks for, and what was built for it.

    :raise StartError: something is wrong with it, in QEMU's words, or takes a process of its own.
    """
    from qmpd.emulator.complaints import Complaints
    from qmpd.emulator.program import make_machine, read
    from qmpd.option_language.errors import OptionList

    class Warnings(Complaints):
        def line(self, text: str) -> None:
            sys.stderr.write(f"qmpd: {text}\n")

    for word in line:
        if word.startswith("-") and word.lstrip("-") in _OF_A_PROCESS:
            raise StartError(f"{word}: takes a process of its own: start qmpd-system-x86_64")
    complaints = Warnings("qmpd")
    try:
        found = complaints.release = load_release(release)
    except (UnknownRelease, BadRelease) as error:
        raise StartError(str(error)) from None
    try:
        _, start = read(found, list(line), complaints)
        PuppetClock.parse(clock)
        result = make_machine(start)
        if guest is not None:
            result.machine = _with_guest(result.machine, guest)
    except OptionList:
        raise StartError("the command line asks for a list") from None
    except Refusal as error:
        message = found.refusals.message(error)
        raise StartError(f"{error.location}: {message}" if error.location else message) from None
    except ValueError as error:
        raise StartError(str(error)) from None
    result.release, result.clock = release, clock
    return result, start.inventory


def release_of(settings: VMSettings) -> Release:
    """The release that a VM with these settings shows, with its extensions."""
    return load_release(settings.release, settings.extensions)


def monitors(folder: Folder, number: int, exclusive: bool, wait: bool) -> list[MonitorSettings]:
    """So many QMP sockets in a folder."""
    names = ["qmp.sock", *(f"qmp{index}.sock" for index in range(2, number + 1))]
    return [
        MonitorSettings(
            path=folder.file(name), wait=wait and index == 0, exclusive=exclusive, chardev=f"compat_monitor{index}"
        )
        for index, name in enumerate(names)
    ]
