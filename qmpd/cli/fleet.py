"""`qmpd fleet`: thousands of virtual machines in one process."""

from __future__ import annotations

import gc
import sys
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from qmpd.cli import serve
from qmpd.cli.grammar import Parser, UsageError
from qmpd.common.integers import from_digits
from qmpd.common.output import tell
from qmpd.option_language.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.hardware.inventory import Inventory
    from qmpd.server.fleet import Fleet
    from qmpd.server.settings import VMSettings

MOST_MACHINES = 1_000_000


def parser() -> Parser:
    """The declaration of the subcommand."""
    result = Parser(
        "fleet",
        "Serve N virtual machines in one process: number 42 at DIR/vm-00042/qmp.sock, with\n"
        "its control socket beside it. Each is started with OPTION..., which are those of\n"
        "qmpd serve but for its sockets and files. More are created, listed and destroyed\n"
        "through DIR/fleet.sock.",
        usage="qmpd fleet --count N --dir DIR [--no-control] [--metrics [HOST:]PORT] [OPTION]...",
        examples="  qmpd fleet --count 1000 --dir /run/vms -machine none\n"
        "  qmpd control /run/vms/fleet.sock create name=mine release=7.2\n"
        "  qmpd control /run/vms/fleet.sock query-statistics\n",
    )
    result.add_argument("--count", metavar="N", type=_count, help="how many machines there are at first; 0 is fine")
    result.add_argument("--dir", metavar="DIR", help="the folder of their sockets; it is made where it is missing")
    result.add_argument(
        "--no-control", dest="control", action="store_false",
        help="leave out the machines' control sockets (half the open files)",
    )  # fmt: skip
    result.add_argument(
        "--metrics", metavar="[HOST:]PORT", type=_place,
        help="serve counts to Prometheus over HTTP, at /metrics and /healthz (127.0.0.1 unless said otherwise; port 0 "
        "is any that is free)",
    )  # fmt: skip
    return result


def _count(text: str) -> int:
    try:
        number = from_digits(text)
    except ValueError:
        raise ArgumentTypeError(f"'{text}' is not a number of machines") from None
    if number > MOST_MACHINES:
        raise ArgumentTypeError(f"there are at most {MOST_MACHINES} machines")
    return number


def _place(text: str) -> tuple[str, str]:
    """The address and the port that the text says."""
    host, _, port = text.rpartition(":")
    try:
        fits = 0 <= from_digits(port) <= 65535
    except ValueError:
        fits = False
    if not fits:
        raise ArgumentTypeError(f"'{text}' is not a port to listen on")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", port


def main(arguments: list[str]) -> int:
    """Run `qmpd fleet`; the result is the exit status."""
    try:
        given, machines = parser().read_known(arguments)
        if given is None:
            return 0
        if given.count is None or given.dir is None:
            raise UsageError("fleet takes --count N and --dir DIR (see qmpd fleet --help)")
        template, verbosity, inventory = _parse(machines, parser().names)
    except (UsageError, OptionError) as error:
        serve.complain(str(error))
        return 1
    from qmpd.control.errors import ControlError
    from qmpd.server import log
    from qmpd.server.fleet import Fleet, FleetError
    from qmpd.server.listener import ListenError

    log.level, log.json_lines = verbosity, template.json_log

    def parse(release: str | None, options: list[str]) -> tuple[VMSettings, Inventory | None]:
        try:
            made, _, built = _parse([*machines, *(["--release", release] if release else []), *options])
        except OptionError as error:
            raise ControlError(str(error)) from None
        return made, built

    fleet = Fleet(given.dir, template, parse, given.control, inventory)
    try:
        fleet.raise_file_limit(given.count)
        fleet.listen()
        return _run(fleet, given.count, given.metrics)
    except (FleetError, ListenError, ControlError, OSError) as error:
        serve.complain(str(error))
        return 1
    finally:
        fleet.close()


def _parse(options: list[str], also: Sequence[str] = ()) -> tuple[VMSettings, int, Inventory | None]:
    parsed = serve.parse(options, also)
    if parsed is None:
        raise OptionError("help is no option of a machine (see qmpd serve --help)")
    settings, verbosity, warnings, inventory = parsed
    has_sockets = settings.monitors or settings.control is not None or settings.debugger is not None
    if has_sockets or settings.pid_file or settings.transcript:
        raise OptionError("the machines of a fleet have their sockets in its folder, and no files")
    for warning in warnings:
        serve.complain(warning)
    return settings, verbosity, inventory


def _run(fleet: Fleet, count: int, metrics: tuple[str, str] | None) -> int:
    import trio

    from qmpd.machine.main_loop import signal_report
    from qmpd.server import log, signals

    signals.block()
    log.never_wait()
    port = None if metrics is None else fleet.listen_for_metrics(*metrics)

    async def run() -> None:
        inbox = signals.Inbox()

        def end() -> None:
            for number, pid in inbox.take():
                log.error(signal_report(number, pid, signals.name_of(pid)))
            fleet.end()

        trio.lowlevel.spawn_system_task(inbox.watch, end)
        progress = _Progress(count, None if metrics is None else f"http://{_host(metrics[0])}:{port}/metrics")

        def ready() -> None:
            gc.enable()
            progress.done(fleet)

        # What has been imported stays, and machines in the making are no garbage: nothing for the collector here.
        gc.freeze()
        gc.disable()
        await fleet.run(count, ready, progress.show)

    try:
        trio.run(run)
    finally:
        log.finish()
    return 0


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Progress:
    """A bar on a terminal while machines are created; nothing in a pipe."""

    def __init__(self, count: int, metrics: str | None) -> None:
        self._metrics = metrics
        self._bar = None
        if count > 1000 and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("creating machines", total=count)
            self._bar.start()

    def show(self, number: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=number)

    def done(self, fleet: Fleet) -> None:
        if self._bar is not None:
            self._bar.stop()
        from qmpd.server.systemd import notify

        notify("READY=1")
        statistics = fleet.statistics()
        lines = [f"{statistics.machines} machines in {fleet.directory}, the fleet's own socket at {fleet.path}\n"]
        if self._metrics is not None:
            lines.append(f"counts: {self._metrics}\n")
        lines.append(f"next: qmpd control {serve.quoted(fleet.path)} query-machines\n")
        tell("".join(lines))
