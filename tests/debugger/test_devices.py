"""Where debuggers connect: `-gdb`, `-s` and `gdbserver`, and what goes wrong with them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.cli import serve
from qmpd.common.refusals import Refusal
from qmpd.debugger.packets import packet
from qmpd.option_language.errors import OptionError
from qmpd.testing import start
from qmpd.testing.settings import StartError
from tests.clients.programs import serving
from tests.debugger.support import Debugger, debugged
from tests.emulator.support import QUIET, connect, run, running
from tests.live_update import process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path



class Monitor:
    """A QMP client."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.lines = client.makefile("rb")
        self.lines.readline()
        self.events: list[str] = []
        self.ask("qmp_capabilities")

    def ask(self, name: str, **arguments: object) -> Any:
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())
        while "event" in (message := json.loads(self.lines.readline())):
            self.events.append(message["event"])
        return message["return"]

    def line(self, text: str) -> str:
        return str(self.ask("human-monitor-command", **{"command-line": text}))

    def device(self) -> str:
        return str(next(each["filename"] for each in self.ask("query-chardev") if each["label"] == "gdb"))

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@contextmanager
def monitored(path: Path | str) -> Iterator[Monitor]:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    monitor = Monitor(client)
    try:
        yield monitor
    finally:
        monitor.close()


def port_of(monitor: Monitor) -> int:
    match = re.fullmatch(r"disconnected:tcp:[0-9.]+:([0-9]+),server=on", monitor.device())
    assert match is not None
    return int(match[1])


def test_a_tcp_socket_listens_whatever_it_says(tmp_path: Path) -> None:
    with start(options=["-gdb", "tcp:127.0.0.1:0", "-S"]) as vm, monitored(vm.qmp_path) as monitor:
        debugger = Debugger(("127.0.0.1", port_of(monitor)))
        assert debugger.ask("?") == "T05thread:01;"
        here, there = debugger.socket.getpeername(), debugger.socket.getsockname()
        assert monitor.device() == f"tcp:{here[0]}:{here[1]},server=on <-> {there[0]}:{there[1]}"
        debugger.close()


def test_s_is_port_1234() -> None:
    parsed = serve.parse(["-s"])
    assert parsed is not None
    settings = parsed[0].debugger
    assert settings is not None
    assert (settings.label, settings.backend, settings.host, settings.port) == ("gdb", "listen", "", "1234")
    assert not settings.wait


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-gdb", "foo"], "-gdb foo: 'foo' is not a valid char driver"),
        (["-gdb", "tcp::1", "-s"], "-s: duplicate yank instance"),
        (["-gdb", ""], "-gdb : gdbstub: missing connection string"),
        (["-gdb", "chardev:x"], "-gdb chardev:x: qmpd does not model"),
        (["-gdb", "unix:x,telnet=on"], "-gdb unix:x,telnet=on: qmpd does not model"),
        (["-gdb", "unix:x,server=foo"], "-gdb unix:x,server=foo: Parameter 'server' expects 'on' or 'off'"),
    ],
)
def test_options_that_are_refused(options: list[str], message: str) -> None:
    with pytest.raises((OptionError, Refusal)) as refused:
        serve.parse(options)
    assert str(refused.value).startswith(message)


def test_a_machine_without_a_cpu_takes_no_debugger(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="meaningless to attach gdb"):
        start(machine="none", options=["-gdb", f"unix:{tmp_path}/gdb.sock,server=on,wait=off"])
    assert list(tmp_path.iterdir()) == []


def test_a_release_that_is_not_known_to_debuggers_says_so(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="qmpd does not model debuggers of release 2.x-live-update"):
        start(release="2.x-live-update", options=["-gdb", f"unix:{tmp_path}/gdb.sock,server=on,wait=off"])


def test_gdbserver_while_the_machine_runs(tmp_path: Path) -> None:
    path = tmp_path / "gdb.sock"
    with start() as vm, monitored(vm.qmp_path) as monitor:
        device = f"unix:{path},server=on,wait=off"
        assert monitor.line(f"gdbserver {device}") == f"Waiting for gdb connection on device '{device}'\r\n"
        debugger = Debugger(path)
        assert debugger.ask("?") == "T05thread:01;"
        assert vm.run_state == "paused"
        assert monitor.line("gdbserver none") == "Disabled gdbserver\r\n"
        assert debugger.socket.recv(1) == b""
        assert vm.run_state == "paused"
        assert not path.exists()
        assert monitor.line("gdbserver tcp:127.0.0.1:0").startswith("Waiting")
        debugger.close()
        debugger = Debugger(("127.0.0.1", port_of(monitor)))
        assert debugger.ask("qC") == "QC01"
        debugger.close()


def test_a_debugger_that_goes_leaves_everything_as_it_is(tmp_path: Path) -> None:
    with debugged(tmp_path) as (vm, debugger):
        assert debugger.ask("Z0,7c00,1") == "OK"
        debugger.tell("c")
        vm.wait_for_run_state("running")
        debugger.close()
        vm.clock.advance(1)
        assert vm.run_state == "running"
        assert vm.guest.reach_address(0x7C00).stopped
        assert vm.run_state == "debug"


def test_a_device_that_waits_holds_the_start(tmp_path: Path) -> None:
    path = tmp_path / "gdb.sock"
    with serving(tmp_path / "qmp.sock", "-S", "-gdb", f"unix:{path},server=on") as server:
        with server.greeted(path=tmp_path / "qmp.sock"):
            pass
        assert server.process.stderr is not None
        told = f"-gdb unix:{path},server=on: info: QEMU waiting for connection on: disconnected:unix:{path},server=on\n"
        assert server.process.stderr.readline() == f"qmpd: {told}"
        debugger = Debugger(path)
        assert debugger.ask("?") == "T05thread:01;"
        debugger.close()


def test_a_plugged_in_cpu_is_a_thread(tmp_path: Path) -> None:
    def threads(debugger: Debugger) -> list[str]:
        found = [debugger.ask("qfThreadInfo")]
        while found[-1] != "l":
            found.append(debugger.ask("qsThreadInfo"))
        return found

    with debugged(tmp_path, "-S", "-smp", "1,maxcpus=3") as (vm, debugger), monitored(vm.qmp_path) as monitor:
        assert threads(debugger) == ["m01", "l"]
        place = monitor.ask("query-hotpluggable-cpus")[0]
        monitor.ask("device_add", driver=place["type"], id="cpu", **place["props"])
        assert threads(debugger) == ["m01", "m03", "l"]
        assert debugger.ask("Hg3") == "OK"
        assert debugger.ask("Hg2") == "E22"
        assert debugger.ask("g").startswith("00" * 24 + "b10f0600")


async def test_a_live_update_closes_the_connection_and_goes_on_listening(tmp_path: Path) -> None:
    path = tmp_path / "gdb.sock"
    options = ["-extension", "live-update", "-gdb", f"unix:{path},server=on,wait=off"]
    async with process.running(tmp_path, *options, release="10.0") as server:
        client = await server.connect()
        debugger = await trio.to_thread.run_sync(Debugger, path)
        assert await trio.to_thread.run_sync(debugger.ask, "Z0,7c00,1") == "OK"
        devices = await client.returned("query-chardev")
        await client.update()
        with trio.fail_after(5):
            assert await trio.to_thread.run_sync(debugger.socket.recv, 1) == b""
        debugger.close()
        assert (await client.returned("query-status"))["status"] == "paused"
        again = await trio.to_thread.run_sync(Debugger, path)
        assert await trio.to_thread.run_sync(again.ask, "?") == "T05thread:01;"
        # The stub is as new.
        assert await trio.to_thread.run_sync(again.ask, "z0,7c00,1") == "E22"
        assert await client.returned("query-chardev") == devices
        again.close()


def test_the_machines_of_a_fleet_have_none(tmp_path: Path) -> None:
    from qmpd.cli.fleet import main

    assert main([str(tmp_path / "fleet"), "--count", "1", "--", "-s"]) == 1


# The drop-in program


def first_packet(data: bytes) -> bytes:
    return data[data.index(b"$") : data.index(b"#") + 3]


def test_a_debugger_on_a_device_that_has_an_id(tmp_path: Path) -> None:
    path = tmp_path / "gdb.sock"
    device = f"socket,id=other,path={path},server=on,wait=off"
    monitor_at = f"unix:{tmp_path}/qmp,server=on,wait=off"
    with running(*QUIET, "-chardev", device, "-gdb", "chardev:other", "-qmp", monitor_at):
        with connect(tmp_path / "qmp") as client:
            monitor = Monitor(client)
            debugger = Debugger(path)
            assert debugger.ask("?") == "T05thread:01;"
            labels = {each["label"]: each["frontend-open"] for each in monitor.ask("query-chardev")}
            assert labels["other"]
            assert "gdb" not in labels
            debugger.close()
            monitor.close()


def test_a_debugger_at_standard_input(tmp_path: Path) -> None:
    with running(*QUIET, "-gdb", "stdio", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(packet(b"qC"))
        program.stdin.flush()
        assert program.stdout.read(len(b"+$QC01#f5")) == b"+$QC01#f5"


def test_preconfig_opens_it_with_the_machine(tmp_path: Path) -> None:
    missing = f"unix:{tmp_path}/missing/gdb.sock,server=on,wait=off"
    options = ["-nodefaults", "-display", "none", "-preconfig", "-qmp", "stdio", "-gdb"]
    talk = '{"execute": "qmp_capabilities"}{"execute": "query-chardev"}{"execute": "x-exit-preconfig"}'
    device = f"unix:{tmp_path}/gdb.sock,server=on,wait=off"
    ended = run(*options, device, text=talk + '{"execute": "query-chardev"}{"execute": "quit"}')
    lists = [json.loads(line)["return"] for line in ended.stdout.splitlines() if "compat_monitor0" in line]
    assert [len(each) for each in lists] == [1, 3]
    ended = run(*options, missing, text=talk)
    assert ended.returncode == 1
    assert "Failed to bind socket to" in ended.stderr


@pytest.mark.parametrize("release", ["7.2", "10.0"])
def test_a_path_that_cannot_be_bound(tmp_path: Path, release: str) -> None:
    device = f"unix:{tmp_path}/missing/gdb.sock,server=on,wait=off"
    ended = run(*QUIET, "-gdb", device, release=release)
    assert ended.returncode == 1
    begin = f"qmpd-system-x86_64: -gdb {device}: "
    reasons = [f"Failed to bind socket to {tmp_path}/missing/gdb.sock: No such file or directory"]
    reasons += ["gdbstub: couldn't create chardev"] if release == "10.0" else []
    assert ended.stderr.splitlines() == [begin + reason for reason in reasons]


@pytest.mark.parametrize(
    ("model", "version"), [("Haswell", "c4060300"), ("486", "80040000"), ("EPYC", "120f8000"), ("qemu64", "b10f0600")]
)
def test_the_cpu_says_what_it_is(tmp_path: Path, model: str, version: str) -> None:
    path = tmp_path / "gdb.sock"
    with running(*QUIET, "-cpu", model, "-gdb", f"unix:{path},server=on,wait=off"):
        debugger = Debugger(path)
        assert debugger.ask("g")[48:56] == version
        debugger.close()
