"""`qmpd capture`: make a release's folder from a QEMU program, or a twin's file from a running VM."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qmpd.cli.grammar import STATUS, Parser, UsageError
from qmpd.common.interruption import end_in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Step = Callable[[str], None]


def parser() -> Parser:
    """The declaration of the subcommand."""
    result = Parser(
        "capture",
        "Ask a real QEMU what it is and write it down, so that qmpd can answer as it does.\n\n"
        "It shows its progress on a terminal and prints nothing in a pipe. Asking the same\n"
        "program again changes nothing.",
        usage="qmpd capture --qemu PROGRAM [--hardware] [-o DIR]\n       qmpd capture --socket PATH -o FILE",
        examples="  qmpd capture --qemu qemu-system-x86_64 -o mine\n"
        "  qmpd capture --socket /run/real/qmp.sock -o vm.twin\n",
    )
    result.add_argument(
        "--qemu", metavar="PROGRAM",
        help='start PROGRAM (a command line: "chroot DIR qemu-system-x86_64" will do) with -machine none and with the '
        "reference machine, and write a release's folder; serve --release DIR then serves it",
    )  # fmt: skip
    result.add_argument(
        "--hardware", action="store_true",
        help="with --qemu: also take machines, devices, backends and CPU models apart, so that device_add, object-add "
        "and qom-set work with this release. Every type of device is added once, which takes some ten minutes; without "
        "this a folder keeps what it has of it",
    )  # fmt: skip
    result.add_argument(
        "--socket", metavar="PATH",
        help="copy what the VM tells whose QMP monitor listens at PATH; serve --twin FILE then answers as that VM. "
        "Only query-*, qom-list* and device-list-properties are sent: nothing is changed there",
    )  # fmt: skip
    result.add_argument(
        "-o", dest="output", metavar="DIR|FILE",
        help="where to write; for --qemu qemu-RELEASE in the current folder unless said otherwise",
    )  # fmt: skip
    return result


def main(arguments: list[str]) -> int:
    """Run `qmpd capture`; the result is the exit status."""
    from qmpd.capture.client import CaptureError

    try:
        given = parser().read(arguments)
        if given is None:
            return 0
        if (given.qemu is None) == (given.socket is None):
            raise UsageError("one of --qemu and --socket is needed")
        end_in_order()
        if given.qemu is not None:
            _capture_program(given.qemu, given.output, hardware=given.hardware)
        elif given.hardware:
            raise UsageError("--hardware needs --qemu: a VM that somebody may depend on is not taken apart")
        elif given.output is None:
            raise UsageError("--socket needs -o FILE")
        else:
            _capture_vm(given.socket, given.output)
    except UsageError as error:
        sys.stderr.write(f"qmpd capture: {error} (--help tells more)\n")
        return STATUS
    except (CaptureError, OSError) as error:
        sys.stderr.write(f"qmpd capture: {error}\n")
        return STATUS
    return 0


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
