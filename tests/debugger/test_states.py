"""Breakpoints, stops and the end, as the debugger, QMP clients and the puppeteer see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qmpd.control.errors import ControlError
from qmpd.testing import start
from tests.debugger.support import Debugger, debugged
from tests.golden import RELEASES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qmpd.testing.vm import VM

RIP = "p10"
DESCRIPTION = "qXfer:features:read:target.xml:0,ffb"


def names(vm: VM) -> list[str]:
    return [event.name for event in vm.events]


@pytest.mark.parametrize("release", RELEASES)
def test_a_cpu_comes_to_a_breakpoint(tmp_path: Path, release: str) -> None:
    with debugged(tmp_path, "-S", "-smp", "2", release=release) as (vm, debugger):
        debugger.ask(DESCRIPTION)
        assert debugger.ask("Z0,7c00,1") == "OK"
        debugger.tell("c")
        vm.wait_for_run_state("running")
        assert not vm.guest.reach_address(0x7C02, cpu=1).stopped
        assert vm.run_state == "running"
        assert vm.guest.reach_address("0x7c00", cpu=1).stopped
        assert debugger.packet() == "T05thread:02;"
        assert vm.run_state == "debug"
        assert names(vm) == ["RESUME", "STOP"]
        assert debugger.ask(RIP) == "007c000000000000"
        assert debugger.ask("Hg1") == "OK"
        assert debugger.ask(RIP) == "f0ff000000000000"
        debugger.tell("c")
        # It is still there; the first CPU has gone on from where it was.
        assert debugger.packet() == "T05thread:02;"
        assert debugger.ask("z0,7c00,1") == "OK"
        debugger.tell("vCont;c")
        vm.wait_for_run_state("running")
        assert not vm.guest.reach_address(0x7C00).stopped


PENDING: dict[str, tuple[Callable[[VM], object], str]] = {
    "reset": (lambda vm: vm.guest.reboot(), "RESET"),
    "shutdown": (lambda vm: vm.guest.shut_down(), "SHUTDOWN"),
    "suspend": (lambda vm: vm.guest.suspend(), ""),
}


@pytest.mark.parametrize("first", [True, False], ids=["breakpoint first", "breakpoint last"])
@pytest.mark.parametrize("other", PENDING)
def test_a_breakpoint_and_something_else_in_one_turn(tmp_path: Path, other: str, first: bool) -> None:
    """The stop comes first, whatever else is pending, as in QEMU's main loop; a guest that has stopped falls asleep
    when it goes on."""
    act, event = PENDING[other]
    with debugged(tmp_path, "-S", "-no-shutdown", release="10.0") as (vm, debugger):
        assert debugger.ask("Z0,7c00,1") == "OK"
        debugger.tell("c")
        vm.wait_for_run_state("running")
        vm.faults.hang_main_loop()
        if first:
            assert vm.guest.reach_address(0x7C00).stopped
            act(vm)
        else:
            act(vm)
            assert vm.guest.reach_address(0x7C00).stopped
        vm.faults.clear()
        assert debugger.packet() == "T05thread:01;"
        if event:
            vm.wait_for_event(event)
        assert [name for name in names(vm) if name != "RESUME"] == ["STOP", *([event] if event else [])]
        if other == "suspend":
            assert vm.run_state == "debug"
            debugger.tell("D")
            vm.wait_for_event("SUSPEND")


def test_addresses_beyond_4_gib_are_those_of_64_bit_code(tmp_path: Path) -> None:
    kernel = 0xFFFFFFFF81000000
    with debugged(tmp_path, "-S") as (vm, debugger):
        assert debugger.ask(f"m{kernel:x},4") == "E14"
        assert debugger.ask(f"Z0,{kernel:x},1") == "OK"
        debugger.tell("c")
        vm.wait_for_run_state("running")
        assert vm.guest.reach_address(hex(kernel)).stopped
        assert debugger.packet() == "T05thread:01;"
        assert debugger.ask(RIP) == kernel.to_bytes(8, "little").hex()
        assert debugger.ask(f"m{kernel:x},4") == "00000000"
        assert debugger.ask("P8=1122334455667788") == "OK"
        assert debugger.ask("p8") == "1122334455667788"
        # A step goes over two bytes of zeros, which is all that there is.
        assert debugger.ask(f"z0,{kernel:x},1") == "OK"
        assert debugger.ask("s") == "T05thread:01;"
        assert debugger.ask(RIP) == (kernel + 2).to_bytes(8, "little").hex()


@pytest.mark.parametrize(
    ("kind", "access", "reply"),
    [
        (2, "write", "T05thread:01;watch:2000;"),
        (2, "read", None),
        (3, "read", "T05thread:01;rwatch:2000;"),
        (3, "write", None),
        (4, "read", "T05thread:01;awatch:2000;"),
        (4, "write", "T05thread:01;awatch:2000;"),
    ],
)
def test_a_cpu_touches_memory_that_is_watched(tmp_path: Path, kind: int, access: str, reply: str | None) -> None:
    with debugged(tmp_path, "-S") as (vm, debugger):
        assert debugger.ask(f"Z{kind},2000,4") == "OK"
        debugger.tell("c")
        vm.wait_for_run_state("running")
        assert not vm.guest.access_memory(0x1FFC, access, size=4).stopped
        assert not vm.guest.access_memory(0x2004, access).stopped
        assert vm.guest.access_memory(0x1FFC, access, size=5).stopped == (reply is not None)
        if reply is not None:
            assert debugger.packet() == reply
            assert vm.run_state == "debug"
        assert debugger.is_quiet()


def test_what_the_puppeteer_cannot_do(tmp_path: Path) -> None:
    with start(options=["-S"]) as vm, pytest.raises(ControlError, match="does not run"):
        vm.guest.reach_address(1)
    with start() as vm, pytest.raises(ControlError, match="takes -gdb"):
        vm.guest.reach_address(1)
    with debugged(tmp_path) as (vm, debugger):
        debugger.tell("c")
        vm.wait_for_run_state("running")
        for address in ("7c00h", "0x", -1, 1 << 64, "0x10000000000000000"):
            with pytest.raises(ControlError, match="not an address"):
                vm.guest.reach_address(address)
        with pytest.raises(ControlError, match="no CPU 1"):
            vm.guest.reach_address(1, cpu=1)
        with pytest.raises(ControlError, match="'size'"):
            vm.guest.access_memory(1, size=0)


STOPS: dict[str, tuple[list[str], Callable[[VM], Any], str]] = {
    "guest-panicked": (["-device", "pvpanic", "-action", "panic=pause"], lambda vm: vm.guest.panic(), "8f"),
    "watchdog": (["-device", "ib700", "-watchdog-action", "pause"], lambda vm: vm.guest.expire_watchdog(), "0e"),
    "internal-error": ([], lambda vm: vm.guest.internal_error(), "06"),
    "io-error": ([], lambda vm: vm.guest.io_error("disk"), "11"),
    "shutdown": (["-no-shutdown"], lambda vm: vm.guest.shut_down(), "03"),
}


@pytest.mark.parametrize("state", STOPS)
def test_each_stop_is_told_by_its_signal(tmp_path: Path, state: str) -> None:
    options, happen, signal = STOPS[state]
    with debugged(tmp_path, *options, guest="boot-time=0") as (vm, debugger):
        debugger.tell("c")
        vm.wait_for_run_state("running")
        vm.clock.run_until_quiet()
        happen(vm)
        assert debugger.packet() == f"T{signal}thread:01;"
        assert vm.run_state == state
        if state in ("shutdown", "internal-error"):
            # Only a reset helps.
            debugger.tell("c")
            assert debugger.is_quiet(0.1)
            assert vm.run_state == state


@pytest.mark.parametrize(("release", "told"), [("7.2", "W00"), ("10.0", "W01")])
def test_the_exit_status_is_told(tmp_path: Path, release: str, told: str) -> None:
    options = ["-device", "pvpanic", "-action", "panic=exit-failure"]
    with debugged(tmp_path, *options, release=release) as (vm, debugger):
        debugger.tell("c")
        vm.wait_for_run_state("running")
        vm.guest.panic()
        assert debugger.packet() == told
        assert vm.wait_until_ended() == 1
        with pytest.raises(EOFError):
            debugger.packet()


def test_a_process_that_just_exits_tells_nobody(tmp_path: Path) -> None:
    with debugged(tmp_path, "-device", "isa-debug-exit", release="7.2") as (vm, debugger):
        debugger.tell("c")
        vm.wait_for_run_state("running")
        vm.guest.debug_exit(5)
        assert vm.wait_until_ended() == 11
        with pytest.raises(EOFError, match=r"b'\+*'"):
            debugger.packet()


def test_resets_put_registers_back_and_leave_memory_and_breakpoints(tmp_path: Path) -> None:
    with debugged(tmp_path, "-S", "-smp", "2") as (vm, debugger):
        before = debugger.ask("g")
        for content in ("P10=0102030405060708", "P3=00", "M1000,2:abcd", "Z0,7c00,1"):
            assert debugger.ask(content) == "OK"
        assert debugger.ask("g") != before
        debugger.tell("c")
        vm.wait_for_run_state("running")
        vm.guest.reboot()
        debugger.send(b"\x03")
        assert debugger.packet() == "T02thread:01;"
        assert debugger.ask("g") == before
        assert debugger.ask("m1000,2") == "abcd"
        assert debugger.ask("z0,7c00,1") == "OK"


def test_a_halted_cpu_runs_once_there_is_an_operating_system(tmp_path: Path) -> None:
    def state(debugger: Debugger) -> str:
        return bytes.fromhex(debugger.ask("qThreadExtraInfo,2")).decode()

    with debugged(tmp_path, "-smp", "2", guest="boot-time=1s") as (vm, debugger):
        assert state(debugger) == "CPU#1 [halted ]"
        debugger.tell("c")
        vm.wait_for_run_state("running")
        vm.clock.advance(2)
        debugger.send(b"\x03")
        assert debugger.packet() == "T02thread:01;"
        assert state(debugger) == "CPU#1 [running]"
