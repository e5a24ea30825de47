"""`qmpd-system-x86_64`: the program that stands where QEMU's stood, with QEMU's command line.

The release is chosen by `QMPD_RELEASE`, or by a line `release = NAME` in `$XDG_CONFIG_HOME/qmpd.conf` or
`/etc/qmpd.conf`; `QMPD_OPTIONS`, or a line `options = ...` there, holds options of `qmpd serve` that QEMU does not have
(`-guest`, `-control`, `-clock`, `-transcript`, `-extension`), in which `%n` is the machine's name and `%p` the process.
"""

from __future__ import annotations

import gc
import os
import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from qmpd.common.interruption import end_at_once
from qmpd.common.output import complete_streams, finish, tell
from qmpd.common.refusals import Refusal
from qmpd.emulator.complaints import Complaints
from qmpd.option_language.errors import OptionError, OptionList
from qmpd.option_language.options import Option, scan, scan_all
from qmpd.qapi import DEFAULT_RELEASE, BadRelease, UnknownExtension, UnknownRelease, load_release

if TYPE_CHECKING:
    from qmpd.emulator.phases.start import Start
    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.option_language.options import Given
    from qmpd.qapi.release import Release
    from qmpd.server.settings import VMSettings

# Options of QEMU for other processors, which no help tells of here; those behind True take an argument.
_OTHER_TARGETS = {"g": True, "semihosting": False, "semihosting-config": True}
_FILES = ("/etc/qmpd.conf",)
_OWN = ("guest", "control", "clock", "disk", "transcript", "extension", "reboot-reset", "release", "v", "vv")


def main(arguments: list[str] | None = None) -> int:
    """Run the program with these arguments, the process's own by default; the result is the exit status."""
    program = os.path.basename(sys.argv[0]) or "qemu"
    if arguments is None:
        arguments = sys.argv[1:]
        end_at_once()
        # What is imported stays, so to look for garbage in it only makes the start longer (`qmpd.server.serve`).
        gc.disable()
    complete_streams()
    return finish(_main(program, arguments), program)


def _main(program: str, arguments: list[str]) -> int:
    complaints = Complaints(program)
    try:
        settings = configuration()
        release = complaints.release = _release(settings)
        options, start = read(release, arguments, complaints)
        return _serve(options, start, settings, complaints)
    except OptionList as listed:
        for hint in listed.hint:
            sys.stderr.write(f"{hint}\n")
        return _print(listed)
    except Refusal as error:
        complaints.error(error)
        return 1


def configuration() -> dict[str, str]:
    """What the environment and the configuration file say: `release` and `options`."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.environ.get("HOME") or "/nonexistent", ".config")
    settings: dict[str, str] = {}
    for path in (*_FILES, os.path.join(home, "qmpd.conf")):
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            name, equals, value = line.partition("=")
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not equals or name.strip() not in ("release", "options"):
                raise OptionError(f"{path}:{number}: 'release = NAME' or 'options = ...' is expected")
            settings[name.strip()] = value.strip()
    for name in ("release", "options"):
        value = os.environ.get(f"QMPD_{name.upper()}", "")
        if value:
            settings[name] = value
    return settings


def _own_options(text: str, name: str) -> list[Given]:
    """The options of `qmpd serve` in `QMPD_OPTIONS`."""
    if not text:
        return []
    from qmpd.cli import serve

    known = {option.name: option for option in serve.OPTIONS if option.name in _OWN}
    words = [word.replace("%n", name).replace("%p", str(os.getpid())) for word in shlex.split(text)]
    try:
        given, others = scan(words, known)
        if others:
            raise OptionError("unexpected argument", others[0])
    except Refusal as error:
        raise error.at(f"QMPD_OPTIONS: {error.location or ''}".rstrip(": ")) from None
    return given


def _release(settings: dict[str, str]) -> Release:
    try:
        extensions: list[str] = []
        for each in _own_options(settings.get("options", ""), ""):
            if each.option.name == "extension":
                extensions += each.value.split(",")
        return load_release(settings.get("release", DEFAULT_RELEASE), extensions)
    except (UnknownRelease, UnknownExtension, BadRelease) as error:
        raise OptionError(str(error)) from None


def read(release: Release, arguments: list[str], complaints: Complaints) -> tuple[EmulatorOptions, Start]:
    """Look at a command line as QEMU does until it makes the machine; `Start.finish` does that.

    :raise OptionList: it asks for a list.
    :raise Refusal: something in it is wrong.
    """
    from qmpd.emulator.phases.start import Start
    from qmpd.emulator.reading.options import EmulatorOptions

    known = {**_OTHER_TARGETS, **release.command_line.options}
    table = {name: Option(name, "ARGUMENT" if takes else None, "", None) for name, takes in known.items()}
    options = EmulatorOptions(release, complaints)
    for each in scan_all(arguments, table):
        if isinstance(each, str):
            options.take_image(each)
        else:
            options.take(each)
    start = Start(options)
    start.before()
    return options, start


def make_machine(start: Start) -> VMSettings:
    """Make the machine; where it is refused nothing is left open.

    :raise OptionList: a list is asked for.
    :raise Refusal: something is wrong.
    """
    try:
        return start.finish()
    except BaseException:
        start.inventory.close()
        raise


def _print(listed: OptionList) -> int:
    tell(listed.message)
    return listed.status


def _serve(options: EmulatorOptions, start: Start, configured: dict[str, str], complaints: Complaints) -> int:
    from qmpd.emulator.command_line import monitors as monitor_options
    from qmpd.emulator.command_line import puppet as puppet_options
    from qmpd.server import log
    from qmpd.server.listener import ListenError
    from qmpd.server.pid_file import PidFileError
    from qmpd.server.serve import serve

    try:
        settings = start.finish()
    except Refusal:
        from qmpd.emulator.first_words import say

        say(options.chardevs)
        raise
    settings.release = configured.get("release", DEFAULT_RELEASE)
    guest: list[tuple[str, str]] = []
    for each in _own_options(configured.get("options", ""), settings.machine.name or ""):
        match each.option.name:
            case "guest":
                guest += puppet_options.guest(each)
            case "control":
                settings.control = monitor_options.control(each)
            case "disk":
                settings.disk_pace = puppet_options.disk(each)
            case "clock":
                settings.clock = puppet_options.clock(each)
            case "transcript":
                settings.transcript = each.value
            case "extension":
                settings.extensions += tuple(each.value.split(","))
            case "reboot-reset":
                settings.machine = replace(settings.machine, reboot_reset=True)
            case "v" | "vv":
                log.level = min(log.level + len(each.option.name), 2)
    if not settings.machine.board.has_cpus:
        # A program that is asked about itself has no guest, and the same options.
        settings.control = settings.transcript = None
        settings.machine = replace(settings.machine, reboot_reset=False)
    elif guest:
        settings.machine = puppet_options.with_guest(settings.machine, guest)
    log.name, log.timestamp = complaints.program, complaints.timestamp
    process = options.process
    settings.descriptors = list(process.descriptors)
    try:
        process.begin()
        return serve(settings, on_start=process.settle, tell=complaints.line, inventory=start.inventory)
    except ListenError:
        return 1
    except PidFileError as error:
        complaints.line(str(error))
        return 1
    except BaseExceptionGroup as group:
        # What `settle` raised, out of the machine's nursery.
        refused = group.subgroup(OptionError)
        if refused is None or len(refused.exceptions) != len(group.exceptions):
            raise
        raise _first(refused) from None


def _first(group: BaseExceptionGroup[OptionError]) -> OptionError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


if __name__ == "__main__":
    sys.exit(main())
