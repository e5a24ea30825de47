"""The transcript: everything that was sent and received and what happened meanwhile."""

from __future__ import annotations

import gc
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.control import recorder as transcript_module
from qmpd.machine import GuestAction, GuestSettings
from tests.control.support import played

if TYPE_CHECKING:
    from pathlib import Path


def short(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries without their numbers and times, and greetings made short."""
    result = []
    for entry in entries:
        rest = {name: value for name, value in entry.items() if name not in ("number", "time", "timestamp")}
        if "QMP" in (rest.get("message") or ()):
            rest["message"] = "greeting"
        result.append(rest)
    return result


async def test_what_is_written_down(tmp_path: Path) -> None:
    guest = GuestSettings(boot_time=1_000_000_000, on_powerdown=GuestAction.SHUTDOWN)
    async with played(tmp_path, guest=guest, name="vm1") as machine:
        control = await machine.control()
        client = await machine.connect()
        await client.send(b"[1]{ nonsense }")
        await client.line()
        await client.line()
        await control("clock-advance", time="2s")
        await control("override-reply", command="query-name", return_={}, count=1)
        await control("fault-drop-connection", when="within-reply", count=1)
        await client.send(b'{"execute": "query-name", "id": 1}')
        entries = await control("query-transcript")
        assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))
        assert short(entries) == [
            {"kind": "started", "release": "7.2", "name": "vm1"},
            {"kind": "event", "event": "RESUME"},
            {"kind": "run-state", "from": "prelaunch", "to": "running"},
            {"kind": "connected", "client": 1, "monitor": "compat_monitor0"},
            {"kind": "sent", "client": 1, "message": "greeting"},
            {"kind": "received", "client": 1, "message": {"execute": "qmp_capabilities"}},
            {"kind": "sent", "client": 1, "message": {"return": {}}},
            {"kind": "received", "client": 1, "message": [1]},
            {"kind": "received", "client": 1, "error": "JSON parse error, invalid keyword 'nonsense'"},
            {"kind": "sent", "client": 1, "message": {
                "error": {"class": "GenericError", "desc": "QMP input must be a JSON object"}}},
            {"kind": "sent", "client": 1, "message": {
                "error": {"class": "GenericError", "desc": "JSON parse error, invalid keyword 'nonsense'"}}},
            {"kind": "control", "command": "clock-advance", "arguments": {"time": "2s"}},
            {"kind": "guest", "step": "firmware-note"},
            {"kind": "guest", "step": "firmware-end"},
            {"kind": "guest", "step": "booted"},
            {"kind": "control", "command": "override-reply", "arguments": {
                "command": "query-name", "return": {}, "count": 1}},
            {"kind": "control", "command": "fault-drop-connection", "arguments": {"when": "within-reply", "count": 1}},
            {"kind": "received", "client": 1, "message": {"execute": "query-name", "id": 1}},
            {"kind": "override", "client": 1, "command": "query-name", "id": 1},
            {"kind": "fault", "client": 1, "command": "query-name", "fault": "drop-connection", "id": 1},
            {"kind": "sent", "client": 1, "text": '{"return": {'},
            {"kind": "disconnected", "client": 1},
        ]
        assert entries[14]["time"] == 1_060_000_000
        assert entries[14]["timestamp"] == {"seconds": 1_700_000_001, "microseconds": 60_000}


async def test_it_is_queried_in_parts(tmp_path: Path) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        control = await machine.control()
        first, second = await machine.connect(), await machine.connect()
        await first.execute("query-name")
        await second.execute("stop")
        states = await control("query-transcript", kind="run-state")
        assert [(entry["from"], entry["to"]) for entry in states] == [("prelaunch", "running"), ("running", "paused")]
        received = await control("query-transcript", kind="received", client=2)
        assert [entry["message"]["execute"] for entry in received] == ["qmp_capabilities", "stop"]
        assert await control("query-transcript", since=received[-1]["number"], kind="received") == []
        await control("transcript-reset")
        await first.execute("query-name")
        assert [entry["number"] for entry in await control("query-transcript")] == [1, 2]


async def test_it_is_followed(tmp_path: Path) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        control, other = await machine.control(), await machine.control()
        client = await machine.connect()
        await control("transcript-follow", from_start=True)
        await client.execute("stop")
        await other("clock-advance", time=1)
        everything = await control("query-transcript")
        assert [event["data"] for event in control.events] == everything
        assert control.events[-1]["timestamp"] == everything[-1]["timestamp"]
        await control("transcript-follow", enable=False)
        control.events.clear()
        await client.execute("cont")
        await control("query-clock")
        assert control.events == []


async def test_followers_hear_of_the_end(tmp_path: Path) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("transcript-follow")
        await client.send(b'{"execute": "quit"}')
        kinds = []
        with trio.fail_after(5):
            while (line := await control.client.line()) is not None:
                kinds.append(json.loads(line)["data"]["kind"])
        assert kinds[-1] == "ended"


async def test_it_is_written_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    async with played(tmp_path, machine_type="none", transcript=path, control=False) as machine:
        client = await machine.connect()
        await client.execute("query-name")
        assert machine.vm.puppet_host is not None
        assert machine.vm.puppet_host.transcript is not None
        assert machine.vm.puppet_host.transcript.settle(5)
        assert json.loads(path.read_text().splitlines()[-1])["message"] == {"return": {}, "id": "execute"}
        await client.send(b'{"execute": "quit"}')
        assert await machine.end() == 0
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["kind"] for entry in (entries[0], *entries[-2:])] == ["started", "ended", "disconnected"]
    assert entries[-2]["status"] == 0


async def test_the_oldest_entries_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript_module, "LIMIT", 10)
    monkeypatch.setattr(transcript_module, "SIZE_LIMIT", 100_000)
    async with played(tmp_path, machine_type="none") as machine:
        control = await machine.control()
        client = await machine.connect()
        for _ in range(10):
            await client.execute("query-name")
        entries = await control("query-transcript")
        assert len(entries) == 10
        assert entries[0]["number"] > 10
        await client.execute("query-qmp-schema")
        assert await control("query-transcript") == []  # one that is too large takes all the others along


async def test_pretty_output_is_read_as_well(tmp_path: Path) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        machine.vm.settings.monitors[0].pretty = True
        control = await machine.control()
        await machine.connect(greeting=False)
        await control("query-clock")
        sent = await control("query-transcript", kind="sent")
        assert "QMP" in sent[0]["message"]


async def test_what_is_sent_in_one_go_is_written_down_as_well(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control, client = await machine.control(), await machine.connect()
        for count in (1, 30, 3000):
            await control("transcript-reset")
            await client.send(b"".join(b'{"execute": "query-name", "id": %d}\n' % number for number in range(count)))
            for number in range(count):
                assert (await client.message())["id"] == number
            entries = await control("query-transcript")
            for kind in ("received", "sent"):
                ids = [entry["message"]["id"] for entry in entries if entry["kind"] == kind]
                assert ids == list(range(count))


@pytest.mark.parametrize("id_", [b"1", b"[" + b"[]," * 3000 + b"1]", b'"' + b"x" * 20_000 + b'"'])
async def test_memory_stays_flat_once_the_bound_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_: bytes
) -> None:
    """Whatever the messages consist of: a list of empty lists takes twenty times the memory of its text."""
    monkeypatch.setattr(transcript_module, "LIMIT", 2000)
    monkeypatch.setattr(transcript_module, "SIZE_LIMIT", 2 << 20)
    async with played(tmp_path) as machine:
        client = await machine.connect()
        command = b'{"execute": "query-name", "id": %b}' % id_

        async def fill() -> int:
            for _ in range(1200 if len(id_) < 10 else 100):
                await client.ask(command)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            full = await fill()
            later = [await fill() for _ in range(3)]
        finally:
            tracemalloc.stop()
        assert full - before < (2 << 20) + 2000 * 700
        assert max(later) < full + 100_000
