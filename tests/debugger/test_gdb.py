"""GDB itself, driven through its machine interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import pytest

from qmpd.testing import start
from tests.golden import RELEASES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing.vm import VM

GDB = shutil.which("gdb")
pytestmark = pytest.mark.skipif(GDB is None, reason="gdb is not installed")
LIMIT = 20
"""Seconds that a gdb is given."""
_KERNEL = 0xFFFFFFFF81000000


class Gdb:
    """A running GDB; a context manager that ends it."""

    def __init__(self) -> None:
        assert GDB is not None
        self._process = subprocess.Popen(
            [GDB, "-nx", "-quiet", "--interpreter=mi3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "LC_ALL": "C", "DEBUGINFOD_URLS": ""},
        )
        for setting in ("confirm off", "pagination off", "mi-async on", "architecture i386:x86-64"):
            self.do(f"-gdb-set {setting}")

        # A line that never comes must not keep the tests for ever.
        self._limit = threading.Timer(LIMIT, self._process.kill)
        self._limit.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._limit.cancel()
        self._process.kill()
        self._process.communicate()

    def wait(self, *beginnings: str) -> str:
        """The next line that begins so."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(beginnings):
                return line.rstrip("\n")
        raise EOFError("gdb has ended")

    def do(self, command: str, *, fails: bool = False) -> str:
        """The result of a command of the machine interface; `fails`: it may be an error."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        result = self.wait("^")
        assert fails or not result.startswith("^error"), f"{command}: {result}"
        return result

    def value(self, expression: str) -> int:
        return int(self.do(f'-data-evaluate-expression "(unsigned long long)({expression})"').split('"')[1], 0)


@contextmanager
def attached(folder: Path, *options: str, release: str = "10.0", guest: str | None = None) -> Iterator[tuple[VM, Gdb]]:
    path = folder / "gdb.sock"
    device = ["-gdb", f"unix:{path},server=on,wait=off"]
    with start(options=[*device, *options], clock="virtual", release=release, guest=guest) as vm, Gdb() as gdb:
        gdb.do(f"-target-select remote {path}")
        yield vm, gdb


def names(vm: VM) -> list[str]:
    return [event.name for event in vm.events]


@pytest.mark.parametrize("release", RELEASES)
def test_attach_break_step_interrupt_and_detach(tmp_path: Path, release: str) -> None:
    with attached(tmp_path, release=release) as (vm, gdb):
        assert vm.run_state == "paused"
        assert gdb.value("$rip") == 0xFFF0
        assert gdb.value("$cs") == 0xF000
        assert gdb.value("$cr0") == 0x60000010
        gdb.do("-break-insert *0x7c00")
        assert gdb.do("-exec-continue") == "^running"
        vm.wait_for_run_state("running")
        assert vm.guest.reach_address(0x7C00).stopped
        assert 'reason="breakpoint-hit"' in gdb.wait("*stopped")
        assert vm.run_state == "debug"
        assert gdb.value("$rip") == 0x7C00
        gdb.do("-exec-step-instruction")
        assert 'reason="end-stepping-range"' in gdb.wait("*stopped")
        assert gdb.value("$rip") == 0x7C02
        gdb.do("-exec-continue")
        vm.wait_for_run_state("running")
        gdb.do("-exec-interrupt --all")
        assert 'signal-name="SIGINT"' in gdb.wait("*stopped")
        assert vm.run_state == "paused"
        gdb.do("-target-detach")
        vm.wait_for_run_state("running")
        # Started, attached; continued, hit; stepped; continued, interrupted; detached.
        assert names(vm) == ["RESUME", "STOP", "RESUME", "STOP", "RESUME", "STOP", "RESUME", "STOP", "RESUME"]


def test_memory_registers_and_threads(tmp_path: Path) -> None:
    with attached(tmp_path, "-S", "-smp", "2") as (vm, gdb):
        assert vm.run_state == "prelaunch"
        assert 'contents="0000000000000000"' in gdb.do("-data-read-memory-bytes 0x1000 8")
        gdb.do("-data-write-memory-bytes 0x1000 78563412")
        assert gdb.value("*(int*)0x1000") == 0x12345678
        gdb.do("-gdb-set var $rbx = 0x1234")
        assert gdb.value("$rbx") == 0x1234
        threads = gdb.do("-thread-info")
        assert 'target-id="Thread 1.1",details="CPU#0 [running]"' in threads
        assert 'target-id="Thread 1.2",details="CPU#1 [halted ]"' in threads
        gdb.do("-thread-select 2")
        assert gdb.value("$rbx") == 0


def test_a_kernel_that_runs_beyond_4_gib(tmp_path: Path) -> None:
    with attached(tmp_path, "-S") as (vm, gdb):
        gdb.do(f"-break-insert -h *{_KERNEL:#x}")
        gdb.do("-exec-continue")
        vm.wait_for_run_state("running")
        assert vm.guest.reach_address(hex(_KERNEL)).stopped
        assert 'reason="breakpoint-hit"' in gdb.wait("*stopped")
        assert gdb.value("$rip") == _KERNEL


def test_watchpoints(tmp_path: Path) -> None:
    with attached(tmp_path, "-S") as (vm, gdb):
        gdb.do("-break-watch -r *(int*)0x2000")
        gdb.do("-exec-continue")
        vm.wait_for_run_state("running")
        assert vm.guest.access_memory(0x2002, "read").stopped
        assert 'reason="read-watchpoint-trigger"' in gdb.wait("*stopped")


def test_lines_of_the_human_monitor(tmp_path: Path) -> None:
    with attached(tmp_path) as (_, gdb):
        assert gdb._process.stdin is not None
        gdb._process.stdin.write('-interpreter-exec console "monitor info status"\n')
        gdb._process.stdin.flush()
        assert gdb.wait("@") == r'@"VM status: paused\r\n"'


@pytest.mark.parametrize("release", RELEASES)
def test_kill(tmp_path: Path, release: str) -> None:
    with attached(tmp_path, release=release) as (vm, gdb):
        # It may be gone before gdb has acknowledged its last word.
        gdb.do('-interpreter-exec console "kill"', fails=True)
        assert vm.wait_until_ended() == 0
        # Older releases just exit.
        assert names(vm) == ["RESUME", "STOP", *(["SHUTDOWN"] if release in ("10.0", "11.1") else [])]


@pytest.mark.parametrize("release", RELEASES)
def test_the_machine_ends_while_gdb_waits(tmp_path: Path, release: str) -> None:
    with attached(tmp_path, release=release, guest="boot-time=0") as (vm, gdb):
        gdb.do("-exec-continue")
        vm.wait_for_run_state("running")
        vm.clock.run_until_quiet()
        vm.guest.shut_down()
        # gdb may find the connection closed when it acknowledges this, and say no more then.
        assert gdb.wait("=thread-group-exited")
        assert vm.wait_until_ended() == 0
