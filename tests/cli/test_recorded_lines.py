"""What real QEMU made of command lines, against what `qmpd serve` makes of them."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from qmpd.cli import serve
from qmpd.option_language.errors import OptionError
from tests.golden import RELEASES, command_line

PROGRAM = "qemu-system-x86_64: "
NO_UUID = "00000000-0000-0000-0000-000000000000"

# Refused by QEMU when it binds the socket or writes the file, which parsing does not do.
LATER = ("Failed to bind socket", "cannot create PID file")

# Lines that are not answered as QEMU does, and why.
LEFT_OUT = {
    ("5.2", "-action"): "the option is known before the release is",
    ("5.2", "-machine pc,=1"): "the machine's properties are not known",
    ("5.2", "-machine pc,1a=1"): "the machine's properties are not known",
    ("5.2", "-machine pc,smp.cpus=2"): "the machine's properties are not known",
    ("5.2", "-name foo,id=x"): "it takes an id where later releases do not",
    ("5.2", "-qmp unix:/nonexistent/s,server=off,wait=off"): "it connects, and notices wait later",
    ("11.1", "-qmp unix:/nonexistent/s,server=on,wait=off,reconnect=3"): "it is called reconnect-ms now",
}


@pytest.mark.parametrize("release", RELEASES)
def test_lines(release: str) -> None:
    differences = []
    matched = 0
    for row in command_line.load(release):
        line = shlex.join(row["options"])
        if (release, line) in LEFT_OUT:
            continue
        problem = difference(release, row)
        if problem is None:
            matched += 1
        else:
            differences.append(f"{line}\n    {problem}")
    left_out = sum(name == release for name, _ in LEFT_OUT)
    total = len(command_line.load(release))
    print(f"{release}: {matched} of {total - left_out} command lines as in QEMU, {left_out} left out")
    assert not differences, "\n".join(differences)


def difference(release: str, row: dict[str, Any]) -> str | None:
    told = [line.removeprefix(PROGRAM) for line in row["stderr"] if line.startswith(PROGRAM)]
    warnings = [line for line in told if "warning: " in line and "hyperthreading" not in line]
    errors = [line for line in told if "warning: " not in line]
    try:
        parsed = serve.parse(["--release", release, *row["options"]])
    except OptionError as error:
        if row["status"] == 0:
            return f"refused: {error}"
        return None if str(error) == errors[0] else f"got  {error}\n    want {errors[0]}"
    assert parsed is not None
    settings, _, warned, _ = parsed
    if row["status"] != 0:
        return None if any(text in errors[0] for text in LATER) else f"taken, want {errors[0]}"
    lines = [warning.splitlines()[0] for warning in warned]
    if lines != warnings:
        return f"warned {lines}\n    want {warnings}"
    machine, topology, facts = settings.machine, settings.machine.topology, row["facts"]
    ours: dict[str, object] = {
        "name": machine.name,
        "uuid": machine.uuid or NO_UUID,
        "status": "inmigrate" if machine.incoming else "prelaunch",
        "memory": machine.memory,
    }
    if machine.machine_type == "pc":
        last = {"core-id": topology.cores - 1, "thread-id": topology.threads - 1, "socket-id": topology.sockets - 1}
        if topology.dies > 1:
            last["die-id"] = topology.dies - 1
        if topology.modules > 1:
            last["module-id"] = topology.modules - 1
        ours |= {"cpus": topology.cpus, "slots": topology.maximum, "last": last}
    if machine.preconfig:
        del ours["memory"], ours["cpus"]  # not told before x-exit-preconfig
    theirs = {key: facts[key] for key in ours}
    if theirs.get("last"):
        theirs["last"].pop("node-id", None)
    return None if ours == theirs else f"got  {ours}\n    want {theirs}"
