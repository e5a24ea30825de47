"""`qmpd capture`: make a release's folder from a QEMU program, or a twin's file from a running VM."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Step = Callable[[str], None]

_HELP = """\
usage: qmpd capture --qemu PROGRAM [--hardware] [-o DIR]
       qmpd capture --socket PATH -o FILE

Ask a real QEMU what it is and write it down, so that qmpd can answer as it does.

  --qemu PROGRAM  start PROGRAM (a command line: "chroot DIR qemu-system-x86_64"
                  will do) with -machine none and with the reference machine, and
                  write a release's folder; serve --release DIR then serves it
  --hardware      with --qemu: also take machines, devices, backends and CPU models
                  apart, so that device_add, object-add and qom-set work with this
                  release. Every type of device is added once, which takes some ten
                  minutes; without this a folder keeps what it has of it
  --socket PATH   copy the face of the VM whose QMP monitor listens at PATH; serve
                  --twin FILE then answers as that VM. Only query-*, qom-list* and
                  device-list-properties are sent: nothing is changed there
  -o DIR, -o FILE where to write; for --qemu qemu-RELEASE in the current folder
                  unless said otherwise

It shows its progress on a terminal and prints nothing in a pipe. Asking the same
program again changes nothing.
"""


class _UsageError(Exception):
    """A command line that makes no sense; the text says why."""


def main(arguments: list[str]) -> int:
    """Run `qmpd capture`; the result is the exit status."""
    if any(each in ("-h", "-help", "--help") for each in arguments):
        print(_HELP, end="")
        return 0
    from qmpd.capture.client import CaptureError

    try:
        options = _parse(arguments)
        if "qemu" in options:
            _capture_program(options["qemu"], options.get("o"), hardware="hardware" in options)
        else:
            _capture_vm(options["socket"], options["o"])
    except _UsageError as error:
        sys.stderr.write(f"qmpd capture: {error} (--help tells more)\n")
        return 1
    except (CaptureError, OSError) as error:
        sys.stderr.write(f"qmpd capture: {error}\n")
        return 1
    return 0


def _parse(arguments: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.lstrip("-").partition("=")
        if word in ("-hardware", "--hardware"):
            options[name] = "on"
            continue
        if not word.startswith("-") or name not in ("qemu", "socket", "o"):
            raise _UsageError(f"{word}: no such option")
        if not equals:
            value = next(rest, "")
        if not value:
            raise _UsageError(f"{word}: needs a value")
        if name in options:
            raise _UsageError(f"{word}: given twice")
        options[name] = value
    if ("qemu" in options) == ("socket" in options):
        raise _UsageError("one of --qemu and --socket is needed")
    if "socket" in options and "hardware" in options:
        raise _UsageError("--hardware needs --qemu: a VM that somebody may depend on is not taken apart")
    if "socket" in options and "o" not in options:
        raise _UsageError("--socket needs -o FILE")
    return options


def _capture_program(command: str, output: str | None, *, hardware: bool) -> None:
    from qmpd.capture.folder import STEPS, STEPS_OF_HARDWARE, capture, release_of

    with _progress(STEPS + (STEPS_OF_HARDWARE if hardware else 0)) as (step, report, tell):
        folder = Path(output or f"qemu-{release_of(command)}")
        changed = capture(command, folder, step, report, with_hardware=hardware)
        tell(f"{folder}: {', '.join(changed) if changed else 'nothing'} changed")


def _capture_vm(path: str, output: str) -> None:
    from qmpd.capture.live import STEPS, capture

    with _progress(STEPS) as (step, report, tell):
        count = capture(path, Path(output), step, report)
        tell(f"{output}: {count} answers")


@contextlib.contextmanager
def _progress(steps: int) -> Iterator[tuple[Step, Step, Step]]:
    """What to call at each step, for what goes wrong, and at the end; nothing is shown in a pipe."""
    if not sys.stderr.isatty():

        def silent(_: str) -> None:
            return

        yield silent, silent, silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}", markup=False), console=console, transient=True) as bar:
        task = bar.add_task("starting", total=steps)
        done = 0

        def step(what: str) -> None:
            nonlocal done
            bar.update(task, description=what, completed=done)
            done += 1

        def tell(line: str) -> None:
            bar.console.print(line, markup=False)

        yield step, tell, tell
