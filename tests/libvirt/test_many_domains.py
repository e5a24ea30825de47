"""Many domains run at once under one libvirtd (`QMPD_LIBVIRT_DOMAINS`; 100 in `tests/libvirt/run`)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.libvirt.support import DOMAINS, Libvirt, missing

REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"libvirt: {REASON}")
LIST_TIME = 2.0
"""Seconds in which `virsh list` answers."""
MEMORY = 40 << 20
"""Bytes that a domain takes at most, what it shares with others divided among them."""


def proportional_memory(process: str) -> int:
    """The bytes of memory that a process has, its part of what it shares."""
    with open(f"/proc/{process}/smaps_rollup", encoding="utf-8") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("Pss:"))


def test_many_domains_run_at_once(libvirt: Libvirt, report: Callable[[str], None]) -> None:
    names = [f"many{number}" for number in range(DOMAINS)]
    # The first question finds out about the emulator, for all of them.
    libvirt.virsh("domcapabilities")
    before = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda name: libvirt.virsh("create", libvirt.domain(name)), names):
            pass
    started = (time.monotonic() - before) / len(names)
    before = time.monotonic()
    listed = libvirt.virsh("list", "--name").split()
    answered = time.monotonic() - before
    assert set(listed) >= set(names)
    assert answered < LIST_TIME
    states = libvirt.states()
    assert {states[name] for name in names} == {"running"}
    processes = [path.read_text().strip() for path in (libvirt.folder / "run/libvirt/qemu").glob("many*.pid")]
    assert len(processes) == len(names)
    memory = sum(map(proportional_memory, processes)) / len(processes)
    assert memory < MEMORY
    report(
        f"{len(names)} domains under libvirt: {started:.2f} s to start one, "
        f"virsh list answers in {answered:.2f} s, {memory / (1 << 20):.0f} MB a domain (PSS)"
    )
