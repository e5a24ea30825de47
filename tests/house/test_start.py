"""What a program has imported when its first client talks to it: a machine pays for nothing that it has no use for."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

_SERVE = "from qmpd.cli.main import main"
_DROP_IN = "from qmpd.emulator.program import main"
_LINE = re.compile(r"import time: +\d+ \| +\d+ \| +([\w.]+)")

# Rooms and libraries of which a start has no use, whoever serves.
_NEVER = (
    "qmpd.human", "qmpd.control", "qmpd.debugger", "qmpd.qtest", "qmpd.timeline", "qmpd.diagram", "qmpd.testing",
    "qmpd.capture", "qmpd.block.images", "qmpd.block.opening", "qmpd.block.drivers.formats",
    "qmpd.monitor.commands.block", "qmpd.monitor.commands.machine", "qmpd.monitor.commands.refusing",
    "argparse", "asyncio", "difflib", "h11", "jsonschema", "logging.handlers", "prometheus_client", "rich",
)  # fmt: skip
# A machine that is given nothing is not even put together until somebody asks what is in it.
_NOT_PUT_TOGETHER = (
    *_NEVER, "qmpd.block", "qmpd.hardware", "qmpd.qom", "qmpd.system.build", "qmpd.emulator.reading",
    "qmpd.qapi.captured", "qmpd.server.chardevs", "qmpd.server.hand_over",
)  # fmt: skip
# Small parts of rooms that stay away.
_SMALL = {
    "qmpd.human", "qmpd.human.command", "qmpd.block", "qmpd.block.images", "qmpd.hardware", "qmpd.hardware.processors",
}  # fmt: skip


def imported(folder: Path, program: str, *arguments: str) -> set[str]:
    """The modules that a program has imported when a client has negotiated and asked for the machine's state."""
    path = str(folder / "qmp")
    words = [sys.executable, "-X", "importtime", "-c", f"import sys; {program}; sys.exit(main())", *arguments]
    told = folder / "stderr"
    with (
        told.open("wb") as errors,
        subprocess.Popen([*words, "-qmp", f"unix:{path},server=on,wait=off"], stdout=errors, stderr=errors) as process,
    ):
        try:
            with connected(path) as client:
                replies = client.makefile("rb")
                replies.readline()
                for command in (b"qmp_capabilities", b"query-status"):
                    client.sendall(b'{"execute": "%b"}' % command)
                    assert b'"return"' in replies.readline()
        finally:
            process.kill()
    return set(_LINE.findall(told.read_text()))


def connected(path: str) -> socket.socket:
    deadline = time.monotonic() + 20
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        try:
            client.connect(path)
            return client
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def among(modules: set[str], unwanted: tuple[str, ...]) -> list[str]:
    """The modules that are one of `unwanted` or below one."""
    return sorted(
        name for name in modules - _SMALL if any(name == each or name.startswith(f"{each}.") for each in unwanted)
    )


@pytest.mark.parametrize("machine", ["none", "pc"])
def test_qmpd_serve_imports_only_what_a_machine_without_parts_needs(tmp_path: Path, machine: str) -> None:
    modules = imported(tmp_path, _SERVE, "serve", "-machine", machine, "-nodefaults")
    assert "qmpd.server.serve" in modules
    unwanted = _NOT_PUT_TOGETHER if machine == "none" else _NEVER
    assert among(modules, unwanted) == []


def test_the_drop_in_imports_only_what_a_machine_without_disks_needs(tmp_path: Path) -> None:
    modules = imported(
        tmp_path, _DROP_IN, "-machine", "pc", "-nodefaults", "-display", "none", "-S", "-device", "virtio-rng-pci"
    )
    assert "qmpd.hardware.devices" in modules
    assert among(modules, _NEVER) == []
