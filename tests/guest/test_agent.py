"""A guest's agent, as a client of its port finds it: in a machine, under virtual time."""

from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any, Self

import pytest

from qmpd.guest.agent.calls import Call, Ending, printing
from qmpd.testing import start
from tests.testing.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing import VM

class AgentClient:
    """A client of the agent's socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.socket.close()

    def send(self, command: str, **arguments: object) -> None:
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        message = {"execute": command, **({"arguments": given} if given else {})}
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def raw(self, seconds: float = 0.3) -> bytes:
        """What has come; at most that long is waited for it."""
        self.socket.settimeout(seconds)
        try:
            while data := self.socket.recv(1 << 16):
                self.buffer += data
                self.socket.settimeout(0.05)
        except TimeoutError:
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def reply(self) -> Any:
        """The next reply: its value, or the error's text."""
        self.socket.settimeout(5)
        while b"\n" not in self.buffer:
            data = self.socket.recv(1 << 16)
            assert data, "the agent has gone"
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        reply = json.loads(line.removeprefix(b"\xff"))
        return reply["return"] if "return" in reply else reply["error"]["desc"]

    def ask(self, command: str, **arguments: object) -> Any:
        self.send(command, **arguments)
        return self.reply()


CARD = "52:54:00:12:34:56"


def machine(folder: Path, guest: str = "", release: str = "7.2", *, subprocess: bool = False) -> VM:
    """A machine with an agent; its time stands still."""
    pairs = ",".join(filter(None, ("agent=on", guest)))
    line = [
        "-machine", "pc", "-m", "512", "-smp", "2", "-nodefaults", "-display", "none", "-chardev",
        f"socket,id=qga,path={folder}/qga.sock,server=on,wait=off", "-device", "virtio-serial-pci", "-device",
        "virtserialport,chardev=qga,id=port0,name=org.qemu.guest_agent.0", "-netdev", "user,id=n0", "-device",
        "virtio-net-pci,netdev=n0",
    ]  # fmt: skip
    return start(guest=pairs, clock="virtual", release=release, command_line=line)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VM, Path]]:
    folder = tmp_path_factory.mktemp("agent")
    with machine(folder) as vm:
        vm.clock.advance(1)
        yield vm, folder


@pytest.fixture
def vm(shared: tuple[VM, Path]) -> VM:
    return shared[0]


@pytest.fixture
def agent(shared: tuple[VM, Path]) -> Iterator[AgentClient]:
    with AgentClient(shared[1] / "qga.sock") as client:
        yield client


def test_nobody_answers_before_the_agent_is_there(tmp_path: Path) -> None:
    with machine(tmp_path, "boot-time=10s,agent-boot-time=5s") as vm, AgentClient(tmp_path / "qga.sock") as client:
        client.send("guest-sync", id=7)
        assert client.raw() == b""
        vm.clock.advance(14)
        assert vm.agent.query().state == "starting"
        assert client.raw() == b""
        vm.clock.advance(2)
        # What was written early comes late, as through virtio-serial.
        assert client.reply() == 7
        assert client.ask("guest-sync", id=8) == 8
        vm.wait_for_event("VSERPORT_CHANGE", data={"id": "port0", "open": True})


def test_early_bytes_can_be_lost(tmp_path: Path) -> None:
    with machine(tmp_path, "boot-time=10s,agent-early-lost=on") as vm:
        with AgentClient(tmp_path / "qga.sock") as client:
            client.send("guest-sync", id=7)
            assert client.raw() == b""
            vm.clock.advance(11)
            assert client.ask("guest-sync", id=8) == 8


def test_a_stopped_guest_answers_once_it_goes_on(vm: VM, agent: AgentClient) -> None:
    with Client(vm.qmp_path) as qmp:
        qmp.execute("stop")
        agent.send("guest-ping")
        assert agent.raw() == b""
        qmp.execute("cont")
        vm.clock.advance(0.001)
        assert agent.reply() == {}


def test_what_a_program_does_is_scripted(vm: VM, agent: AgentClient) -> None:
    vm.agent.execute("/usr/local/bin/backup", status=3, out="done\n", err="late\n", takes="90s")
    process = agent.ask("guest-exec", path="/usr/local/bin/backup", capture_output=True)["pid"]
    assert agent.ask("guest-exec-status", pid=process) == {"exited": False}
    vm.clock.advance(89)
    assert agent.ask("guest-exec-status", pid=process) == {"exited": False}
    vm.clock.advance(1)
    ended = agent.ask("guest-exec-status", pid=process)
    assert (ended["exitcode"], base64.b64decode(ended["out-data"]), base64.b64decode(ended["err-data"])) == (
        3, b"done\n", b"late\n",
    )  # fmt: skip
    assert agent.ask("guest-exec-status", pid=process) == "Invalid parameter 'pid'"


def test_a_program_can_be_a_function(vm: VM, agent: AgentClient) -> None:
    def double(call: Call) -> Ending:
        return printing(str(2 * int(call.arguments[0])), status=len(call.environment))

    vm.agent_program("/opt/double", double)
    process = agent.ask("guest-exec", path="/opt/double", arg=["21"], env=["A=1"], capture_output=True)["pid"]
    ended = agent.ask("guest-exec-status", pid=process)
    assert (ended["exitcode"], base64.b64decode(ended["out-data"])) == (1, b"42")


def test_files_are_shared_with_whoever_plays(vm: VM, agent: AgentClient) -> None:
    vm.agent.put_file("/var/lib/app/state", "one\n")
    handle = agent.ask("guest-file-open", path="/var/lib/app/state", mode="a+")
    assert base64.b64decode(agent.ask("guest-file-read", handle=handle)["buf-b64"]) == b"one\n"
    agent.ask("guest-file-write", handle=handle, buf_b64=base64.b64encode(b"two\n").decode())
    agent.ask("guest-file-close", handle=handle)
    assert vm.agent.query_file("/var/lib/app/state").content == "one\ntwo\n"


def test_what_is_frozen_refuses_all_but_a_few_commands(vm: VM, agent: AgentClient) -> None:
    assert agent.ask("guest-fsfreeze-freeze") == 1
    assert agent.ask("guest-fsfreeze-status") == "frozen"
    refusal = "Command guest-get-time has been disabled: the agent is in frozen state"
    assert agent.ask("guest-get-time") == refusal
    enabled = [each["name"] for each in agent.ask("guest-info")["supported_commands"] if each["enabled"]]
    assert len(enabled) == 6
    assert vm.agent.query().frozen == ["/"]
    assert agent.ask("guest-fsfreeze-thaw") == 1
    assert isinstance(agent.ask("guest-get-time"), int)


def test_the_guest_has_what_the_machine_has(vm: VM, agent: AgentClient) -> None:
    vm.agent.set_addresses(CARD, ["192.168.7.5/24", "fd00::7/64"])
    card = agent.ask("guest-network-get-interfaces")[1]
    assert card["hardware-address"] == CARD
    assert [(each["ip-address"], each["prefix"]) for each in card["ip-addresses"]] == [
        ("192.168.7.5", 24), ("fd00::7", 64),
    ]  # fmt: skip
    assert [each["logical-id"] for each in agent.ask("guest-get-vcpus")] == [1, 0]
    assert agent.ask("guest-set-vcpus", vcpus=[{"logical-id": 1, "online": False}]) == 1
    assert [each["online"] for each in agent.ask("guest-get-vcpus")] == [False, True]
    assert len(agent.ask("guest-get-memory-blocks")) == 4


def test_a_password_and_keys_reach_the_guest(vm: VM, agent: AgentClient) -> None:
    vm.agent.put_user("ann", logged_in=True)
    word = base64.b64encode(b"secret").decode()
    assert agent.ask("guest-set-user-password", username="ann", password=word, crypted=False) == {}
    assert agent.ask("guest-ssh-add-authorized-keys", username="ann", keys=["ssh-ed25519 AAAA"]) == {}
    user = vm.agent.query_user("ann")
    assert (user.password, user.keys) == ("secret", ["ssh-ed25519 AAAA"])
    assert [each["user"] for each in agent.ask("guest-get-users")] == ["ann"]
    assert agent.ask("guest-set-user-password", username="bob", password=word, crypted=False) == (
        "child process has failed to set user password"
    )


def test_setting_the_time_moves_the_real_time_clock(vm: VM, agent: AgentClient) -> None:
    now = agent.ask("guest-get-time")
    assert agent.ask("guest-set-time", time=now + 3_600_000_000_000) == {}
    assert agent.ask("guest-get-time") == now + 3_600_000_000_000
    event = vm.wait_for_event("RTC_CHANGE")
    assert event.data["offset"] in (3599, 3600)
    assert vm.agent.query().clock_offset == pytest.approx(3600, abs=1)
    # Recorded from the four releases' agents, and from a Linux that runs in QEMU 7.2.
    assert agent.ask("guest-set-time", time=-1) == "Failed to set time to guest: Invalid argument"
    for seconds in (-1, 3_155_760_000):
        assert agent.ask("guest-set-time", time=seconds * 1_000_000_000) == "Invalid time"
    assert vm.agent.query().clock_offset == pytest.approx(3600, abs=1)


@pytest.mark.parametrize(
    ("arguments", "events"),
    [({"mode": "reboot"}, ["RESET"]), ({}, ["SHUTDOWN"]), ({"mode": "powerdown"}, ["SHUTDOWN"])],
)
def test_shutting_down_acts_on_the_machine(tmp_path: Path, arguments: dict[str, str], events: list[str]) -> None:
    with machine(tmp_path) as vm:
        vm.clock.advance(3)  # an event a second tells of the port
        with AgentClient(tmp_path / "qga.sock") as client:
            client.send("guest-shutdown", **arguments)
            # As a Linux in QEMU 7.2 does, which puts its devices away first.
            vm.wait_for_event("VSERPORT_CHANGE", {"open": False})
            for event in events:
                vm.wait_for_event(event)
            if events == ["RESET"]:
                vm.clock.advance(1)
                assert client.ask("guest-ping") == {}


def test_sleep_and_the_agent_after_it(tmp_path: Path) -> None:
    with machine(tmp_path, release="10.0") as vm, Client(vm.qmp_path) as qmp:
        vm.clock.advance(3)  # an event a second tells of the port
        with AgentClient(tmp_path / "qga.sock") as client:
            client.send("guest-suspend-ram")
            vm.wait_for_event("VSERPORT_CHANGE", {"open": False})
            vm.wait_for_event("SUSPEND")
            client.send("guest-ping")
            assert client.raw() == b""
            vm.clock.advance(1)
            qmp.execute("system_wakeup")
            vm.clock.advance(1)
            assert client.reply() == {}
            vm.wait_for_event("VSERPORT_CHANGE", {"open": True})


FAULTS = ["deaf", "deaf-after-reset", "deaf-after-freeze", "garbage", "half-reply", "close-in-exec"]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path: Path, fault: str) -> None:
    with machine(tmp_path, f"agent-fault={fault}") as vm, Client(vm.qmp_path) as qmp:
        vm.clock.advance(1)
        with AgentClient(tmp_path / "qga.sock") as client:
            if fault == "deaf":
                client.send("guest-ping")
                assert client.raw() == b""
            elif fault == "deaf-after-reset":
                assert client.ask("guest-ping") == {}
                qmp.execute("system_reset")
                vm.clock.advance(1)
                client.send("guest-ping")
                assert client.raw() == b""
            elif fault == "deaf-after-freeze":
                assert client.ask("guest-fsfreeze-freeze") == 1
                client.send("guest-fsfreeze-thaw")
                assert client.raw() == b""
            elif fault == "garbage":
                client.send("guest-ping")
                heard = client.raw()
                assert heard.endswith(b'{"return": {}}\n')
                assert not heard.startswith(b"{")
            elif fault == "half-reply":
                client.send("guest-ping")
                assert client.raw() == b'{"retur'
            else:
                client.send("guest-exec", path="/bin/true")
                vm.wait_for_event("VSERPORT_CHANGE", data={"open": False})
                assert client.raw() == b""
            vm.guest.set(agent_fault="none")
            if fault.startswith("deaf-after"):
                return  # it is deaf until it is started again
            vm.clock.advance(1)
            assert client.ask("guest-sync-delimited", id=9) == 9


def test_it_can_be_taken_away_and_given_back(tmp_path: Path) -> None:
    with machine(tmp_path) as vm:
        vm.clock.advance(1)
        with AgentClient(tmp_path / "qga.sock") as client:
            assert client.ask("guest-ping") == {}
            vm.guest.set(agent=False)
            vm.wait_for_event("VSERPORT_CHANGE", data={"open": False})
            assert vm.agent.query().state == "closed"
            client.send("guest-sync", id=1)
            assert client.raw() == b""
            vm.guest.set(agent=True)
            vm.clock.advance(1)
            assert client.reply() == 1


def test_a_slow_agent_takes_its_time(tmp_path: Path) -> None:
    with machine(tmp_path, "agent-reply-delay=10s") as vm:
        vm.clock.advance(1)
        with AgentClient(tmp_path / "qga.sock") as client:
            client.send("guest-sync", id=1)
            client.send("guest-sync", id=2)
            assert client.raw() == b""
            vm.clock.advance(9)
            assert client.raw() == b""
            vm.clock.advance(1)
            assert client.reply() == 1
            vm.clock.advance(10)
            assert client.reply() == 2


def test_a_client_that_does_not_read_costs_nobody_anything(tmp_path: Path) -> None:
    with machine(tmp_path) as vm, Client(vm.qmp_path) as qmp:
        vm.clock.advance(1)
        with AgentClient(tmp_path / "qga.sock") as client:
            client.socket.setblocking(False)
            blocked = 0
            while blocked < 50:
                try:
                    client.socket.send(b'{"execute": "guest-info"}\n' * 1000)
                except BlockingIOError:
                    assert qmp.execute("query-status")["running"]
                    blocked += 1
            assert qmp.execute("query-status")["running"]
