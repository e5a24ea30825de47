"""The human monitor's `info qtree`, as real QEMU shows it of the same machine."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.block.support import Monitor
from tests.real_qemu import programs

if TYPE_CHECKING:
    from qmpd.testing import VMFactory

MACHINES = (
    "-machine pc -device virtio-net-pci,addr=0x1f.0,id=n -device pci-bridge,chassis_nr=3,id=b -device e1000,bus=b",
    "-machine q35 -device qemu-xhci,id=x -device usb-tablet,bus=x.0,port=2 -device usb-hub,bus=x.0",
    "-machine pc -blockdev null-co,node-name=n0 -device virtio-scsi-pci,id=s -device scsi-hd,drive=n0,id=h",
    "-machine microvm",
    "-machine none",
)
FLOPPY = """\
          dev: isa-fdc, id ""
            iobase = 1008 (0x3f0)
            irq = 6 (0x6)
            dma = 2 (0x2)
            fdtypeA = "auto"
            fdtypeB = "auto"
            fallback = "288"
            bus: floppy-bus.0
              type floppy-bus
              dev: floppy, id "f"
                unit = 1 (0x1)
                drive = ""
                backend_defaults = "auto"
                logical_block_size = 512 (512 B)
                physical_block_size = 512 (512 B)
                min_io_size = 0 (0 B)
                opt_io_size = 0 (0 B)
                discard_granularity = 4294967295 (4 GiB)
                write-cache = "auto"
                share-rw = false
                account-invalid = "auto"
                account-failed = "auto"
                drive-type = "120"
"""


def _shown(qmpd: VMFactory, release: str, line: list[str], command: str = "info qtree") -> str:
    with closing(Monitor(qmpd(release=release, command_line=[*line, "-nodefaults", "-S"]).qmp_path)) as monitor:
        return monitor.human(command)


@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_beside_real_qemu(qmpd: VMFactory, release: str) -> None:
    if release not in programs():
        pytest.skip(f"there is no QEMU {release}")
    brief = ["info qtree -b"] if release in ("10.0", "11.1") else []
    for line in MACHINES:
        for command in ["info qtree", *brief]:
            said = [
                {"execute": "qmp_capabilities"},
                {"execute": "human-monitor-command", "arguments": {"command-line": command}},
                {"execute": "quit"},
            ]
            words = [*programs()[release], *line.split(), "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
            given = "".join(json.dumps(each) for each in said)
            told = subprocess.run(words, input=given, capture_output=True, text=True, check=True, timeout=60).stdout
            replies = [json.loads(each) for each in told.splitlines()]
            real = next(each["return"] for each in replies if isinstance(each.get("return"), str))
            assert _shown(qmpd, release, line.split(), command) == real.replace("\r\n", "\n"), (line, command)


def test_a_floppy_drive(qmpd: VMFactory) -> None:
    line = "-machine pc -device floppy,unit=1,drive-type=120,id=f"
    assert FLOPPY in _shown(qmpd, "7.2", line.split())
