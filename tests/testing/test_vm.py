"""VMs in this process and in one of their own: all that can be done to them, and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from qmpd.control.clock import ClockKind
from qmpd.control.fault_list import FaultKind, ReplyMoment
from qmpd.control.guest import GuestState
from qmpd.control.recorder import EntryKind
from qmpd.guest.phases import GuestPhase
from qmpd.machine import GuestAction
from qmpd.testing import VM, ControlError, StartError, WaitTimeoutError, command, start
from tests.testing.client import Client

KINDS = pytest.mark.parametrize("subprocess", [False, True], ids=["thread", "process"])


def descriptors() -> set[str]:
    """What is open in this process, sockets and files."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue
    return found


@KINDS
def test_everything_can_be_done_in_both_kinds_of_vms(subprocess: bool) -> None:
    with start(guest="boot-time=2s", clock="virtual", subprocess=subprocess) as vm, Client(vm.qmp_path) as client:
        assert vm.run_state == "running"
        assert client.execute("query-status")["status"] == "running"
        state = vm.guest.query()
        assert isinstance(state, GuestState)
        assert state.phase is GuestPhase.FIRMWARE
        assert vm.clock.query().kind is ClockKind.VIRTUAL
        quiet = vm.clock.run_until_quiet()
        assert (quiet.quiet, quiet.advanced) == (True, 2.06)

        vm.guest.set(on_powerdown=GuestAction.REBOOT)
        assert vm.guest.query().options["on_powerdown"] is GuestAction.REBOOT
        client.execute("system_powerdown")
        assert [event.name for event in vm.events] == ["RESUME", "POWERDOWN", "RESET"]
        vm.clock.advance("35ms")
        assert vm.wait_for_event("RESET", {"reason": "guest-reset"}).time == 2.06
        assert vm.wait_for_event("RESET").time == 2.095

        fault = vm.faults.drop_connection(ReplyMoment.WITHIN, command="query-name", count=1)
        assert (fault.fault, fault.when) == (FaultKind.DROP_CONNECTION, "within-reply")
        assert vm.faults.query() == [fault]
        override = vm.replies.override("query-kvm", {"enabled": True, "present": True}, count=1)
        assert override.return_ == {"enabled": True, "present": True}
        assert client.execute("query-kvm") == override.return_
        client.send("query-name")
        assert client.lines.readline() == b'{"return'
        assert vm.faults.query() == []

        kinds = {entry.kind for entry in vm.transcript.query()}
        assert {EntryKind.STARTED, EntryKind.SENT, EntryKind.GUEST, EntryKind.FAULT, EntryKind.OVERRIDE} <= kinds
        vm.transcript.reset()
        assert (vm.commands, vm.events) == ([], [])
        assert "query-name" in vm.report()
        with pytest.raises(ControlError, match="pvpanic"):
            vm.guest.panic()


@KINDS
def test_the_guests_part_in_hot_plug(subprocess: bool) -> None:
    guest = "boot-time=0,firmware=none,on-unplug=ignore"
    with start(guest=guest, clock="virtual", subprocess=subprocess) as vm, Client(vm.qmp_path) as client:
        vm.clock.advance(1)
        for driver, name in (("virtio-net-pci", "nic"), ("virtio-scsi-pci", "disks"), ("scsi-cd", "cd")):
            assert client.execute("device_add", driver=driver, id=name) == {}
        vm.guest.move_tray("cd", True)
        vm.guest.move_tray(device="cd", open_=False)
        assert vm.wait_for_event("DEVICE_TRAY_MOVED", {"tray-open": False}).data["id"] == "cd"
        vm.guest.set_filter("nic", promiscuous=True, main_mac="02:00:00:00:00:01")
        vm.wait_for_event("NIC_RX_FILTER_CHANGED", {"name": "nic"})
        client.execute("device_del", id="nic")
        vm.guest.refuse_device("nic")
        vm.wait_for_event("DEVICE_UNPLUG_GUEST_ERROR", {"device": "nic"})
        vm.guest.release_device("nic")
        vm.clock.advance(0.06)
        vm.wait_for_event("DEVICE_DELETED", {"device": "nic"})
        with pytest.raises(ControlError, match="no balloon"):
            vm.guest.set_balloon(4096)


@KINDS
def test_the_end_of_a_vm(subprocess: bool) -> None:
    with start(machine="none", subprocess=subprocess) as vm, Client(vm.qmp_path) as client:
        before = vm.exit_status
        assert before is None
        client.send("quit")
        assert vm.wait_until_ended() == 0
        assert not Path(vm.qmp_path).exists()
        assert vm.exit_status == 0
        assert [event.name for event in vm.events][-1] == "SHUTDOWN"
        vm.assert_sent("quit")
        with pytest.raises(ControlError, match="the VM has ended"):
            vm.faults.delay_reply(1)
        with pytest.raises(WaitTimeoutError, match="no event RESET: the VM has ended with status 0"):
            vm.wait_for_event("RESET")


@KINDS
def test_a_vm_that_is_killed(subprocess: bool) -> None:
    with start(machine="none", subprocess=subprocess) as vm, Client(vm.qmp_path) as client:
        vm.faults.kill()
        assert vm.wait_until_ended() == -9
        assert client.lines.read() == b""
        assert Path(vm.qmp_path).exists()
        assert [event.name for event in vm.events] == ["RESUME"]
    assert not Path(vm.qmp_path).parent.exists()


@KINDS
def test_a_closed_vm_leaves_nothing_behind_and_still_tells_what_was(subprocess: bool) -> None:
    threads = threading.enumerate()
    before = descriptors()
    vm = start(machine="none", options=["-S", "-name", "x"], subprocess=subprocess)
    folder = Path(vm.qmp_path).parent
    client = Client(vm.qmp_path)
    client.send("query-name")
    vm.close()
    client.close()
    vm.close()
    assert threading.enumerate() == threads
    assert descriptors() == before
    assert not folder.exists()
    vm.assert_sent("query-name")
    assert vm.run_state == "prelaunch"
    assert vm.report().splitlines()[0].endswith("QEMU 10.0, x")
    with pytest.raises(ControlError):
        vm.faults.delay_reply(1)


def test_a_vm_that_is_forgotten_is_taken_away() -> None:
    program = "from qmpd.testing import start; vm = start(); print(vm.qmp_path, flush=True)"
    line = [sys.executable, "-W", "error", "-X", "dev", "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    assert not Path(done.stdout.strip()).parent.exists()


def thread_names() -> list[str]:
    """The names of the threads there are; that of VMs is among them where a fixture keeps it for the whole run.

    Those of disks end shortly after their VM.
    """
    deadline = time.monotonic() + 10
    while "disk" in (names := sorted(thread.name for thread in threading.enumerate())):
        assert time.monotonic() < deadline, names
        time.sleep(0.01)
    return names


@KINDS
def test_options_that_are_wrong(subprocess: bool) -> None:
    before = thread_names()
    for arguments, text in (
        ({"options": ["-foo"]}, "-foo: invalid option"),
        ({"release": "1.0"}, "1.0"),
        ({"clock": "fast"}, "'fast' is not a clock"),
        ({"guest": "boot-time=soon"}, "'soon' is not a time"),
        ({"guest": {"boot_times": 3}}, "Invalid parameter 'boot-times'"),
        ({"machine": "none", "guest": ""}, "machine 'none' has no guest"),
    ):
        with pytest.raises(StartError, match=re.escape(text)):
            start(subprocess=subprocess, **arguments)
    assert thread_names() == before


@KINDS
def test_several_sockets_that_serve_one_client_each(subprocess: bool) -> None:
    with start(monitors=2, exclusive=True, subprocess=subprocess) as vm:
        assert len(vm.qmp_paths) == 2
        first, second = Client(vm.qmp_paths[0]), Client(vm.qmp_paths[1])
        third = Client(vm.qmp_path, negotiate=False)
        third.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            third.message()
        for client in (first, second, third):
            client.close()


def test_a_socket_of_the_tests_own(tmp_path: Path) -> None:
    own = tmp_path / "own.sock"
    with start(options=["-qmp", f"unix:{own},server=on,wait=off"]) as vm:
        assert vm.qmp_path == str(own)
        Client(vm.qmp_path).close()


def test_the_path_of_a_socket_is_short_where_temporary_folders_are_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with start() as vm:
        assert len(vm.qmp_path) < 60
        Client(vm.qmp_path).close()


# Waiting


@KINDS
def test_waiting_for_what_comes_later(subprocess: bool) -> None:
    with start(wait=True, subprocess=subprocess) as vm:
        assert vm.run_state == "prelaunch"
        client = Client(vm.qmp_path)
        vm.wait_for_run_state("running")
        late = threading.Timer(0.05, client.send, ["stop"])
        late.start()
        assert vm.wait_for_event("ST*").name == "STOP"
        late.join()
        vm.wait_for_run_state("paused")
        late = threading.Timer(0.05, client.send, ["set-action"], {"reboot": "shutdown"})
        late.start()
        sent = vm.wait_for_command("set-action", reboot=re.compile("shut.*"))
        late.join()
        assert (sent.client, sent.arguments) == (1, {"reboot": "shutdown"})
        client.close()


def test_waiting_in_vain_shows_what_happened() -> None:
    with start(guest="", clock="virtual") as vm, Client(vm.qmp_path) as client:
        client.execute("stop")
        with pytest.raises(WaitTimeoutError) as caught:
            vm.wait_for_event("SHUTDOWN", {"guest": True}, timeout=0.01)
        text = str(caught.value)
        assert text.startswith("no event SHUTDOWN guest=true within 0.01 s\nThe VM's clock is virtual")
        assert "client 1  -> stop" in text
        assert issubclass(WaitTimeoutError, AssertionError)
        with pytest.raises(WaitTimeoutError, match="no run state shutdown within"):
            vm.wait_for_run_state("shutdown", timeout=0.01)
        with pytest.raises(WaitTimeoutError, match="no command quit"):
            vm.wait_for_command("quit", timeout=0.01)
        with pytest.raises(WaitTimeoutError, match="no end within"):
            vm.wait_until_ended(timeout=0.01)
        client.send("query-name", id=3)
        mistaken = command("query-name", id=lambda value: value.upper())
        with pytest.raises(AttributeError):
            vm.wait_for_command(mistaken)


def test_events_are_given_once() -> None:
    with start(machine="none") as vm, Client(vm.qmp_path) as client:
        for _ in range(2):
            client.execute("stop")
            client.execute("cont")
        assert [vm.wait_for_event(name).name for name in ("STOP", "STOP", "RESUME", "RESUME", "RESUME")]
        with pytest.raises(WaitTimeoutError):
            vm.wait_for_event("RESUME", timeout=0.01)


async def waits(vm: VM, client: Client) -> None:
    """What asynchronous tests do, whatever they run under."""
    client.send("stop")
    assert (await vm.wait_for_event_async("STOP")).name == "STOP"
    await vm.wait_for_run_state_async("paused")
    client.send("query-name")
    assert (await vm.wait_for_command_async("query-*")).name == "query-name"
    with pytest.raises(WaitTimeoutError):
        await vm.wait_for_event_async("SHUTDOWN", timeout=0.02)
    late = threading.Timer(0.05, client.send, ["quit"])
    late.start()
    assert await vm.wait_until_ended_async() == 0
    late.join()


@KINDS
def test_asyncio(subprocess: bool) -> None:
    with start(machine="none", subprocess=subprocess) as vm, Client(vm.qmp_path) as client:
        asyncio.run(waits(vm, client))


def test_trio() -> None:
    with start(machine="none") as vm, Client(vm.qmp_path) as client:
        trio.run(waits, vm, client)


def test_trio_with_a_clock_of_the_tests_own() -> None:
    with start(machine="none") as vm, Client(vm.qmp_path) as client:
        trio.run(waits, vm, client, clock=MockClock(autojump_threshold=0))


def test_asyncio_goes_on_while_a_test_waits() -> None:
    async def scenario(vm: VM) -> None:
        reader, writer = await asyncio.open_unix_connection(vm.qmp_path)
        await reader.readline()

        async def later() -> None:
            await asyncio.sleep(0.02)
            writer.write(b'{"execute": "qmp_capabilities"} {"execute": "quit"}')
            await writer.drain()

        task = asyncio.create_task(later())
        assert await vm.wait_until_ended_async() == 0
        await task
        writer.close()
        await writer.wait_closed()

    with start(machine="none") as vm:
        asyncio.run(scenario(vm))


# The thread


def test_one_thread_serves_all_vms() -> None:
    before = thread_names()
    vms = [start(machine="none") for _ in range(20)]
    assert thread_names() == sorted({*before, "qmpd"})
    assert len({vm.qmp_path for vm in vms}) == 20
    for vm in vms:
        with Client(vm.qmp_path) as client:
            assert client.execute("query-name") == {}
        vm.close()
    assert thread_names() == before


def test_many_threads_play_with_one_vm() -> None:
    wrong: list[BaseException] = []

    def play(vm: VM, number: int) -> None:
        try:
            with Client(vm.qmp_path) as client:
                for _ in range(20):
                    vm.replies.override("query-name", {"name": str(number)}, count=1)
                    assert client.execute("query-name")["name"].isdigit()
                    vm.clock.advance(0.001)
                    vm.wait_for_command("query-name")
        except BaseException as error:
            wrong.append(error)

    with start(machine="none", clock="virtual") as vm:
        threads = [threading.Thread(target=play, args=(vm, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert len(vm.commands) == 8 * 21


def test_a_process_that_is_forked_has_vms_of_its_own() -> None:
    program = """
import os
from qmpd.testing import start
with start(machine="none") as vm:
    child = os.fork()
    if not child:
        with start(machine="none") as own:
            status = own.exit_status
        os._exit(0 if status is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert vm.events
"""
    subprocess.run([sys.executable, "-c", program], timeout=30, check=True)


def test_a_vm_that_fails_tells_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from qmpd.system.system import System

    def fail(self: System) -> None:
        raise LookupError("a bug")

    vm = start(machine="none")
    monkeypatch.setattr(System, "turn", fail)
    with Client(vm.qmp_path) as client:
        client.send("system_reset")
        with pytest.raises(RuntimeError, match="the VM has failed") as caught:
            vm.wait_until_ended()
        assert isinstance(caught.value.__cause__, BaseException)
    with pytest.raises(RuntimeError):
        vm.close()
    with start(machine="none") as another:
        assert another.run_state == "running"


def test_a_vm_is_followed_through_a_live_update() -> None:
    with start(release="2.x-live-update", machine="none", subprocess=True) as vm, Client(vm.qmp_path) as client:
        client.execute("live-update-prepare")
        vm.wait_for_event("INIT_COMPLETE", timeout=30)
        assert client.execute("live-update-commit") == {}
        assert vm.process.wait(5) == 0  # type: ignore[attr-defined]
        assert vm.exit_status is None
        client.execute("stop")
        vm.wait_for_run_state("paused")
        vm.assert_sent("stop")
    assert not Path(vm.qmp_path).exists()
