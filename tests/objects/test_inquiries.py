"""What `info` shows of what QMP tells as well, beside real QEMU and without it."""

from __future__ import annotations

import json
import re

import pytest

from qmpd.human.terminal import open_terminal
from qmpd.system import snapshot
from tests.objects.support import InProcess, Real, human
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
LINE = (
    "-machine", "pc", "-nodefaults", "-display", "none", "-S", "-smp", "2", "-object", "iothread,id=i1",
    "-object", "iothread,id=i0,poll-max-ns=5", "-object", "memory-backend-ram,id=m,size=64M,share=on,prealloc=off",
    "-device", "virtio-rng-pci,id=r", "-device", "virtio-balloon-pci", "-device", "virtio-keyboard-pci,id=a",
    "-device", "virtio-serial-pci,id=vs",
)  # fmt: skip
BARE = ("-machine", "none", "-nodefaults", "-display", "none", "-S")
SHOWN = (
    "cpus", "kvm", "iothreads", "memdev", "opcount", "profile", "rdma", "usb", "usernet", "virtio", "sync-profile",
    "sync-profile -m 5", "mem", "tlb", "accelerators", "cpus x",
)  # fmt: skip


def shown(machine: InProcess | Real, name: str, **more: int) -> str:
    return re.sub(r"thread_id=\d+", "thread_id=N", human(machine, f"info {name}", **more).replace("\r\n", "\n"))


@pytest.mark.parametrize("release", RELEASES)
def test_beside_the_real_program(release: str) -> None:
    if release not in programs():
        pytest.skip(f"there is no QEMU {release}")
    for line in (LINE, BARE):
        with Real(release, line) as real:
            machine = InProcess(release, line)
            for name in SHOWN:
                assert shown(machine, name) == shown(real, name), (line[1], name)
            for index in range(2 if line is LINE else 0):
                assert shown(machine, "cpus", cpu_index=index) == shown(real, "cpus", cpu_index=index), index


def test_cpus_and_threads() -> None:
    assert shown(InProcess("7.2", LINE), "cpus") == "* CPU #0: thread_id=N\n  CPU #1: thread_id=N\n"
    assert shown(InProcess("11.1", LINE), "cpus").startswith("* CPU #0: thread_id=N model=qemu64\n")
    assert shown(InProcess("5.2", LINE), "iothreads").endswith("  poll-max-ns=5\n  poll-grow=0\n  poll-shrink=0\n")


def typed(machine: InProcess, *lines: str) -> str:
    """What somebody gets to see who comes to a monitor's terminal and types this there, without the typing."""
    terminal = open_terminal(machine.system, machine.dispatcher, "hmp")
    terminal.outgoing.clear()
    terminal.receive(b"".join(each.encode() + b"\r" for each in lines))
    said = b"".join(terminal.outgoing).decode()
    machine.dispatcher.close_session(terminal)
    return re.sub(r"thread_id=\d+", "thread_id=N", "".join(re.findall(r"[* ] CPU #.*|inv.*", said)))


def test_a_monitor_looks_at_the_cpu_that_it_was_told() -> None:
    machine = InProcess("7.2", LINE)
    first, second = ("* CPU #0: thread_id=N\r  CPU #1: thread_id=N\r", "  CPU #0: thread_id=N\r* CPU #1: thread_id=N\r")
    assert typed(machine, "info cpus", "cpu 2") == f"{first}invalid CPU index\r"
    assert typed(machine, "cpu 1", "info cpus") == second
    # It belongs to the monitor, whoever comes there, in whichever process; each line of QMP's has one of its own.
    assert typed(machine, "info cpus") == second
    assert shown(machine, "cpus", cpu_index=1).endswith("* CPU #1: thread_id=N\n")
    machine.said("human-monitor-command", command_line="cpu 1")
    assert shown(machine, "cpus").startswith("* CPU #0")
    other = InProcess("7.2", LINE)
    snapshot.put(other.system, snapshot.take(machine.system))
    assert typed(other, "info cpus") == second


def cpus_taken(machine: InProcess | Real, release: str) -> list[bool]:
    """Which of three numbers are those of CPUs once one was plugged in, to QMP and to the command `cpu`."""
    place = {"socket-id": 1, "core-id": 0} if release == "5.2" else {"socket-id": 0, "core-id": 1}
    given = {"driver": "qemu64-x86_64-cpu", **place, "thread-id": 0}
    machine.say(json.dumps({"execute": "device_add", "arguments": given}).encode())
    asked = [{"command-line": "info name", "cpu-index": index} for index in range(3)]
    asked += [{"command-line": f"cpu {index}"} for index in range(3)]
    commands = [{"execute": "human-monitor-command", "arguments": each} for each in asked]
    replies = [machine.say(json.dumps(each).encode()) for each in commands]
    return [b"CPU" not in b"".join(each) for each in replies]


@pytest.mark.parametrize("release", RELEASES)
def test_a_cpu_that_was_plugged_in_is_one(release: str) -> None:
    smp = "1,maxcpus=2" if release == "5.2" else "1,maxcpus=2,cores=2"
    line = ("-machine", "pc", "-nodefaults", "-display", "none", "-S", "-smp", smp)
    for words, taken in ((line, [True, True, False] * 2), (BARE, [False] * 6)):
        machine = InProcess(release, words)
        assert cpus_taken(machine, release) == taken
        copied = machine.said("memsave", val=0, size=1, filename="/nowhere/m", cpu_index=1)
        assert (b"cpu-index" in b"".join(copied)) is not taken[1]
        if release in programs():
            with Real(release, words) as real:
                assert cpus_taken(real, release) == taken


def test_virtio_devices_in_the_order_of_the_release() -> None:
    names = {
        release: re.findall(r"/(\w+)/virtio-backend \[([\w-]+)\]", shown(InProcess(release, LINE), "virtio"))
        for release in ("7.2", "10.0")
    }
    assert names["7.2"] == [("vs", "virtio-serial"), ("a", "virtio-input"), ("r", "virtio-rng")]
    assert sorted(names["10.0"]) == sorted(names["7.2"])
    assert names["10.0"] != names["7.2"]


def test_an_accelerator_that_is_claimed_is_told_everywhere() -> None:
    machine = InProcess("11.1", [*LINE, "-accel", "kvm"])
    assert shown(machine, "kvm") == "kvm support: enabled\n"
    assert "[kvm]" in shown(machine, "accelerators")
    (reply,) = machine.said("query-accelerators")
    assert json.loads(reply)["return"]["enabled"] == "kvm"
