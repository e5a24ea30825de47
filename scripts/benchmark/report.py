"""The table: ratios first, drawn on a terminal and plain in a pipe."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.result import Row, spell_ratio
from benchmark.servers import BLOCKING, QEMU, QMPD, TRIO

if TYPE_CHECKING:
    from rich.table import Table

SUBJECTS = (QMPD, QEMU, TRIO, BLOCKING)
HEAD = ("measure", "/ QEMU", "/ trio", *SUBJECTS, "aims")


def machine(qemu: str | None) -> dict[str, str]:
    """What this was measured on."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    about = {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "qmpd": version("qmpd"),
        "trio": version("trio"),
        "orjson": version("orjson"),
    }
    if qemu is not None:
        output = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
        about["qemu"] = output.splitlines()[0]
    return about


def load_average() -> str:
    """How busy the machine was with everything."""
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


def cells(row: Row) -> list[str]:
    """One row's texts, in the order of `HEAD`."""
    return [
        row.name,
        spell_ratio(row.ratio(QEMU)),
        spell_ratio(row.ratio(TRIO)),
        *(row.spell(row.figure(subject)) for subject in SUBJECTS),
        "; ".join([row.spell_aim(aim) for aim in row.aims] + ([row.remark] if row.remark else [])),
    ]


def plain(rows: list[Row]) -> str:
    """The table as aligned text."""
    table = [list(HEAD), *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    lines = []
    for line in table:
        texts = [line[0].ljust(widths[0])]
        texts += [text.rjust(width) for text, width in zip(line[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*texts, line[-1]]).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines) + "\n"


def drawn(rows: list[Row]) -> Table:
    """The table as rich draws it."""
    from rich.table import Table

    table = Table(title="qmpd beside QEMU and bare servers")
    for number, head in enumerate(HEAD):
        aims = number == len(HEAD) - 1
        table.add_column(head, justify="left" if number == 0 or aims else "right", no_wrap=not aims and number > 0)
    for row in rows:
        texts = cells(row)
        missed = any(row.met(aim) is False for aim in row.aims)
        met = row.aims and not missed
        table.add_row(*texts, style="red" if missed else "green" if met else None)
    return table


def show(rows: list[Row], about: dict[str, str]) -> None:
    """Print what was measured."""
    lines = [f"{name}: {value}" for name, value in about.items()]
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(drawn(rows))
        console.print("\n".join(lines), highlight=False)
    else:
        print(plain(rows))
        print("\n".join(lines))
