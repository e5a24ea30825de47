"""`qmpd serve`: one virtual machine and its QMP sockets, from the command line."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from qmpd.common.addresses import describe_unix, is_abstract, socket_name
from qmpd.common.output import tell
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.emulator.command_line import machine_options
from qmpd.emulator.command_line import monitors as monitor_options
from qmpd.emulator.command_line import puppet as puppet_options
from qmpd.emulator.command_line.machine import MachineOptions
from qmpd.machine import RunState
from qmpd.option_language.errors import OptionError
from qmpd.option_language.options import Option, scan
from qmpd.qapi import BadRelease, UnknownExtension, UnknownRelease, load_release
from qmpd.server.settings import ChardevSettings, MonitorSettings, VMSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from qmpd.cli.grammar import Parser
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import MachineSettings
    from qmpd.option_language.options import Given
    from qmpd.qapi import Release
    from qmpd.qapi.twin import Twin, TwinFacts

PROGRAM = "qmpd"
_SECTION = "qmpd itself"
# What is asked of the board and of the types of its parts.
_BOARD_OPTIONS = frozenset({"machine", "M", "cpu", "accel"})

OPTIONS = (
    *monitor_options.OPTIONS,
    *machine_options.OPTIONS,
    Option("release", "RELEASE", _SECTION, "the release of QEMU to stand in for: a name (7.2) or a captured folder"),
    Option("twin", "FILE", _SECTION, "be the VM that qmpd capture --socket has copied; other options change it"),
    Option("control", "PATH", _SECTION, "the puppeteer's socket: guest actions, clock, faults (see qmpd control)"),
    Option("guest", "OPTION=VALUE[,...]", _SECTION, "an operating system for machine pc, like boot-time=2s"),
    Option("transcript", "FILE", _SECTION, "write what happens to this file, a line of JSON each"),
    Option("clock", "real|scaled=FACTOR|virtual", _SECTION, "at what pace the machine's time passes"),
    Option("disk", "rate=SIZE", _SECTION, "how many bytes jobs on the disks move in a second of the machine's time"),
    Option("extension", "NAME[,NAME]...", _SECTION, "add to the release: live-update, reboot-reset, sleep"),
    Option("reboot-reset", None, _SECTION, "a reset ends the machine, announced as RESET (extension reboot-reset)"),
    Option("pidfile", "PATH", _SECTION, "hold the process's id in this file, locked while it runs"),
    Option("v", None, _SECTION, "log each connection and change of state to standard error"),
    Option("vv", None, _SECTION, "log each message, too"),
    Option("log-format", "text|json", _SECTION, "how the log is written: lines, or a JSON object each"),
    Option("h", None, _SECTION, None),
    Option("help", None, _SECTION, "print this and exit"),
)


class Parsed(NamedTuple):
    """What `qmpd serve` is asked for: what it serves, how much it logs (0 to 2), and QEMU's warnings.

    `inventory` is what was built for the machine; None where it is given nothing but what it is made of.
    """

    settings: VMSettings
    verbosity: int
    warnings: list[str]
    inventory: Inventory | None


def parser() -> Parser:
    """The declaration of the subcommand, for those who describe it; its own reader is QEMU's (`parse`)."""
    from qmpd.cli.grammar import Parser
    from qmpd.cli.help import SERVE, SERVE_EXAMPLES, spelling

    result = Parser("serve", SERVE, usage="qmpd serve [OPTION]...", examples=SERVE_EXAMPLES)
    groups: dict[str, Any] = {}
    for option in OPTIONS:
        if option.meaning is None or option.name == "help":
            continue
        group = groups.get(option.section) or result.add_argument_group(option.section)
        groups[option.section] = group
        name, _, argument = spelling(option).partition(" ")
        meaning = option.meaning.replace("%", "%%")
        if argument:
            group.add_argument(name, metavar=argument, help=meaning)
        else:
            group.add_argument(name, action="store_true", help=meaning)
    return result


def parse(arguments: list[str], also: Sequence[str] = ()) -> Parsed | None:
    """What `qmpd serve` with these arguments is asked for.

    None where the arguments ask for help.  The settings have no monitor where none was asked for.  `also` are options
    that somebody else takes, for a suggestion.

    :raise OptionError: an argument is wrong.
    """
    known = {option.name: option for option in OPTIONS}
    given, others = _scan(arguments, known, also)
    twin = next((_twin(each.value) for each in reversed(given) if each.option.name == "twin"), None)
    if twin is not None:
        # As if somebody had typed what it was, before everything else.
        given = [*scan(_twin_options(twin.facts), known)[0], *given]
    names = {each.option.name for each in given}
    if "help" in names or "h" in names:
        return None
    if others:
        raise OptionError("unexpected argument (a socket is given with --socket PATH)", others[0])
    settings = VMSettings()
    for each in given:
        if each.option.name in ("release", "twin"):
            settings.release = each.value
        elif each.option.name == "extension":
            settings.extensions += tuple(each.value.split(","))
    try:
        release = load_release(settings.release, settings.extensions)
    except (UnknownRelease, UnknownExtension, BadRelease) as error:
        raise OptionError(str(error)) from error
    try:
        found = _settings(settings, given, release)
        if twin is not None:
            settings.machine = _found(settings.machine, twin.facts.status)
        return found
    except OptionError:
        raise
    except Refusal as error:
        words = release.refusals
        raise OptionError(words.message(error), error.location, words.hint(error)) from None


def _scan(
    arguments: list[str], known: dict[str, Option], also: Sequence[str] = ()
) -> tuple[list[Given], list[str]]:
    """The options of a command line, `--name=value` among them, and what is none.

    :raise OptionError: an option is wrong; the text says which was meant, where it can be told.
    """
    words: list[str] = []
    for word in arguments:
        name, equals, value = word.partition("=")
        option = known.get(name[2:]) if name.startswith("--") and equals else None
        words += [word] if option is None or option.argument is None else [name, value]
    try:
        return scan(words, known)
    except OptionError as error:
        wrong = next((word for word in words if word.startswith("-") and word.lstrip("-") not in known), None)
        if wrong is None or error.location != wrong or wrong.partition("=")[0].lstrip("-") in known:
            raise
        from qmpd.cli.help import spelling
        from qmpd.common.suggestions import suggestion

        spelled = {option.name: spelling(option).partition(" ")[0] for option in OPTIONS if option.meaning is not None}
        spelled |= {name.lstrip("-"): name for name in also}
        hint = suggestion(wrong.partition("=")[0].lstrip("-"), spelled)
        for name in spelled if "did you mean" in hint else ():
            hint = hint.replace(f"'{name}'", f"'{spelled[name]}'")
        raise OptionError(error.message + hint, error.location, error.hint) from None


def _settings(settings: VMSettings, given: list[Given], release: Release) -> Parsed:
    """What `parse` gives, of options that are known.

    :raise Refusal: one is wrong.
    """
    warnings: list[str] = []
    machine = MachineOptions(release, warnings.append)
    guest: list[tuple[str, str]] = []
    verbosity = 0
    reboot_reset = False
    for each in given:
        match each.option.name:
            case "socket" | "qmp" | "qmp-pretty":
                settings.monitors.append(monitor_options.monitor(each, len(settings.monitors)))
            case "control":
                settings.control = monitor_options.control(each)
            case "guest":
                guest += puppet_options.guest(each)
            case "transcript":
                settings.transcript = each.value
            case "clock":
                settings.clock = puppet_options.clock(each)
            case "disk":
                settings.disk_pace = puppet_options.disk(each)
            case "reboot-reset":
                if "reboot-reset" not in release.extensions:
                    raise OptionError("takes -extension reboot-reset", each.location)
                reboot_reset = True
            case "gdb" | "s":
                settings.debugger = _debugger(each, settings.debugger, release)
            case "extension" | "release" | "twin":
                pass
            case "pidfile":
                settings.pid_file = each.value
            case "v":
                verbosity += 1
            case "vv":
                verbosity += 2
            case "log-format":
                settings.json_log = _log_format(each)
            case _:
                machine.take(each)
    settings.machine = replace(_machine(release, machine, given, warnings), reboot_reset=reboot_reset)
    if guest:
        settings.machine = puppet_options.with_guest(settings.machine, guest)
    return Parsed(settings, min(verbosity, 2), warnings, _build(release, settings.machine, warnings))


def _machine(release: Release, machine: MachineOptions, given: list[Given], warnings: list[str]) -> MachineSettings:
    """The settings of a machine of which these options were taken.

    :raise Refusal: the options are wrong, one alone or together.
    """
    if not any(each.option.name in _BOARD_OPTIONS for each in given):
        return machine.finish()
    from qmpd.emulator.phases import alone

    last = {each.option.name: each.value for each in given}
    accelerators = [each for each in given if each.option.name == "accel"]
    return alone.finish(release, machine, last.get("cpu"), accelerators, warnings.append)


def _build(release: Release, machine: MachineSettings, warnings: list[str]) -> Inventory | None:
    """Build what the machine is given beside what it is made of; None where that is nothing.

    :raise Refusal: it cannot be had.
    """
    if not machine.has_parts:
        return None
    from qmpd.server.computer import ThisComputer
    from qmpd.system.build import build

    def refuse(refusal: Refusal) -> None:
        if not isinstance(refusal, NotModelled):
            raise refusal
        warnings.append(f"{refusal.location}: warning: {refusal.message}; it is left out")

    return build(release, machine, ThisComputer(), refuse)


def _log_format(given: Given) -> bool:
    """Whether the log is to be JSON.

    :raise OptionError: it is to be neither text nor JSON.
    """
    if given.value not in ("text", "json"):
        from qmpd.common.suggestions import suggestion

        raise OptionError(f"there is no such format{suggestion(given.value, ('text', 'json'))}", given.location)
    return given.value == "json"


def _debugger(given: Given, before: ChardevSettings | None, release: Release) -> ChardevSettings:
    """Where debuggers connect.

    :raise OptionError: there is no such device.
    """
    from qmpd.server import debugging

    try:
        device = given.value if given.option.name == "gdb" else debugging.USUAL
        found = debugging.read_device(device, release, given.location)
        if found.backend != debugging.NO_DEVICE:
            debugging.check_free(before, release)
        if found.backend == debugging.OF_ANOTHER:
            raise NotModelled(f"another character device for debuggers than one of their own: {given.value}")
        return found
    except Refusal as error:
        lines = debugging.messages(release.refusals, error) or ["no such character device"]
        raise OptionError(lines[0], given.location, tuple(lines[1:])) from None


def _twin(path: str) -> Twin:
    """The twin that a file holds.

    :raise OptionError: it is no such file, or its VM was in a state that there is not here.
    """
    from qmpd.qapi.twin import Twin

    try:
        twin = load_release(path)
    except (UnknownRelease, BadRelease) as error:
        raise OptionError(str(error)) from error
    if not isinstance(twin, Twin):
        raise OptionError(f"{path}: no twin's file")
    if twin.facts.status not in set(RunState):
        raise OptionError(f"{path}: the VM was in the run state '{twin.facts.status}', which qmpd does not know")
    return twin


def _twin_options(facts: TwinFacts) -> list[str]:
    """QEMU's options for the VM that a twin's file is about, as far as they can be told."""
    options = ["-machine", facts.machine_type]
    if facts.cpus:
        options += ["-smp", str(facts.cpus)]
    if facts.memory:
        options += ["-m", f"{facts.memory}B"]
    if facts.name is not None:
        options += ["-name", "guest=" + facts.name.replace(",", ",,")]
    if facts.uuid is not None:
        options += ["-uuid", facts.uuid]
    return options + _STATE_OPTIONS.get(facts.status, [])


# What a VM was started with that is in this run state.
_STATE_OPTIONS: dict[str, list[str]] = {
    RunState.PRELAUNCH: ["-S"],
    RunState.PRECONFIG: ["-preconfig"],
    RunState.INMIGRATE: ["-incoming", "defer"],
    RunState.SHUTDOWN: ["-no-shutdown"],
}


def _found(machine: MachineSettings, status: str) -> MachineSettings:
    """Let a twin be found in the run state that its VM was in, unless the options say how it is to start."""
    if status != RunState.RUNNING and not (machine.start_paused or machine.preconfig or machine.incoming is not None):
        return replace(machine, run_state=status)
    return machine


def main(arguments: list[str]) -> int:
    """Run `qmpd serve`; the result is the exit status."""
    try:
        parsed = parse(arguments)
    except OptionError as error:
        complain(str(error))
        return 1
    if parsed is None:
        from qmpd.cli.help import serve_help

        print(serve_help(OPTIONS), end="")
        return 0
    settings, verbosity, warnings, inventory = parsed
    for warning in warnings:
        complain(warning)
    if "LISTEN_FDS" in os.environ and not _adopt(settings):
        return 1
    return _serve(settings, verbosity, inventory)


def _adopt(settings: VMSettings) -> bool:
    """Listen on the sockets that a service manager has opened: the one called `control` is the control socket."""
    from qmpd.server import systemd

    for name, descriptor in systemd.handed_over():
        path = systemd.path_of(descriptor)
        if path is None:
            complain(f"descriptor {descriptor}, handed over by the service manager, is no Unix socket that listens")
            return False
        if name == "control":
            settings.control = MonitorSettings(path=path, chardev="control", descriptor=descriptor)
        else:
            label = f"compat_monitor{len(settings.monitors)}"
            settings.monitors.append(MonitorSettings(path=path, chardev=label, descriptor=descriptor))
    return True


def _serve(settings: VMSettings, verbosity: int, inventory: Inventory | None) -> int:
    from qmpd.server import log, signals
    from qmpd.server.listener import ListenError
    from qmpd.server.pid_file import PidFileError
    from qmpd.server.serve import serve

    log.level, log.json_lines = verbosity, settings.json_log
    # From here on there is something to take away.
    signals.block()
    if not settings.monitors:
        path, settings.folder = _default_socket()
        settings.monitors.append(MonitorSettings(path=path))
    try:
        return serve(settings, on_listening=lambda: _announce(settings), inventory=inventory)
    except (ListenError, PidFileError) as error:
        complain(str(error))
        return 1
    finally:
        if settings.folder is not None:
            try:
                os.rmdir(settings.folder)
            except OSError:
                pass  # something else was put there: it is not ours to remove


def complain(text: str) -> None:
    """Print a line on standard error, under the program's name."""
    sys.stderr.write(f"{PROGRAM}: {text}\n")


def _default_socket() -> tuple[str, str | None]:
    """A path that no other server has, and the private folder that was made for it."""
    name = f"qmpd-{os.getpid()}.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime) and os.access(runtime, os.W_OK | os.X_OK):
        return os.path.join(runtime, name), None
    folder = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"qmpd-{os.urandom(6).hex()}")
    os.mkdir(folder, 0o700)
    return os.path.join(folder, name), folder


def _announce(settings: VMSettings) -> None:
    """Tell where it listens, and what to type next."""
    places = [describe_unix(monitor.path, "=on").removeprefix("unix:") for monitor in settings.monitors]
    lines = [f"QMP of QEMU {settings.release} listens on {place}\n" for place in places]
    first = settings.monitors[0].path
    path = quoted(socket_name(first))
    lines.append(
        f"next: socat - ABSTRACT-CONNECT:{path}\n"
        if is_abstract(first)
        else f"next: socat - UNIX-CONNECT:{path}   or: qmp-shell {path}\n"
    )
    if settings.control is not None:
        path = quoted(settings.control.path)
        lines.append(f"control socket: {path}   try: qmpd control {path}\n")
    tell("".join(lines))


def quoted(path: str) -> str:
    """The path as a shell takes it for one word."""
    if path and all(character.isalnum() or character in "/._-+@%,=:" for character in path):
        return path
    return "'" + path.replace("'", "'\"'\"'") + "'"
