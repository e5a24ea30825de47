"""Guests that a file describes: what they print, what they answer, and what is wrong with such a file."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tomllib
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from jsonschema import Draft202012Validator

from qmpd.control.guest_options import parse
from qmpd.machine import GuestSettings
from tests.block.support import Monitor
from tests.control.support import Refused, played
from tests.control.test_hot_plug import begin
from tests.emulator.support import PROGRAM, QUIET, connect, environment
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "guests"
SCHEMA = Path(__file__).parents[2] / "schemas" / "guest-script.json"


def heard(client: socket.socket, until: bytes) -> bytes:
    """What comes from a device until it ends so."""
    client.settimeout(15)
    came = b""
    while not came.endswith(until):
        data = client.recv(1 << 16)
        assert data, came
        came += data
    return came


@contextmanager
def guest(folder: Path, script: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The drop-in program with such a guest, which is stopped; the monitor is `m`."""
    line = ["-machine", "pc", *QUIET, *options, "-qmp", f"unix:{folder}/q,server=on,wait=off"]
    program = subprocess.Popen([*PROGRAM, *line], cwd=folder, env=environment(options=f"-guest script={script}"))
    try:
        yield program
    finally:
        program.terminate()
        program.wait(10)


def go(folder: Path) -> None:
    """Let it run, once it has seen all clients: who is not there by then misses what it says."""
    connect(folder / "q").close()
    with closing(Monitor(str(folder / "q"))) as monitor:
        wait_until(lambda: "disconnected:" not in json.dumps(monitor("query-chardev")))
        assert monitor("cont") == {"return": {}}


def _socket(name: str) -> tuple[str, str]:
    return "-chardev", f"socket,id={name},path={name},server=on,wait=off"


def test_a_login_and_a_shell(tmp_path: Path) -> None:
    ports = ["-device", "virtio-serial-pci", *_socket("hvc1"), "-device", "virtconsole,chardev=hvc1"]
    with guest(tmp_path, EXAMPLES / "autopkgtest.toml", "-serial", "unix:ttyS0,server=on,wait=off", *ports):
        terminal, shell = connect(tmp_path / "ttyS0"), connect(tmp_path / "hvc1")
        go(tmp_path)
        assert heard(terminal, b" login: ").startswith(b"Debian")
        assert heard(shell, b"# ") == b"# "
        terminal.sendall(b"root\n")
        assert heard(terminal, b"# ") == b"root\r\nroot@host:~# "
        shell.sendall(b"uname -a\ntrue\n")
        assert heard(shell, b"# \r\n# ") == b"\r\n# \r\n# "
        terminal.close()
        shell.close()


def test_a_shell_that_powers_off(tmp_path: Path) -> None:
    ports = ["-device", "virtio-serial-pci", *_socket("shell"), "-device", "virtconsole,chardev=shell"]
    with guest(tmp_path, EXAMPLES / "nixos.toml", *ports) as program:
        shell = connect(tmp_path / "shell")
        go(tmp_path)
        assert heard(shell, b"shell...\n") == b"Spawning backdoor root shell...\n"
        shell.sendall(b"(timeout 900 bash -c true) | (base64 -w 0; echo)\n")
        assert heard(shell, b"\n") == b"\n"
        shell.sendall(b"echo ${PIPESTATUS[0]}\n")
        assert heard(shell, b"\n") == b"0\n"
        shell.sendall(b"poweroff\n")
        assert program.wait(10) == 0
        shell.close()


def test_a_terminal_that_is_shared() -> None:
    line = ["-nodefaults", "-nographic", "-chardev", "stdio,id=consmon,mux=on,signal=off", "-serial", "chardev:consmon"]
    line += ["-mon", "chardev=consmon"]
    told = environment(options=f"-guest script={EXAMPLES / 'debvm.toml'}")
    with subprocess.Popen([*PROGRAM, *line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=told) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        answers = {b"": b" login: ", b"root\n": b"~# ", b"ls\n": b"~# ", b"poweroff\n": b".target\r\n"}
        for typed, until in answers.items():
            program.stdin.write(typed)
            program.stdin.flush()
            said = b""
            while not said.endswith(until):
                data = os.read(program.stdout.fileno(), 1 << 12)
                assert data, said
                said += data
        assert program.wait(10) == 0


def test_a_port_that_is_ready(tmp_path: Path) -> None:
    port = "virtserialport,chardev=ready,name=org.fedoraproject.port.0"
    with guest(tmp_path, EXAMPLES / "podman.toml", "-device", "virtio-serial-pci", *_socket("ready"), "-device", port):
        ready = connect(tmp_path / "ready")
        go(tmp_path)
        assert heard(ready, b"\n") == b"Ready\n"
        ready.close()


def test_the_firmware_starts_from_what_the_human_monitor_says(tmp_path: Path) -> None:
    options = ["-machine", "graphics=off", "-serial", "unix:ttyS0,server=on,wait=off", "-drive", "if=ide,media=cdrom"]
    with guest(tmp_path, EXAMPLES / "podman.toml", *options):
        port = connect(tmp_path / "ttyS0")
        connect(tmp_path / "q").close()
        with closing(Monitor(str(tmp_path / "q"))) as monitor:
            assert monitor.human("boot_set d") == "boot device list now set to d\n"
        go(tmp_path)
        assert heard(port, b"...\r\n").endswith(b"Booting from DVD/CD...\r\n")
        port.close()


@pytest.mark.parametrize("example", sorted(each.name for each in EXAMPLES.glob("*.toml")))
def test_examples_are_what_the_schema_wants(example: str) -> None:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(tomllib.loads((EXAMPLES / example).read_text()))
    assert parse([("script", str(EXAMPLES / example))])["script"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[on]]\nevent='birth'", "on[0].event: 'birth' is not one of"),
        ("[[expect]]\nmatch='('", "missing ), unterminated subpattern"),
        ("[[expect]]\nmatch='x*'", "matches more than nothing"),
        ("[[expect]]\nmatch='(x)'\nsay='\\2'\nexpand=true", "'say': invalid group reference 2"),
        ("[guest]\nscript='other'", "a script has no other"),
        ("[guest]\nboot-tim='1s'", "Invalid parameter 'boot-tim'"),
        ("nonsense", "Expected '=' after a key"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "g.toml").write_text(text)
    with pytest.raises(ValueError, match="Could not open"):
        parse([("script", str(tmp_path / "none.toml"))])
    with pytest.raises(ValueError, match=".*") as caught:
        parse([("script", str(tmp_path / "g.toml"))])
    assert said in str(caught.value)


async def test_a_ring_has_what_the_guest_says(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        client, control = await begin(machine)
        assert await client("chardev-add", id="r", backend={"type": "ringbuf", "data": {}}) == {}
        assert (await control("guest-write", chardev="r", data="hello"))["state"] == "done"
        assert await client("ringbuf-read", device="r", size=99) == "hello"
        with pytest.raises(Refused, match="there is no character device 'none'"):
            await control("guest-write", chardev="none", data="x")
        with pytest.raises(Refused, match="there is no serial port"):
            await control("guest-write", data="x")
        with pytest.raises(Refused, match="'device' is missing"):
            await control("guest-write")
        for wrong in ({"device": "d"}, {"pattern": 1}, {"zeroes": True}):
            with pytest.raises(Refused, match="'pattern' to a disk"):
                await control("guest-write", chardev="r", data="x", **wrong)
        with pytest.raises(Refused, match="'chardev' takes 'data'"):
            await control("guest-write", chardev="r", device="d")
        for pattern in ("", "(", "x*"):
            with pytest.raises(Refused, match="'match'"):
                await control("console-expect", match=pattern)
        for said in ("\\1", "\\g<x>", "\\g<", "\\q"):
            with pytest.raises(Refused, match="'say': "):
                await control("console-expect", match="x", say=said, expand=True)


async def test_ctrl_alt_delete_reboots(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=0)) as machine:
        client, control = await begin(machine)
        keys = [{"type": "qcode", "data": name} for name in ("ctrl", "alt", "delete")]
        assert await client("send-key", keys=keys[:2]) == {}
        assert await client.said() == []
        assert await client("send-key", keys=keys) == {}
        assert ("RESET", {"guest": True, "reason": "guest-reset"}) in await client.said()
        seen = [each.get("step") for each in await control("query-transcript")]
        assert "keys ctrl-alt-delete" in seen


async def test_keys_that_are_held_count_and_those_of_a_machine_that_stands_do_not(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=0)) as machine:
        client, control = await begin(machine)
        keys = [{"type": "qcode", "data": name} for name in ("ctrl", "alt", "delete")]
        assert await client("stop") == {}
        assert await client("send-key", keys=keys) == {}
        assert await client("cont") == {}
        await control("clock-advance", time="1s")
        assert [name for name, _ in await client.said()] == ["STOP", "RESUME"]
        held = [{"type": "key", "data": {"down": True, "key": key}} for key in keys[:2]]
        assert await client("input-send-event", events=held) == {}
        assert await client("send-key", keys=keys[2:]) == {}
        assert ("RESET", {"guest": True, "reason": "guest-reset"}) in await client.said()


async def test_another_script_has_more_for_the_agent(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=0, agent=True)) as machine:
        _, control = await begin(machine)
        (tmp_path / "g.toml").write_text('[agent.files]\n"/etc/motd" = "hello"\n')
        await control("guest-set", script=str(tmp_path / "g.toml"))
        assert (await control("query-agent-file", path="/etc/motd"))["content"] == "hello"


async def test_another_script_takes_the_place_of_the_first(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=0)) as machine:
        client, control = await begin(machine)
        place, script = str(tmp_path / "s"), tmp_path / "g.toml"
        listening = {"addr": {"type": "unix", "data": {"path": place}}, "server": True, "wait": False}
        assert await client("chardev-add", id="c", backend={"type": "socket", "data": listening}) == {}
        peer = await trio.open_unix_socket(place)
        async with peer:
            for word in ("one", "two"):
                script.write_text(f"[[expect]]\nchardev='c'\nmatch='hello'\nsay='{word}'\n")
                await control("guest-set", script=str(script))
                await peer.send_all(b"hello")
                with trio.fail_after(10):
                    assert await peer.receive_some(99) == word.encode()


async def test_what_the_guest_says_is_in_the_log(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        client, control = await begin(machine)
        address = {"type": "unix", "data": {"path": str(tmp_path / "s")}}
        listening = {"addr": address, "server": True, "wait": False}
        kinds: dict[str, dict[str, object]] = {"null": {"logappend": True}, "socket": listening}
        for kind, data in kinds.items():
            log = tmp_path / f"{kind}.log"
            log.write_bytes(b"before ")
            backend = {"type": kind, "data": {**data, "logfile": str(log)}}
            assert await client("chardev-add", id=kind, backend=backend) == {}
            await control("guest-write", chardev=kind, data="after\n")
        for kind, written in (("null", b"before after\n"), ("socket", b"after\n")):
            with trio.fail_after(10):
                while (tmp_path / f"{kind}.log").read_bytes() != written:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.01)


@pytest.mark.parametrize("release", ["7.2", "10.0"])
async def test_events_of_keys_and_pointers_reach_the_guest(tmp_path: Path, release: str) -> None:
    async with played(tmp_path, release=release, guest=GuestSettings(boot_time=0)) as machine:
        client, control = await begin(machine)

        async def send(*events: tuple[str, dict[str, object]]) -> object:
            return await client("input-send-event", events=[{"type": kind, "data": data} for kind, data in events])

        def key(name: str, down: bool) -> tuple[str, dict[str, object]]:
            return "key", {"down": down, "key": {"type": "qcode", "data": name}}

        place = "abs", {"axis": "x", "value": 7}
        refused = {"class": "GenericError", "desc": "Input handler not found for event type abs"}
        assert await send(key("a", True), place) == refused
        assert await client("device_add", driver="virtio-tablet-pci", id="t") == {}
        await send(place, ("btn", {"down": True, "button": "left"}), ("rel", {"axis": "y", "value": -3}))
        await send(key("ctrl", True), key("alt", True), key("alt", False), key("delete", True))
        assert ("RESET", {"guest": True, "reason": "guest-reset"}) not in await client.said()
        await send(key("alt_r", True))
        assert ("RESET", {"guest": True, "reason": "guest-reset"}) in await client.said()
        seen = [each.get("step") for each in await control("query-transcript")]
        for step in ("pointer abs x 7", "pointer btn left True", "pointer rel y -3", "key alt_r down"):
            assert step in seen
        assert "key a down" not in seen


@pytest.mark.parametrize("release", ["7.2", "10.0"])
async def test_the_clock_is_told_of_once_a_second(tmp_path: Path, release: str) -> None:
    async with played(tmp_path, release=release, guest=GuestSettings(boot_time=0)) as machine:
        client, control = await begin(machine)
        before: Any = await client("qom-get", path="/machine", property="rtc-time")
        for offset in (-5, 60, 3600):
            await control("guest-set-clock", offset=offset)
        shown: Any = await client("qom-get", path="/machine", property="rtc-time")
        assert (shown["tm_hour"] - before["tm_hour"]) % 24 == 1
        told = await client.said()
        await control("clock-advance", time="1s")
        told += await client.said()
        assert [data["offset"] for name, data in told if name == "RTC_CHANGE" and isinstance(data, dict)] == [-5, 3600]
