"""How orchestrators talk to a guest: Proxmox by its agent, Incus by a ring buffer, QEMU's own `qemu-ga-client`.

What they send was read in their sources; each is played here, beside the real programs where they are installed.
`$QEMU_SOURCE` is where QEMU's sources are, with `qemu-ga-client` in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qemu.qmp.legacy import QEMUMonitorProtocol

from qmpd.testing import start
from tests.emulator.support import PROGRAM, connect, environment
from tests.guest.test_agent import machine
from tests.real_qemu import programs
from tests.testing.client import Client
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.testing import VM

AGENT = shutil.which("qemu-ga", path="/usr/sbin:/usr/bin:/usr/local/bin")
CLIENT = Path(os.environ.get("QEMU_SOURCE", "/nonexistent")) / "python/qemu/utils/qemu_ga_client.py"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "guests" / "incus.toml"
BOTH = re.compile(rb".*\xff([^\n]+}\r?\n[^\n]+})\r?\n", re.DOTALL)
"""The reply to a synchronisation, and the one to the command behind it."""


class Proxmox:
    """Its client: a connection for each command, and before it a synchronisation with a number that grows."""

    number = 100

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, command: str, timeout: float = 5.0, **arguments: object) -> Any:
        """What a command returns.

        :raise TimeoutError: nothing comes.
        :raise EOFError: the connection ends.
        """
        self.number += 1
        lines = [("guest-sync-delimited", {"id": self.number}), (command, arguments)]
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout)
            client.connect(str(self.path))
            client.sendall(b"".join(json.dumps({"execute": n, "arguments": a}).encode() + b"\n" for n, a in lines))
            came = b""
            while True:
                if (found := BOTH.match(came)) is not None:
                    number, reply = map(json.loads, found[1].splitlines())
                    # Those of commands that were given up are passed over.
                    if number["return"] == self.number:
                        return reply.get("return", reply.get("error"))
                    came = came[found.end() :]
                if not (data := client.recv(1 << 16)):
                    raise EOFError
                came += data


def test_proxmox_polls(tmp_path: Path) -> None:
    with machine(tmp_path, "agent-reply-delay=2s") as vm:
        vm.clock.advance(1)
        ask = Proxmox(tmp_path / "qga.sock")
        # Nobody answers in time, and the connection is given up.
        for _ in range(2):
            with pytest.raises(TimeoutError):
                ask("guest-ping", timeout=0.1)
        vm.guest.set(agent_reply_delay=0)
        vm.clock.advance(20)
        assert ask("guest-ping") == {}
        (card,) = [each for each in ask("guest-network-get-interfaces") if each["name"] != "lo"]
        assert card["hardware-address"] == "52:54:00:12:34:56"
        assert ask("guest-fsfreeze-status") == "thawed"
        assert ask("guest-fsfreeze-freeze") == 1
        assert ask("guest-ping") == {}
        assert "has been disabled" in ask("guest-get-osinfo")["desc"]
        assert ask("guest-fsfreeze-thaw") == 1
        # It tells of success by saying nothing, and the machine is gone.
        with pytest.raises(EOFError):
            ask("guest-shutdown")
        vm.wait_for_event("SHUTDOWN")


@pytest.fixture
def real_agent(tmp_path: Path) -> Iterator[Path]:
    if AGENT is None:
        pytest.skip("no qemu-ga here")
    path = tmp_path / "real.sock"
    process = subprocess.Popen([AGENT, "-m", "unix-listen", "-p", path, "-t", tmp_path, "-f", tmp_path / "pid"])
    try:
        wait_until(path.exists)
        yield path
    finally:
        process.terminate()
        process.wait(10)


def test_proxmox_polls_the_real_agent(real_agent: Path) -> None:
    ask = Proxmox(real_agent)
    assert ask("guest-ping") == {}
    assert ask("guest-fsfreeze-status") == "thawed"
    assert {"name", "statistics"} <= ask("guest-network-get-interfaces")[0].keys()


class LegacyClient(QEMUMonitorProtocol):
    """QEMU's synchronous Python client, as its scripts use it: without a greeting, and without negotiation."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.connect(negotiate=False)
        self.settimeout(5)


@pytest.fixture
def event_loop_of_its_own() -> Iterator[None]:
    """The client makes an event loop where there is none, and closes none."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("event_loop_of_its_own")
def test_qemus_python_client_talks_to_an_agent(tmp_path: Path) -> None:
    with machine(tmp_path) as vm:
        vm.clock.advance(1)
        with contextlib.closing(LegacyClient(tmp_path / "qga.sock")) as client:
            assert client.cmd("guest-ping") == {}
            assert client.cmd("guest-sync", id=1234) == 1234
            handle = client.cmd("guest-file-open", path="/etc/hostname")
            read = client.cmd("guest-file-read", handle=handle, count=1024)
            assert isinstance(read, dict)
            assert read["eof"] is True


@pytest.mark.skipif(not CLIENT.is_file(), reason="$QEMU_SOURCE has no qemu-ga-client")
class TestQemuGaClient:
    """Each of its subcommands, at a machine's port and at an agent by itself."""

    def ask(self, path: Path, *words: str) -> tuple[str, int]:
        """What it prints, of a failure the last line, and how it ends."""
        command = [sys.executable, str(CLIENT), "--address", str(path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        said = (done.stdout or done.stderr.splitlines()[-1]) if done.returncode else done.stdout
        return said.strip(), done.returncode

    def check(self, path: Path) -> None:
        assert self.ask(path, "ping") == ("", 0)
        assert self.ask(path, "info")[0].startswith("version: ")
        assert self.ask(path, "cat", "/etc/hostname") == (r"b'localhost\n'", 0)
        said, status = self.ask(path, "cat", "/nothing")
        assert said.endswith("failed to open file '/nothing' (mode: 'r'): No such file or directory")
        assert status == 1
        assert "\tether 52:54:00:12:34:56" in self.ask(path, "ifconfig")[0]
        for words, answer in {
            "status": "thawed", "freeze": "1 filesystems frozen", "thaw": "1 filesystems thawed"
        }.items():
            assert self.ask(path, "fsfreeze", words) == (answer, 0)
        assert self.ask(path, "fstrim")[0].startswith("{'paths': [{")

    def test_at_a_machines_port(self, tmp_path: Path) -> None:
        with machine(tmp_path, "boot-time=1s", "10.0") as vm:
            vm.clock.advance(3)
            path = tmp_path / "qga.sock"
            self.check(path)
            self.power(vm, path, "suspend", "ram", event="SUSPEND")
            for words, event in {("reboot",): "RESET", ("powerdown",): "SHUTDOWN"}.items():
                self.power(vm, path, *words, event=event)

    def test_the_machine_is_off_afterwards(self, tmp_path: Path) -> None:
        with machine(tmp_path) as vm:
            vm.clock.advance(3)
            self.power(vm, tmp_path / "qga.sock", "suspend", "disk", event="SUSPEND_DISK")
            vm.wait_for_event("SHUTDOWN")

    def power(self, vm: VM, path: Path, *words: str, event: str) -> None:
        command = [sys.executable, str(CLIENT), "--address", str(path), *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        vm.wait_for_event(event)
        process.kill()
        process.wait()
        if event == "SUSPEND":
            with Client(vm.qmp_path) as qmp:
                qmp.execute("system_wakeup")
        if event in ("SUSPEND", "RESET"):
            vm.clock.advance(5)

    def test_at_an_agent_by_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "own.sock"
        command = [sys.executable, "-m", "qmpd", "agent", "--socket", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(path.exists)
            self.check(path)
        finally:
            process.terminate()
            process.wait(10)


class Incus:
    """Its monitor: numbers for ids, and after each event a look at the agent's ring buffer."""

    def __init__(self, program: list[str], release: str, folder: Path) -> None:
        self.path = folder / "incus.sock"
        line = [
            "-S", "-nodefaults", "-display", "none", "-qmp", f"unix:{self.path},server=on,wait=off",
            "-chardev", "ringbuf,id=qemu_serial-chardev,size=16B", "-device", "virtio-serial-pci,id=dev-qemu_serial",
            "-device",
            "virtserialport,chardev=qemu_serial-chardev,name=org.linuxcontainers.incus,bus=dev-qemu_serial.0,id=port",
        ]  # fmt: skip
        self.process = subprocess.Popen([*program, *line], env=environment(release), stderr=subprocess.DEVNULL)
        self.said: list[Any] = []
        self.number = 0
        self.client = connect(self.path)
        self.file = self.client.makefile("rwb")
        self.said.append(list(json.loads(self.file.readline())))
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: object) -> None:
        self.number += 1
        message = {"execute": command, "id": self.number, **({"arguments": arguments} if arguments else {})}
        self.file.write(json.dumps(message).encode() + b"\n")
        self.file.flush()
        while self.line().get("id") != self.number:
            pass

    def line(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.file.readline())
        self.said.append({name: value for name, value in message.items() if name != "timestamp"})
        return message

    def look(self) -> None:
        self.run("ringbuf-read", device="qemu_serial-chardev", size=16, format="utf8")

    def guest(self, text: str) -> None:
        """What the agent in the guest writes; here by another way, so that none is needed."""
        self.run("ringbuf-write", device="qemu_serial-chardev", data=text)

    def end(self) -> None:
        self.file.close()
        self.client.close()
        self.process.kill()
        self.process.wait()


def a_life_under_incus(program: list[str], release: str, folder: Path) -> list[Any]:
    incus = Incus(program, release, folder)
    try:
        incus.run("query-version")
        incus.look()
        incus.run("query-cpus-fast") if release != "5.2" else None
        incus.run("cont")
        incus.guest("STARTED\n")
        incus.look()
        incus.look()
        # More than it holds: the end counts.
        for _ in range(3):
            incus.guest("STOPPED\n")
        incus.guest("STARTED\n")
        incus.look()
        incus.run("ringbuf-read", device="nothing", size=16, format="utf8")
        incus.run("ringbuf-read", device="qemu_serial-chardev", size=0)
        incus.run("query-status")
        incus.look()
        incus.run("system_powerdown")
        incus.look()
        incus.guest("STOPPED\n")
        incus.look()
        incus.run("query-version")
        incus.run("stop")
        incus.run("quit")
        assert incus.process.wait(10) == 0
    finally:
        incus.end()
    told = [each for each in incus.said if not (isinstance(each, dict) and each.get("event") == "RESET")]
    return [None if "cpu-index" in str(each) else each for each in told]


@pytest.mark.parametrize("release", [each for each in programs() if each in ("7.2", "10.0")])
def test_incus_hears_what_it_hears_of_qemu(release: str, tmp_path: Path) -> None:
    folders = [tmp_path / "ours", tmp_path / "real"]
    for folder in folders:
        folder.mkdir()
    command = programs()[release]
    if len(command) > 1:
        pytest.skip("it sees other folders")
    assert a_life_under_incus(PROGRAM, release, folders[0]) == a_life_under_incus(command, release, folders[1])


def test_incus_hears_of_its_agent() -> None:
    """The guest of the documentation's example says on its port what Incus waits for."""
    line = [
        "-machine", "pc", "-nodefaults", "-display", "none", "-chardev", "ringbuf,id=qemu_serial-chardev,size=16",
        "-device", "virtio-serial-pci",
        "-device", "virtserialport,chardev=qemu_serial-chardev,name=org.linuxcontainers.incus",
    ]  # fmt: skip
    with (
        start(command_line=line, clock="virtual", guest=f"script={EXAMPLE}", release="10.0") as vm,
        Client(vm.qmp_path) as qmp,
    ):

        def look() -> object:
            return qmp.execute("ringbuf-read", device="qemu_serial-chardev", size=16, format="utf8")

        assert look() == ""
        vm.clock.advance(4)
        assert look() == "STARTED\n"
        assert look() == ""
        qmp.execute("system_powerdown")
        assert look() == "STOPPED\n"
        vm.clock.advance(3)
        vm.wait_for_event("SHUTDOWN")
