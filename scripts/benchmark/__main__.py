"""The command line of `scripts/bench`."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmark import report
from benchmark.measures import MEASURES, QUICK, Bench, Scale
from benchmark.servers import Load, LoadError, Programs, find_qemu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmark.result import Row


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures qmpd beside real QEMU, side by side in one run, and beside bare echo servers.",
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works; figures mean little")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE, too (- for standard output instead)")
    parser.add_argument("--only", metavar="MEASURE", nargs="+", choices=MEASURES, help=", ".join(MEASURES))
    parser.add_argument("--rounds", type=int, help="how often each subject is measured")
    parser.add_argument("--qemu", metavar="PROGRAM", default="qemu-system-x86_64", help="real QEMU [%(default)s]")
    parser.add_argument("--large", action="store_true", help="send the 16 MB command to QEMU, too: takes minutes")
    return parser.parse_args(arguments)


@contextmanager
def progress(measures: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Ways to say which measure begins and that one step of it is done: shown on a terminal alone."""
    if not sys.stderr.isatty():
        yield (lambda name: None), (lambda: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}: {task.fields[steps]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting", total=measures, steps=0)
        begun = steps = 0

        def begin(name: str) -> None:
            nonlocal begun, steps
            steps = 0
            shown.update(task, completed=begun, description=name, steps=0)
            begun += 1

        def step() -> None:
            nonlocal steps
            steps += 1
            shown.update(task, steps=steps)

        yield begin, step


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; the result is the exit status."""
    options = parse(arguments)
    scale = QUICK if options.quick else Scale()
    scale.large_qemu = options.large
    if options.rounds is not None:
        scale.rounds = scale.starts = options.rounds
    qemu = find_qemu(options.qemu)
    if qemu is None:
        sys.stderr.write(f"bench: there is no {options.qemu} (apt-get install qemu-system-x86): QEMU is left out\n")
    about = report.machine(qemu) | {"load average before": report.load_average()}
    rows: list[Row] = []
    failures = []
    names = options.only or list(MEASURES)
    with progress(len(names)) as (begin, step), Load() as load:
        bench = Bench(Programs(qemu), load, scale, step)
        try:
            for name in names:
                begin(name)
                try:
                    rows += MEASURES[name](bench)
                except LoadError as error:
                    failures.append(f"bench: {name} is left out: {error}\n")
        finally:
            bench.close()
    sys.stderr.write("".join(failures))
    about["load average after"] = report.load_average()
    if options.json:
        text = json.dumps({"machine": about, "measures": [row.as_json() for row in rows]}, indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
            return int(bool(failures))
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(text)
    report.show(rows, about)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
