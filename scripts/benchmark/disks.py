"""Copying a disk from one format to the other: this project's reading and writing of images, beside qemu-img."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmark.jobs import Monitor
from benchmark.result import Aim, Row
from benchmark.servers import QMPD, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmark.measures import Bench

QEMU_IMG = "qemu-img"
_STEP = 2 << 20
_PAUSE = 0.001
LATE = 0.005
"""Seconds after which a reply is late, where one disk is copied."""


def _convert(subject: str, source: Path, kind: str, target: Path) -> float:
    """The seconds that it takes to copy `source` to `target`, which gets the format `kind`."""
    target.unlink(missing_ok=True)
    begun = time.perf_counter()
    if subject == QEMU_IMG:
        other = "raw" if kind == "qcow2" else "qcow2"
        subprocess.run([QEMU_IMG, "convert", "-f", other, "-O", kind, source, target], check=True)
    else:
        _copy(source, kind, target)
    return time.perf_counter() - begun


def create_image(path: Path, size: int) -> None:
    """Make an empty qcow2 image."""
    from qmpd.block.files import FileStorage
    from qmpd.block.images.qcow2.creation import Options, create

    storage = FileStorage(os.open(path, os.O_RDWR | os.O_CREAT))
    create(storage, Options(size=size))
    storage.close()


def _copy(source: Path, kind: str, target: Path) -> None:
    from qmpd.block.files import FileStorage
    from qmpd.block.images.qcow2.image import Qcow2

    reading = FileStorage(os.open(source, os.O_RDONLY))
    here = reading if kind == "qcow2" else Qcow2(reading, read_only=True)
    if kind == "qcow2":
        create_image(target, here.size)
    writing = FileStorage(os.open(target, os.O_RDWR | os.O_CREAT))
    there = Qcow2(writing, read_only=False) if kind == "qcow2" else writing
    for offset in range(0, here.size, _STEP):
        there.write(offset, here.read(offset, min(_STEP, here.size - offset)))
    reading.close()
    writing.close()


def _asked_meanwhile(bench: Bench, subject: str, folder: Path) -> float:
    """How late 99 of 100 replies are at most while a disk is copied, in seconds."""
    path, target = bench.path(), folder / "copied.qcow2"
    target.unlink(missing_ok=True)
    with Server(bench.programs.qmp(subject, [path])):
        monitor = Monitor(path)
        source = folder / "disk.raw"
        create_image(target, source.stat().st_size)
        for name, kind, file in (("s", "raw", source), ("t", "qcow2", target)):
            monitor("blockdev-add", node_name=name, driver=kind, file={"driver": "file", "filename": str(file)})
        monitor("blockdev-mirror", job_id="j", device="s", target="t", sync="full")
        late: list[float] = []
        while not monitor.has_seen("BLOCK_JOB_READY"):
            late.append(monitor("query-status"))
            time.sleep(_PAUSE)
        monitor.close()
    return sorted(late)[len(late) * 99 // 100]


def copies(bench: Bench) -> Iterator[Row]:
    """A disk from raw to qcow2, and back."""
    subjects = [QMPD, *([QEMU_IMG] if shutil.which(QEMU_IMG) else [])]
    size = bench.scale.disk_size
    with TemporaryDirectory(prefix="qmpd-bench-") as folder:
        raw, qcow2, back = (Path(folder) / name for name in ("disk.raw", "disk.qcow2", "back.raw"))
        with raw.open("wb") as file:
            for _ in range(0, size, _STEP):
                file.write(os.urandom(_STEP))
        megabytes = size >> 20
        aims = [Aim(2.0, QEMU_IMG)]
        there = bench.rounds(subjects, lambda subject: _convert(subject, raw, "qcow2", qcow2), bench.scale.disk_rounds)
        yield Row(f"{megabytes} MiB from raw to qcow2", "ms", there, aims)
        again = bench.rounds(subjects, lambda subject: _convert(subject, qcow2, "raw", back), bench.scale.disk_rounds)
        yield Row(f"{megabytes} MiB from qcow2 to raw", "ms", again, aims)
        asked = bench.rounds(
            list(bench.programs.subjects), lambda subject: _asked_meanwhile(bench, subject, Path(folder)),
            bench.scale.disk_rounds,
        )  # fmt: skip
        yield Row(f"query-status while {megabytes} MiB are copied, p99", "ms", asked, [Aim(LATE)])
