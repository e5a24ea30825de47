"""A process is replaced, and its clients notice nothing."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.devices import needs_pseudo_terminals
from tests.live_update.process import Process, before, child, ended, gone, running, until

PLACES = {"2.x-live-update": (), "7.2": ("-extension", "live-update,reboot-reset,sleep")}


@pytest.mark.parametrize("release", PLACES)
async def test_the_stages_and_what_becomes_of_the_parent(tmp_path: Path, release: str) -> None:
    async with running(tmp_path, *PLACES[release], release=release) as server:
        client, silent = await server.connect(), await server.connect(negotiate=False)
        parent = server.pid
        assert parent == server.process.pid
        assert await client.returned("live-update-query") == {"stage": "none"}
        assert await client.returned("live-update-prepare") == {}
        assert await client.stage() == "father-prepare"
        assert (await client.call("live-update-prepare"))["error"]["desc"] == "A live update is under way"
        assert (await client.call("live-update-commit"))["error"]["desc"] == (
            "There is no child that is ready to take over"
        )
        await client.event("INIT_COMPLETE")
        status = await client.returned("live-update-query")
        assert (status["stage"], server.pid) == ("father-child-ready", parent)
        # Further turns say nothing new.
        await client.returned("system_powerdown")
        assert await client.returned("live-update-commit") == {}
        assert client.events == ["INIT_COMPLETE", "POWERDOWN"]
        assert await client.returned("live-update-query") == {"stage": "none"}
        assert server.pid == status["child"]
        assert await ended(server) == 0
        # Both clients and new ones are served by the child alone.
        assert b"QMP" in (await silent.line() or b"")
        assert await silent.ask(b'{"execute": "qmp_capabilities"}') == b'{"return": {}}'
        assert await (await server.connect()).returned("query-name") == {}
        lock_is_held(server)
        await client.returned("quit")
        assert await silent.at_end()
        await gone(status["child"])
        assert {file.name for file in tmp_path.iterdir()} == {"stderr"}
        assert server.errors.read_text() == ""


def lock_is_held(server: Process) -> None:
    whole = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    with server.pid_file.open("r+b") as file:
        with pytest.raises(BlockingIOError):
            fcntl.fcntl(file.fileno(), fcntl.F_OFD_SETLK, whole)
        assert file.read() == b"%d\n" % server.pid


async def test_every_client_goes_on_where_it_was(tmp_path: Path) -> None:
    pretty = str(tmp_path / "pretty.sock")
    plain = str(tmp_path / "qmp.sock")
    options = ["-qmp", f"unix:{plain},server=on,wait=off", "-qmp-pretty", f"unix:{pretty},server=on,wait=off"]
    async with running(tmp_path, *options, "-extension", "live-update", release="7.2") as server:
        client = await server.connect()
        half = await server.connect()
        escaped = await server.connect()
        out_of_band = await server.connect(negotiate=False)
        spaced = await server.connect(negotiate=False, path=pretty)
        noisy = await server.connect()
        await client.prepare()

        await noisy.send(b"]\n" * 8_000 + b'{"execute": "query-name", "id": "after noise"}')
        await half.send(b'{"execute": "query-na')
        await escaped.send(b'{"execute": "query-name", "id": ["a", {"b": 1.5e3, "c": "\\u00')
        assert b"QMP" in (await out_of_band.line() or b"")
        enabling = b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}'
        assert await out_of_band.reply(enabling) == b'{"return": {}}'
        await client.returned("live-update-commit")

        assert await half.reply(b'me"}') == b'{"return": {}}'
        assert await escaped.reply(b'e9"}]}') == b'{"return": {}, "id": ["a", {"b": 1500, "c": "\\u00E9"}]}'
        yankable = b'{"return": [{"type": "chardev", "id": "compat_monitor0"}, {"type": "chardev", '
        assert yankable in (await out_of_band.reply(b'{"exec-oob": "query-yank"}') or b"")
        assert [await spaced.line() for _ in range(2)] == [b"{", b'    "QMP": {']
        # Garbage takes its time; what of it was read and not taken in is.
        errors = [await noisy.reply() for _ in range(8_000)]
        assert all(b"expecting value" in (error or b"") for error in errors)
        assert await noisy.reply() == b'{"return": {}, "id": "after noise"}'
        # What began before the update and cannot become a message is refused after it.
        await half.send(b'{"execute": ')
        await client.update()
        assert b"JSON parse error, expecting value" in (await half.reply(b"]") or b"")
        assert await half.reply(b'{"execute": "query-name"}') == b'{"return": {}}'


async def test_requests_and_unread_replies_wait_through_the_update(tmp_path: Path) -> None:
    async with running(tmp_path, "-extension", "live-update", release="7.2") as server:
        client, other, slow = await server.connect(), await server.connect(), await server.connect()
        # Megabytes are owed to a client that does not read: in the socket, half written, and not begun.
        numbers = range(60)
        for number in numbers:
            await slow.send(b'{"execute": "query-qmp-schema", "id": %d}' % number)
        await client.prepare()
        commands = [b'{"execute": "query-name", "id": %d}' % number for number in range(2000)]
        commands.insert(1000, b'{"execute": "live-update-commit", "arguments": {"timeout": 20000}, "id": "commit"}')
        commands.insert(1500, b'{"execute": ]')
        await client.send(b"\n".join(commands) + b"\n")
        expected: list[object] = list(range(2000))
        expected.insert(1000, "commit")
        expected.insert(1500, None)
        received = [json.loads(await client.reply() or b"").get("id") for _ in expected]
        # The parser may complain twice of one mistake.
        assert received[:1500] == expected[:1500]
        assert await other.returned("live-update-query") == {"stage": "none"}
        assert await ended(server) == 0

        await slow.send(b'{"execute": "query-name", "id": "late"}')
        schema = json.dumps((await other.call("query-qmp-schema"))["return"])
        for number in numbers:
            message = json.loads(await slow.reply() or b"")
            assert message["id"] == number
            assert json.dumps(message["return"]) == schema
        assert await slow.reply() == b'{"return": {}, "id": "late"}'
        assert slow.events == ["INIT_COMPLETE"]


async def test_the_machine_goes_on(tmp_path: Path) -> None:
    """Its guest in the middle of its boot, its clock, its actions, its requests' time; the control socket as well."""
    control = str(tmp_path / "control.sock")
    options = ["-machine", "pc", "-guest", "boot-time=60s,firmware=once", "-no-shutdown", "-reboot-reset"]
    async with running(tmp_path, *options, "-clock", "virtual", "-control", f"unix:{control}") as server:
        client, puppeteer = await server.connect(), await server.connect(path=control)
        await client.returned("set-reboot-reset", enable=False)
        await client.returned("system_reset")
        reset_time = await client.returned("query-reboot-reset")
        assert reset_time["enabled"] is False
        await puppeteer.returned("clock-advance", time=20)
        status, clock = await puppeteer.returned("query-guest"), await puppeteer.returned("query-clock")
        assert status["phase"] == "booting"

        await puppeteer.send(b'{"execute": "query-')
        await client.update()
        assert (await puppeteer.reply(b'clock", "id": 1}') or b"").endswith(b'"id": 1}')
        assert await puppeteer.returned("query-guest") == status
        assert await puppeteer.returned("query-clock") == clock
        assert await client.returned("query-reboot-reset") == reset_time

        await client.returned("stop")
        await client.returned("set-reboot-reset", enable=True)
        await client.update()
        assert (await client.returned("query-status"))["status"] == "paused"
        await puppeteer.returned("clock-advance", time=1000)
        assert (await puppeteer.returned("query-guest"))["steps"] == status["steps"]
        await client.returned("cont")
        await puppeteer.returned("clock-advance", time=60)
        assert (await puppeteer.returned("query-guest"))["phase"] == "running"

        client.events.clear()
        await client.returned("system_sleep")
        await client.event("SUSPEND")
        await puppeteer.returned("guest-wake")
        await puppeteer.returned("clock-advance", time=60)
        await client.returned("system_reset")
        assert (await client.returned("query-status"))["status"] == "shutdown"
        assert client.events == ["SUSPEND", "WAKEUP", "RESET", "STOP"]


async def test_what_a_puppeteer_did_stays_done(tmp_path: Path) -> None:
    """Faults and overrides hold on, what a fault keeps back comes in its time, and the transcript has no gap."""
    control, transcript = str(tmp_path / "control.sock"), tmp_path / "transcript"
    options = ["-machine", "pc", "-guest", "boot-time=1s", "-clock", "virtual", "-transcript", str(transcript)]
    async with running(tmp_path, *options, "-control", f"unix:{control}") as server:
        client, waiting = await server.connect(), await server.connect()
        puppeteer, follower = await server.connect(path=control), await server.connect(path=control)
        await follower.returned("transcript-follow")
        await puppeteer.returned("override-reply", command="query-name", **{"return": {"name": "made up"}})
        await puppeteer.returned("fault-delay-reply", time=5, command="query-uuid", count=1)
        await puppeteer.returned("fault-refuse-connections")
        await waiting.send(b'{"execute": "query-uuid", "id": 7}')
        faults, overrides = await puppeteer.returned("query-faults"), await puppeteer.returned("query-overrides")
        assert (len(faults), len(overrides)) == (2, 1)

        await client.update()
        assert await puppeteer.returned("query-faults") == faults
        assert await puppeteer.returned("query-overrides") == overrides
        assert await client.returned("query-name") == {"name": "made up"}
        with pytest.raises(ConnectionRefusedError):
            await trio.open_unix_socket(server.path)
        await puppeteer.returned("clock-advance", time=6)
        assert (await waiting.reply() or b"").endswith(b'"id": 7}')
        await puppeteer.returned("fault-clear")
        assert await (await server.connect()).returned("query-name") == {"name": "made up"}

        entries = await puppeteer.returned("query-transcript")
        await client.update()
        assert (await puppeteer.returned("query-transcript"))[: len(entries)] == entries
        await client.send(b'{"execute": "quit"}')
        assert await client.at_end()
        followed = []
        while (line := await follower.line()) is not None:
            followed.append(json.loads(line))
        numbers = [message["data"]["number"] for message in followed if message.get("event") == "TRANSCRIPT"]
        # The file is written in a thread, which the clients do not wait for.
        await until(lambda: '"ended"' in transcript.read_text())
        written = [json.loads(line) for line in transcript.read_text().splitlines()]
        assert [entry["number"] for entry in written] == list(range(1, len(written) + 1))
        (ended_with,) = [entry["number"] for entry in written if entry["kind"] == "ended"]
        assert numbers == list(range(numbers[0], ended_with + 1))


async def test_long_work_goes_on_where_it_was(tmp_path: Path) -> None:
    """A device whose leaving a fault holds still leaves in the next process, when that fault ends there."""
    control = str(tmp_path / "control.sock")
    options = ["-machine", "pc", "-guest", "boot-time=0", "-clock", "virtual", "-extension", "live-update"]
    async with running(tmp_path, *options, "-control", f"unix:{control}", release="10.0") as server:
        client, puppeteer = await server.connect(), await server.connect(path=control)
        await puppeteer.returned("clock-advance", time=1)
        await client.returned("device_add", driver="e1000", id="nic")
        await puppeteer.returned("fault-hold-activity", activity="unplug", time=600)
        await client.returned("device_del", id="nic")
        await puppeteer.returned("clock-advance", time=60)
        held = [{"name": "unplug /machine/peripheral/nic", "kind": "unplug", "state": "asked", "held": True}]
        assert await puppeteer.returned("query-activities") == held

        # So is a live update held, while one that fails leaves the machine where it is.
        await puppeteer.returned("fault-fail-activity", activity="live-update", reason="no", count=1)
        await client.returned("live-update-prepare")
        failed = await client.stage_other_than("father-prepare")
        assert (failed["stage"], failed["reason"]) == ("failed", "no")
        hold = await puppeteer.returned("fault-hold-activity", activity="live-update")
        await client.returned("live-update-prepare")
        with trio.fail_after(30):
            while not all(each["held"] for each in await puppeteer.returned("query-activities")):  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert "INIT_COMPLETE" not in client.events
        await puppeteer.returned("fault-clear", id=hold["id"])
        await client.event("INIT_COMPLETE")
        assert await client.returned("live-update-commit", timeout=20_000) == {}

        assert await puppeteer.returned("query-activities") == held
        assert "DEVICE_DELETED" not in client.events
        await puppeteer.returned("clock-advance", time=600)
        await client.event("DEVICE_DELETED")
        assert await puppeteer.returned("query-activities") == []


async def test_an_exclusive_listener_has_its_one_client(tmp_path: Path) -> None:
    second = str(tmp_path / "second.sock")
    options = ["-qmp", f"unix:{tmp_path}/qmp.sock,server=on,wait=off,exclusive=on", "--socket", second]
    async with running(tmp_path, *options) as server:
        first, driver = await server.connect(), await server.connect(path=second)
        waiting = await server.connect(negotiate=False)
        await waiting.send(b'{"execute": "qmp_capabilities"}{"execute": "query-name", "id": 1}')
        await driver.update()
        with trio.move_on_after(0.2):
            await waiting.line()
            raise AssertionError("two clients at once")
        assert await first.returned("query-name") == {}
        await first.stream.aclose()
        assert b"QMP" in (await waiting.line() or b"")
        assert await waiting.line() == b'{"return": {}}'
        assert await waiting.line() == b'{"return": {}, "id": 1}'
        # It serves nobody now, which is handed over as well.
        await waiting.stream.aclose()
        await driver.update()
        assert await (await server.connect()).returned("query-name") == {}


async def test_a_signal_while_the_machine_changes_hands_is_obeyed_once(tmp_path: Path) -> None:
    slow = child(tmp_path, before("standing", "time.sleep(0.5)"))
    async with running(tmp_path, "-no-shutdown") as server:
        client = await server.connect()
        await client.returned("live-update-prepare", program=slow)
        await client.event("INIT_COMPLETE")
        client.events.clear()
        await client.send(b'{"execute": "live-update-commit", "arguments": {"timeout": 20000}, "id": "commit"}')
        await trio.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        assert await client.reply() == b'{"return": {}, "id": "commit"}'
        assert await ended(server) == 0
        assert await client.reply() is None
        assert client.events == ["SHUTDOWN"]
        assert server.errors.read_text().count("terminating on signal 15") == 1


async def test_another_program_takes_over_and_obeys_signals(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    program = child(tmp_path, f"open({str(marker)!r}, 'w').close()")
    async with running(tmp_path) as server:
        client = await server.connect()
        taken_over = await client.update(program=program)
        assert marker.exists()
        assert program.encode() in Path(f"/proc/{taken_over}/cmdline").read_bytes().split(b"\0")
        # By default it is followed by its like: the interpreter with this package.
        serving = await client.update()
        await gone(taken_over)
        assert server.pid == serving
        os.kill(serving, signal.SIGTERM)
        await client.event("SHUTDOWN")
        assert await client.at_end()
        await gone(serving)
        assert f"terminating on signal 15 from pid {os.getpid()}" in server.errors.read_text()
        assert not server.pid_file.exists()
        assert not Path(server.path).exists()


async def test_what_was_plugged_in_stays(tmp_path: Path) -> None:
    """Devices, with the guest's answer under way, and character devices with all that is open there."""
    control, listens, elsewhere = (str(tmp_path / name) for name in ("control.sock", "listens", "elsewhere"))
    options = ["-machine", "pc", "-guest", "unplug-delay=5s", "-clock", "virtual", "-control", f"unix:{control}"]
    extension = ["-extension", "live-update"]
    async with running(tmp_path, *options, *extension, release="10.0") as server:
        client, puppeteer = await server.connect(), await server.connect(path=control)
        await puppeteer.returned("clock-advance", time=5)

        async def add(label: str, kind: str, **data: object) -> Any:
            return await client.returned("chardev-add", id=label, backend={"type": kind, "data": data})

        def unix(path: str) -> dict[str, object]:
            return {"type": "unix", "data": {"path": path}}

        with socket.socket(socket.AF_UNIX) as peer:
            peer.bind(elsewhere)
            peer.listen()
            await add("listens", "socket", addr=unix(listens), server=True)
            await add("connects", "socket", addr=unix(elsewhere), server=False)
            await add("tcp", "socket", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}, server=True)
            await add("file", "file", out=str(tmp_path / "file"))
            await add("nothing", "null")
            accepted, _ = peer.accept()
        held, waiting = await trio.open_unix_socket(listens), await trio.open_unix_socket(listens)
        await client.returned("device_add", driver="virtio-serial-pci", id="serial")
        await client.returned("device_add", driver="virtserialport", id="port", chardev="listens", bus="serial.0")
        # A port that the guest has not opened takes nothing of what is said to it.
        await puppeteer.returned("guest-open-port", device="port")
        await client.returned("netdev_add", type="user", id="net")
        await client.returned("device_add", driver="virtio-net-pci", id="nic", netdev="net")
        await client.returned("device_del", id="nic")
        asked = ("query-chardev", "query-rx-filter", "query-pci", "query-yank")
        told = [await client.returned(name) for name in asked]
        children = await client.returned("qom-list", path="/machine/peripheral")

        await client.update()
        await client.update()
        assert [await client.returned(name) for name in asked] == told
        assert await client.returned("qom-list", path="/machine/peripheral") == children
        # Whoever is connected is heard, whoever waits is let in when that one leaves.
        await held.send_all(bytes(4 << 20))
        await held.aclose()
        await waiting.send_all(bytes(4 << 20))
        with accepted:
            accepted.settimeout(5)
            accepted.sendall(bytes(4 << 20))
            assert (await client.call("chardev-remove", id="listens"))["error"]["desc"] == "Chardev 'listens' is busy"
            await puppeteer.returned("clock-advance", time=6)
            await client.event("DEVICE_DELETED")
            await client.returned("device_del", id="port")
            # What it used is free a little later.
            await puppeteer.returned("clock-advance", time=1)
            for label in ("listens", "connects", "tcp", "file", "nothing"):
                await client.returned("chardev-remove", id=label)
            assert accepted.recv(1) == b""
        assert await waiting.receive_some(1) == b""
        await waiting.aclose()
        assert not Path(listens).exists()
        assert len(await client.returned("query-chardev")) == 1
        # One that is removed before anybody comes to it was never there.
        await client.send(
            b'{"execute": "chardev-add", "arguments": {"id": "x", "backend": {"type": "socket", "data": {"addr": '
            b'{"type": "unix", "data": {"path": "%b"}}}}}}{"execute": "chardev-remove", "arguments": {"id": "x"}}'
            % listens.encode()
        )
        assert [await client.reply() for _ in range(2)] == [b'{"return": {}}'] * 2
        await client.returned("device_add", driver="virtio-net-pci", id="nic", netdev="net")


async def test_what_was_left_for_later_is_told(tmp_path: Path) -> None:
    """A reset takes a device out and the process is replaced in one write: DEVICE_DELETED comes, once."""
    options = ["-machine", "pc", "-S", "-extension", "live-update"]
    async with running(tmp_path, *options, release="10.0") as server:
        client = await server.connect()
        await client.returned("device_add", driver="e1000", id="nic")
        await client.returned("device_del", id="nic")
        await client.prepare()
        await client.send(
            b'{"execute": "system_reset"}{"execute": "live-update-commit", "arguments": {"timeout": 20000}}'
            b'{"execute": "query-uuid", "id": "end"}'
        )
        heard = []
        while (message := await client.message()).get("id") != "end":
            heard.append(message.get("event"))
        assert "DEVICE_DELETED" not in heard
        await client.event("DEVICE_DELETED")
        await client.returned("query-status")
        assert client.events.count("DEVICE_DELETED") == 1


@needs_pseudo_terminals
async def test_a_pseudo_terminal_stays(tmp_path: Path) -> None:
    async with running(tmp_path, "-extension", "live-update", "-machine", "none", release="10.0") as server:
        client = await server.connect()
        terminal = (await client.returned("chardev-add", id="terminal", backend={"type": "pty", "data": {}}))["pty"]
        told = await client.returned("query-chardev")
        await client.update()
        assert await client.returned("query-chardev") == told
        # Whoever has opened it hears that it is gone. (Its number may be another's at once.)
        number = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
        try:
            looking = select.poll()
            looking.register(number, 0)
            assert looking.poll(0) == []
            await client.returned("chardev-remove", id="terminal")
            [(_, heard)] = looking.poll(5000)
            assert heard & select.POLLHUP
        finally:
            os.close(number)


async def test_a_long_transcript_that_grows_while_the_child_is_ready(tmp_path: Path) -> None:
    control, transcript = str(tmp_path / "control.sock"), tmp_path / "transcript"
    options = ["-transcript", str(transcript), "-control", f"unix:{control}"]
    async with running(tmp_path, *options) as server:
        client, puppeteer = await server.connect(), await server.connect(path=control)

        async def ask(count: int) -> None:
            await client.send(b'{"execute": "query-name"}' * count)
            for _ in range(count):
                assert await client.reply() == b'{"return": {}}'

        await ask(3000)
        await client.prepare()
        # Some are sent to the child while it waits, some with the rest.
        for count in (1200, 1, 700):
            await ask(count)
            await trio.sleep(0.08)
        await ask(300)
        before = await puppeteer.returned("query-transcript")
        assert len(before) > 2 * 5200
        await client.returned("live-update-commit", timeout=20_000)
        after = await puppeteer.returned("query-transcript")
        assert after[: len(before)] == before
        # One that was begun anew is begun anew by the child as well.
        await client.prepare()
        await puppeteer.returned("transcript-reset")
        await ask(10)
        before = await puppeteer.returned("query-transcript")
        await client.returned("live-update-commit", timeout=20_000)
        after = await puppeteer.returned("query-transcript")
        assert after[: len(before)] == before
        assert [entry["number"] for entry in after] == list(range(1, len(after) + 1))


async def test_the_guest_agent_goes_on(tmp_path: Path) -> None:
    """What it has under way is not lost, nor is half a message that it has heard."""
    control, port = str(tmp_path / "control.sock"), str(tmp_path / "qga.sock")
    guest = "agent=on,agent-device=port"
    options = ["-machine", "pc", "-guest", guest, "-clock", "virtual", "-control", f"unix:{control}"]
    async with running(tmp_path, *options, "-extension", "live-update", release="10.0") as server:
        client, puppeteer = await server.connect(), await server.connect(path=control)
        backend = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": port}}, "server": True}}
        await client.returned("chardev-add", id="qga", backend=backend)
        await client.returned("device_add", driver="virtio-serial-pci", id="serial")
        await client.returned("device_add", driver="virtserialport", id="port", chardev="qga")
        await puppeteer.returned("agent-put-file", path="/a", content="kept")
        await puppeteer.returned("clock-advance", time=5)
        stream = await trio.open_unix_socket(port)

        async def ask(text: bytes) -> bytes:
            await stream.send_all(text)
            return bytes(await stream.receive_some(1 << 16))

        with trio.fail_after(10):
            assert await ask(b'{"execute": "guest-file-open", "arguments": {"path": "/a"}}') == b'{"return": 1000}\n'
            assert await ask(b'{"execute": "guest-fsfreeze-freeze"}') == b'{"return": 1}\n'
            await stream.send_all(b'{"execute": "guest-')
            await client.returned("query-status")
            await client.update()
            assert await ask(b'fsfreeze-thaw"}') == b'{"return": 1}\n'
            reply = await ask(b'{"execute": "guest-file-read", "arguments": {"handle": 1000}}')
            assert b'"buf-b64": "a2VwdA=="' in reply
        await stream.aclose()
