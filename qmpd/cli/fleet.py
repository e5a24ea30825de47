"""`qmpd fleet`: thousands of virtual machines in one process."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from qmpd.cli import serve
from qmpd.common.integers import from_digits
from qmpd.common.output import tell
from qmpd.option_language.errors import OptionError

if TYPE_CHECKING:
    from qmpd.server.fleet import Fleet
    from qmpd.server.settings import VMSettings

_HELP = """\
usage: qmpd fleet --count N --dir DIR [--no-control] [--metrics [HOST:]PORT] [OPTION]...

Serve N virtual machines in one process: number 42 at DIR/vm-00042/qmp.sock, with
its control socket beside it. Each is started with OPTION..., which are those of
`qmpd serve` but for its sockets and files.

  --count N                how many machines there are at first; 0 is fine
  --dir DIR                the folder of their sockets; it is made where it is missing
  --no-control             leave out the machines' control sockets (half the open files)
  --metrics [HOST:]PORT    serve counts to Prometheus over HTTP, at /metrics and /healthz (127.0.0.1 unless said
                           otherwise; port 0 is any that is free)

More are created, listed and destroyed through DIR/fleet.sock:
  qmpd control DIR/fleet.sock create name=mine release=7.2 'options=["-machine","none"]'
  qmpd control DIR/fleet.sock query-statistics
"""


MOST_MACHINES = 1_000_000


class _Arguments:
    def __init__(self, arguments: list[str]) -> None:
        """Split the fleet's own options from those of its machines.

        :raise OptionError: one of the fleet's is wrong or missing.
        """
        self.count = -1
        self.directory = ""
        self.control = True
        self.metrics: tuple[str, str] | None = None
        self.help = False
        self.machines: list[str] = []
        words = iter(arguments)
        for word in words:
            name, equals, value = word.partition("=")
            name = name.lstrip("-") if word.startswith("-") else ""
            if name in ("count", "dir", "metrics"):
                self._take(name, value if equals else next(words, None), word)
            elif name == "no-control":
                self.control = False
            elif name in ("h", "help"):
                self.help = True
            else:
                self.machines.append(word)
        if not self.help and (self.count < 0 or not self.directory):
            raise OptionError("fleet takes --count N and --dir DIR (see qmpd fleet --help)")

    def _take(self, name: str, value: str | None, word: str) -> None:
        if value is None:
            raise OptionError("requires an argument", word)
        if name == "dir":
            self.directory = value
        elif name == "count":
            self.count = _number(value)
            if self.count < 0:
                raise OptionError(f"'{value}' is not a number of machines", "--count")
            if self.count > MOST_MACHINES:
                raise OptionError(f"there are at most {MOST_MACHINES} machines", "--count")
        else:
            host, _, port = value.rpartition(":")
            if not 0 <= _number(port) <= 65535:
                raise OptionError(f"'{value}' is not a port to listen on", "--metrics")
            self.metrics = (host.removeprefix("[").removesuffix("]") or "127.0.0.1", port)


def _number(text: str) -> int:
    """The number that the text is; -1 where it is none."""
    try:
        return from_digits(text)
    except ValueError:
        return -1


def main(arguments: list[str]) -> int:
    """Run `qmpd fleet`; the result is the exit status."""
    try:
        given = _Arguments(arguments)
        if given.help:
            print(_HELP, end="")
            return 0
        template, verbosity = _parse(given.machines)
    except OptionError as error:
        serve.complain(str(error))
        return 1
    from qmpd.control.errors import ControlError
    from qmpd.server import log
    from qmpd.server.fleet import Fleet, FleetError
    from qmpd.server.listener import ListenError

    log.level = verbosity

    def parse(release: str | None, options: list[str]) -> VMSettings:
        try:
            return _parse([*given.machines, *(["--release", release] if release else []), *options])[0]
        except OptionError as error:
            raise ControlError(str(error)) from None

    fleet = Fleet(given.directory, template, parse, given.control)
    try:
        fleet.raise_file_limit(given.count)
        fleet.listen()
        return _run(fleet, given.count, given.metrics)
    except (FleetError, ListenError, ControlError, OSError) as error:
        serve.complain(str(error))
        return 1
    finally:
        fleet.close()


def _parse(options: list[str]) -> tuple[VMSettings, int]:
    parsed = serve.parse(options)
    if parsed is None:
        raise OptionError("help is no option of a machine (see qmpd serve --help)")
    settings, verbosity, warnings, _ = parsed
    if settings.monitors or settings.control is not None or settings.pid_file or settings.transcript:
        raise OptionError("the machines of a fleet have their sockets in its folder, and no files")
    for warning in warnings:
        serve.complain(warning)
    return settings, verbosity


def _run(fleet: Fleet, count: int, metrics: tuple[str, str] | None) -> int:
    import trio

    from qmpd.machine.main_loop import signal_report
    from qmpd.server import log, signals

    signals.block()
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

    trio.run(run)
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
