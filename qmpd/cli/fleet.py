"""`qmpd fleet`: thousands of virtual machines in one process."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING

from qmpd.cli import serve
from qmpd.emulator.option_language.errors import OptionError

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
  --metrics [HOST:]PORT    serve counts to Prometheus over HTTP (127.0.0.1 unless said otherwise)

More are created, listed and destroyed through DIR/fleet.sock:
  qmpd control DIR/fleet.sock create name=mine release=7.2 'options=["-machine","none"]'
  qmpd control DIR/fleet.sock query-statistics
"""


class _Arguments:
    def __init__(self, arguments: list[str]) -> None:
        """Split the fleet's own options from those of its machines.

        :raise OptionError: one of the fleet's is wrong or missing.
        """
        self.count = -1
        self.directory = ""
        self.control = True
        self.metrics: tuple[str, int] | None = None
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
            if not value.isdecimal():
                raise OptionError(f"'{value}' is not a number of machines", "--count")
            self.count = int(value)
        else:
            host, _, port = value.rpartition(":")
            if not port.isdecimal() or int(port) > 65535:
                raise OptionError(f"'{value}' is not a port to listen on", "--metrics")
            self.metrics = (host or "127.0.0.1", int(port))


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
    settings, verbosity, warnings = parsed
    if settings.monitors or settings.control is not None or settings.pid_file or settings.transcript:
        raise OptionError("the machines of a fleet have their sockets in its folder, and no files")
    for warning in warnings:
        serve.complain(warning)
    return settings, verbosity


def _run(fleet: Fleet, count: int, metrics: tuple[str, int] | None) -> int:
    import trio

    from qmpd.server import log, signals

    signals.block()
    if metrics is not None:
        from qmpd.server.metrics import serve_metrics

        serve_metrics(fleet, *metrics)

    async def run() -> None:
        token = trio.lowlevel.current_trio_token()

        def notify() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(end)

        def end() -> None:
            for number, pid, name in inbox.take():
                log.error(f"terminating on signal {number} from pid {pid} ({name})")
            fleet.end()

        inbox = signals.Inbox(notify)
        progress = _Progress(count)

        def ready() -> None:
            gc.enable()
            progress.done(fleet)

        # What has been imported stays, and machines in the making are no garbage: nothing for the collector here.
        gc.freeze()
        gc.disable()
        await fleet.run(count, ready, progress.show)

    trio.run(run)
    return 0


class _Progress:
    """A bar on a terminal while machines are created; nothing in a pipe."""

    def __init__(self, count: int) -> None:
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
        try:
            sys.stdout.write(
                f"{statistics.machines} machines in {fleet.directory}, the fleet's own socket at {fleet.path}\n"
            )
            sys.stdout.write(f"next: qmpd control {serve.quoted(fleet.path)} query-machines\n")
            sys.stdout.flush()
        except OSError:
            pass  # nobody reads it: the fleet goes on
