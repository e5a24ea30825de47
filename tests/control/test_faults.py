"""Each fault as a client sees it; after each, a new client is served normally."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.machine import GuestSettings
from tests.control.support import Control, Played, Refused, played

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.support import Client

NAME = b'{"execute": "query-name", "id": 1}'
REPLY = b'{"return": {}, "id": 1}'


async def silent(client: Client) -> bool:
    """Whether the client hears nothing, for a short while."""
    with trio.move_on_after(0.03) as scope:
        client.buffer += await client.stream.receive_some()
    return scope.cancelled_caught


async def rest(client: Client) -> bytes:
    """All that comes until the server closes."""
    data = client.buffer
    with trio.fail_after(5):
        while True:
            try:
                more = await client.stream.receive_some()
            except trio.BrokenResourceError:
                return data
            if not more:
                return data
            data += more


async def both(machine: Played) -> tuple[Control, Client]:
    return await machine.control(), await machine.connect()


async def test_a_delayed_reply(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        other = await machine.connect()
        await control("fault-delay-reply", time="5s", command="stop", count=1)
        await client.send(b'{"execute": "stop", "id": 1}' + NAME)
        event = await client.message()
        assert event["event"] == "STOP"  # it is executed at once
        assert await silent(client)  # and the client's next command waits behind it
        assert (await other.message())["event"] == "STOP"
        assert await other.ask(NAME) == REPLY
        assert await control("query-faults") == [{"id": 1, "fault": "delay-reply", "command": "stop", "count": 0}]
        await control("clock-advance", time="4999ms")
        assert await silent(client)
        await control("clock-advance", time="1ms")
        assert [await client.line(), await client.line()] == [REPLY, REPLY]
        assert await control("query-faults") == []
        await machine.healthy()


async def test_a_delayed_reply_is_let_go_when_the_fault_is_cleared(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        fault = await control("fault-delay-reply", time="5s")
        await client.send(NAME * 2)
        await control("clock-advance", time="1s")
        assert await silent(client)
        await control("fault-clear", id=fault["id"])
        assert [await client.line(), await client.line()] == [REPLY, REPLY]
        with pytest.raises(Refused, match=f"there is no fault {fault['id']}"):
            await control("fault-clear", id=fault["id"])
        await machine.healthy()


async def test_a_client_that_half_closes_gets_its_delayed_reply(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-delay-reply", time="5s", count=1)
        await client.send(NAME)
        await client.stream.send_eof()
        await control("clock-advance", time="1s")
        await control("clock-advance", time="4s")
        assert await client.line() == REPLY
        assert await client.line() is None


@pytest.mark.parametrize(
    ("when", "seen"),
    [("before-reply", b""), ("within-reply", REPLY[:12]), ("after-reply", REPLY + b"\r\n")],
)
async def test_a_dropped_connection(tmp_path: Path, when: str, seen: bytes) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        bystander = await machine.connect()
        await control("fault-drop-connection", when=when, command="query-name", count=1)
        assert await client.ask(b'{"execute": "query-status"}')  # another command is not affected
        await client.send(NAME + NAME)
        assert await rest(client) == seen
        assert await bystander.ask(NAME) == REPLY
        await machine.healthy()


async def test_the_events_before_a_dropped_reply_arrive(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings()) as machine:
        control, client = await both(machine)
        await control("fault-drop-connection", command="stop", count=1)
        await client.send(b'{"execute": "stop"}')
        assert b'"event": "STOP"' in await rest(client)
        assert (await control("query-guest"))["run-state"] == "paused"


async def test_faults_of_one_client(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, first = await both(machine)
        second = await machine.connect()
        await control("fault-drop-connection", client=2)
        assert await first.ask(NAME) == REPLY
        await second.send(NAME)
        assert await rest(second) == b""
        assert await control("query-faults") == [
            {"id": 1, "fault": "drop-connection", "client": 2, "when": "before-reply"}
        ]


async def test_faults_go_on_until_they_are_cleared(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        await control("fault-drop-connection", command="qmp_capabilities", when="after-reply")
        for _ in range(3):
            client = await machine.connect()
            assert await rest(client) == b""
        await control("fault-clear")
        await machine.healthy()


async def test_half_a_message_then_nothing(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-stall", count=1)
        await client.send(NAME)
        assert not await silent(client)
        assert client.buffer == REPLY[:12]
        await client.send(b'{"execute": "stop", "id": 1}')
        assert await silent(client)  # not even an event
        assert (await control("query-faults"))[0]["count"] == 0
        await machine.healthy()
        await control("fault-clear")
        assert await client.line() == REPLY
        assert (await client.message())["event"] == "STOP"
        assert await client.line() == REPLY


async def test_a_stall_that_passes(tmp_path: Path) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        control, client = await both(machine)
        await control("fault-stall", count=1, time="30s")
        await client.send(NAME)
        assert await control("clock-run-until-quiet") == {"quiet": True, "advanced": 30, "timers": 1}
        assert await client.line() == REPLY
        assert await control("query-faults") == []


@pytest.mark.parametrize(
    ("when", "seen"),
    [
        ("before-reply", b"\x00\xff!" + REPLY + b"\r\n"),
        ("instead-of-reply", b"\x00\xff!"),
        ("after-reply", REPLY + b"\r\n\x00\xff!"),
    ],
)
async def test_garbage_around_a_reply(tmp_path: Path, when: str, seen: bytes) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-garbage", when=when, data="\x00\xff!", count=1)
        await client.send(NAME)
        await client.stream.send_eof()
        assert await rest(client) == seen
        await machine.healthy()


async def test_garbage_at_once(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-garbage", when="now", client=1)
        assert await client.line() == b"\x00\xff\xfe}]{{ not JSON"
        assert await client.ask(NAME) == REPLY
        attempts: list[tuple[dict[str, Any], str]] = [
            ({"when": "now", "client": 7}, "there is no client 7"),
            ({"when": "now", "count": 2}, "are for garbage that waits for a reply"),
            ({"data": "\u0100"}, "characters beyond"),
        ]
        for arguments, message in attempts:
            with pytest.raises(Refused, match=message):
                await control("fault-garbage", **arguments)


async def test_an_event_before_the_greeting(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        await control("fault-early-event", event="DEVICE_DELETED", data={"path": "/x"}, count=1)
        client = await machine.connect(greeting=False)
        event = await client.message()
        assert (event["event"], event["data"]) == ("DEVICE_DELETED", {"path": "/x"})
        await client.negotiate()
        await machine.healthy()
        with pytest.raises(Refused, match="'path' is a required property"):
            await control("fault-early-event", event="DEVICE_DELETED", data={})


async def test_connections_that_are_closed_at_once(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        await control("fault-close-connections", count=2)
        for _ in range(2):
            client = await machine.connect(greeting=False)
            assert await rest(client) == b""
        await machine.healthy()


async def test_refused_connections(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-refuse-connections", time="1m")
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await trio.open_unix_socket(machine.path)
        assert await client.ask(NAME) == REPLY  # who is connected stays so
        await (await machine.control())("query-faults")  # the control socket is never refused
        await control("clock-advance", time="1m")
        await machine.healthy()
        await control("fault-refuse-connections")
        with pytest.raises(ConnectionRefusedError):
            await trio.open_unix_socket(machine.path)
        await control("fault-clear")
        await machine.healthy()


async def test_a_monitor_for_one_client_listens_again_while_that_is_there(tmp_path: Path) -> None:
    async with played(tmp_path, exclusive=True) as machine:
        control, client = await both(machine)
        for _ in range(2):
            await control("fault-refuse-connections")
            await control("fault-clear")
            waiting = await machine.connect(greeting=False)
            assert await silent(waiting), "one client at a time"
            await waiting.stream.aclose()
        waiting = await machine.connect(greeting=False)
        assert await client.ask(NAME) == REPLY
        await client.stream.aclose()
        await waiting.negotiate()
        another = await machine.connect(greeting=False)
        assert await silent(another)
        assert await waiting.ask(NAME) == REPLY


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-exhaust-descriptors")
        waiting = await machine.connect(greeting=False)
        assert await silent(waiting)
        assert await client.ask(NAME) == REPLY
        await control("fault-clear")
        await waiting.negotiate()
        await machine.healthy()


async def test_a_main_loop_that_hangs(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=1_000_000_000)) as machine:
        control = await machine.control()
        client = await machine.connect(greeting=False)
        await client.line()
        await client.ask(b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}')
        await control("fault-hang-main-loop", time="1m")
        await client.send(NAME)
        assert await silent(client)
        assert await client.ask(b'{"exec-oob": "query-yank", "id": 2}') == (
            b'{"return": [{"type": "chardev", "id": "compat_monitor0"}], "id": 2}'
        )
        late = await machine.connect(greeting=False)
        assert b"QMP" in (await late.line() or b"")
        await late.send(b'{"execute": "qmp_capabilities"}')
        assert await silent(late)
        await control("clock-advance", time="59s")  # timers do not run either
        assert (await control("query-guest"))["phase"] == "firmware"
        await control("clock-advance", time="1s")
        assert await client.line() == REPLY
        assert await late.line() == b'{"return": {}}'
        await control("clock-advance", time="1s")
        assert (await control("query-guest"))["phase"] != "firmware"
        await machine.healthy()


async def test_a_main_loop_that_hangs_in_a_command(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-hang-main-loop", command="stop", count=1)
        assert await client.ask(NAME) == REPLY
        await client.send(b'{"execute": "stop", "id": 1}')
        assert await silent(client)
        assert [fault["fault"] for fault in await control("query-faults")] == ["hang-main-loop"]
        await control("fault-clear")
        assert (await client.message())["event"] == "STOP"
        assert await client.line() == REPLY
        await machine.healthy()


async def test_a_killed_machine(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-kill", signal=6)
        assert await rest(client) == b""  # no SHUTDOWN
        assert await machine.end() == -6
        assert os.path.exists(machine.path)
        with pytest.raises(ConnectionRefusedError):
            await trio.open_unix_socket(machine.path)


async def test_a_machine_that_dies_of_a_command(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await both(machine)
        await control("fault-kill", command="quit")
        assert await client.ask(NAME) == REPLY
        await client.send(b'{"execute": "quit"}')
        assert await rest(client) == b""
        assert await machine.end() == -9


def test_a_killed_process(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    command = [sys.executable, "-m", "qmpd.cli.main", "serve", "-machine", "none", "--socket", str(tmp_path / "qmp"),
               "-pidfile", str(tmp_path / "pid"), "-control", f"unix:{path}"]
    code = f"import sys; from qmpd.cli.main import main; sys.exit(main({command[3:]!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"listens" in process.stdout.readline()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(path)
            client.sendall(b'{"execute": "qmp_capabilities"}{"execute": "fault-kill"}')
            lines = client.makefile("rb").readlines()
        assert b'"fault": "kill"' in lines[2]
        assert process.wait(10) == -signal.SIGKILL
    assert {"qmp", "pid", "control.sock"} <= set(os.listdir(tmp_path))


async def test_a_real_client_sees_the_faults(tmp_path: Path) -> None:
    """The qemu.qmp client: what it makes of an early event, of garbage and of a dropped connection."""
    script = (
        "import asyncio, sys, logging\n"
        "logging.disable()\n"
        "from qemu.qmp import QMPClient\n"
        "async def attempt():\n"
        "    client = QMPClient('test')\n"
        "    try:\n"
        "        await client.connect(sys.argv[1])\n"
        "        await client.execute('query-name')\n"
        "        print('fine')\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__)\n"
        "    finally:\n"
        "        try:\n"
        "            await client.disconnect()\n"
        "        except Exception:\n"
        "            pass\n"
        "async def main():\n"
        "    for _ in range(4):\n"
        "        await attempt()\n"
        "asyncio.run(main())\n"
    )
    async with played(tmp_path) as machine:
        control = await machine.control()
        await control("fault-early-event", count=1)
        await control("fault-garbage", command="query-name", count=1)
        await control("fault-drop-connection", command="query-name", count=1)
        with trio.fail_after(20):
            result = await trio.run_process([sys.executable, "-c", script, machine.path], capture_stdout=True)
        early, garbage, dropped, fine = result.stdout.decode().split()
        assert "fine" not in (early, garbage, dropped)
        assert early == "ConnectError"
        assert fine == "fine"


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        attempts: list[tuple[str, dict[str, Any], str]] = [
            ("fault-drop-connection", {"count": 0}, "'count' is a positive number"),
            ("fault-delay-reply", {"time": "soon"}, "'soon' is not a time"),
            ("fault-kill", {"signal": 0}, "'signal' is a number from 1 to 64"),
            ("fault-clear", {"id": 3}, "there is no fault 3"),
            ("fault-hang-main-loop", {"time": -1}, "is not a time"),
        ]
        for command, arguments, message in attempts:
            with pytest.raises(Refused, match=message):
                await control(command, **arguments)
        assert await control("query-faults") == []


async def test_a_machine_that_waits_for_its_first_client_can_be_killed(tmp_path: Path) -> None:
    async with played(tmp_path, wait=True) as machine:
        control = await machine.control()
        await control("fault-kill", signal=9)
        assert await machine.end() == -9
