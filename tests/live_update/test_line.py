"""What the live-update line does otherwise, seen over a socket: in its own release and, where it may, in others."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.machine import (
    Event,
    Firmware,
    GuestAction,
    GuestSettings,
    RebootAction,
    RunState,
    ShutdownAction,
    ShutdownCause,
)
from qmpd.qapi import load_release, release_names
from qmpd.qapi.extension import extension_names
from qmpd.qapi.folders import schema_folder
from qmpd.qapi.validation import Schemas, explain, validate_event, validate_reply
from tests.server.support import Client, Served, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
LINE = "2.x-live-update"
EXTENSIONS = ("live-update", "reboot-reset", "sleep")
# The line's own release, which has the extensions, and two that are given them.
PLACES = [(LINE, ()), ("7.2", EXTENSIONS), ("11.1", EXTENSIONS)]
OTHERS = [name for name in release_names() if name != LINE]

QUICK = GuestSettings(boot_time=0)


class Watcher(Client):
    """A client that keeps the events and validates what comes."""

    def __init__(self, client: Client, release: str) -> None:
        super().__init__(client.stream)
        self.release = load_release(release)
        self.events: list[dict[str, Any]] = []

    async def until(self, name: str) -> list[str]:
        """The names of the events up to the next one of this name."""
        while not self.events or self.events[-1]["event"] != name:
            self._keep(await self.message())
        names = [event["event"] for event in self.events]
        self.events.clear()
        return names

    async def execute(self, name: str, /, **arguments: object) -> Any:
        """Execute a command and give what it returns; the events before the reply are kept."""
        await self.send(json.dumps({"execute": name, "arguments": arguments, "id": name}).encode())
        while True:
            message = await self.message()
            if "event" in message:
                self._keep(message)
            else:
                assert "return" in message, message
                return message["return"]

    def _keep(self, message: dict[str, Any]) -> None:
        if message["event"] != "INIT_COMPLETE":
            validate_event(self.release, message["event"], message.get("data"))
        self.events.append(message)

    async def state(self) -> str:
        return str((await self.execute("query-status"))["status"])

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


@asynccontextmanager
async def watched(
    folder: Path, place: tuple[str, tuple[str, ...]], **machine: Any
) -> AsyncIterator[tuple[Served, Watcher]]:
    release, extensions = place
    async with served(folder, release=release, extensions=extensions, **machine) as server:
        yield server, Watcher(await server.connect(), release)


async def running(server: Served) -> None:
    """Wait until the operating system runs."""
    guest = server.vm.system.guest
    assert guest is not None
    with trio.fail_after(5):
        while guest.phase != "running":  # noqa: ASYNC110 - the guest tells nobody
            await trio.sleep(0.005)


def act(server: Served, action: GuestAction) -> None:
    guest = server.vm.system.guest
    assert guest is not None
    guest.act(action)
    server.vm.loop.wake()


# --- nothing of it can be seen without the extensions


@pytest.mark.parametrize("release", OTHERS)
async def test_nothing_is_visible_without_the_extensions(tmp_path: Path, release: str) -> None:
    from tests.golden import load

    names = [command["name"] for command in map(json.loads, _lines("commands.jsonl"))]
    async with served(tmp_path, release=release) as server:
        client = await server.connect()
        await client.send(b'{"execute": "query-commands"}')
        listed = await client.line()
        recorded = {
            line.encode()
            for scenario in load(release, "lifecycle")
            for step in scenario["steps"]
            if step["send"] == '{"execute": "query-commands"}'
            for line in step["recv"]
        }
        assert recorded == {listed}
        schema = json.dumps((await client.execute("query-qmp-schema"))["return"])
        for name in (*names, "INIT_COMPLETE", "father-prepare"):
            assert name not in schema
        for name in names:
            answer = await client.execute(name)
            assert answer["error"] == {"class": "CommandNotFound", "desc": f"The command {name} has not been found"}


@pytest.mark.parametrize("extension", EXTENSIONS)
async def test_each_extension_brings_its_own_commands_alone(tmp_path: Path, extension: str) -> None:
    mine = [entry["name"] for entry in map(json.loads, _lines("commands.jsonl")) if entry["extension"] == extension]
    async with served(tmp_path, release="7.2", extensions=(extension,)) as server:
        client = Watcher(await server.connect(), "7.2")
        plain = list(load_release("7.2").commands)
        listed = [command["name"] for command in await client.execute("query-commands")]
        assert listed == plain + mine
        schema = await client.execute("query-qmp-schema")
        own = json.loads(load_release("7.2").introspection_reply)
        assert schema[: len(own)] == own
        validate_reply(load_release("7.2"), "query-qmp-schema", schema[len(own) :])
        types = {entry["name"] for entry in schema}
        assert len(types) == len(schema), "a name stands twice in the introspection"
        for entry in schema:
            used = [entry.get(member) for member in ("arg-type", "ret-type", "element-type")]
            used += [member["type"] for member in entry.get("members", ()) if "type" in member]
            assert {name for name in used if name is not None} <= types
        assert {entry["name"] for entry in schema if entry["meta-type"] == "command"} == set(listed)
        assert ("INIT_COMPLETE" in types) is (extension == "live-update")


def _lines(name: str) -> list[str]:
    return (schema_folder("live-update") / name).read_text().splitlines()


def test_the_extensions_schema_is_the_derived_one() -> None:
    from qmpd.qapi.introspection import Introspection
    from qmpd.qapi.json_schema import derive
    from qmpd.qapi.naming import Names

    folder = schema_folder("live-update")
    derived = derive(
        Introspection(map(json.loads, _lines("introspection.jsonl"))),
        Names.from_json(json.loads((folder / "names.json").read_text())),
        "",
    )
    assert json.loads((folder / "schema.json").read_text())["$defs"] == derived["$defs"]
    assert extension_names() == EXTENSIONS


@pytest.mark.parametrize("place", PLACES)
async def test_what_the_commands_return_fits_their_schema(tmp_path: Path, place: tuple[str, tuple[str, ...]]) -> None:
    schemas = Schemas(json.loads((schema_folder("live-update") / "schema.json").read_text()))
    async with watched(tmp_path, place) as (_, client):
        for name in ("live-update-query", "query-reboot-reset"):
            explain(schemas, f"{name}.return", await client.execute(name))
        await client.execute("system_reset")
        status = await client.execute("query-reboot-reset")
        explain(schemas, "query-reboot-reset.return", status)
        assert abs(status["reset-time"]["seconds"] - client.events[-1]["timestamp"]["seconds"]) <= 1


async def test_a_machine_in_a_shared_process_is_not_updated(tmp_path: Path) -> None:
    async with served(tmp_path, release=LINE) as server:
        client = await server.connect()
        for name in ("live-update-prepare", "live-update-cancel", "live-update-commit"):
            assert "shares its process" in str((await client.execute(name))["error"])
        assert await client.execute("live-update-query") == {"return": {"stage": "none"}, "id": "execute"}


# --- the release


async def test_the_old_greeting_and_the_old_errors(tmp_path: Path) -> None:
    async with served(tmp_path, release=LINE) as server:
        client = await server.connect(negotiate=False)
        assert await client.line() == (
            b'{"QMP": {"version": {"qemu": {"micro": 1, "minor": 9, "major": 2}, "package": " (live-update)"}, '
            b'"capabilities": []}}'
        )
        assert b"Parameter 'enable' is unexpected" in (
            await client.ask(b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}') or b""
        )
        assert await client.ask(b'{"execute": "qmp_capabilities"}') == b'{"return": {}}'
        assert await client.ask(b'{"execute": "query-status"}') == (
            b'{"return": {"status": "running", "singlestep": false, "running": true}}'
        )
        assert await client.ask(b"%") == b'{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}'
        # There is no out-of-band execution: it waits for its turn, and is then not understood.
        await client.send(b'{"execute": "query-name", "id": 1}{"exec-oob": "query-name", "id": 2}')
        assert await client.line() == b'{"return": {}, "id": 1}'
        assert await client.line() == (
            b'{"id": 2, "error": {"class": "GenericError", "desc": "QMP input member \'exec-oob\' is unexpected"}}'
        )
        assert (await client.execute("set-action"))["error"] == {
            "class": "CommandNotFound",
            "desc": "The command set-action has not been found",
        }


async def test_every_query_of_the_line_answers_as_its_schema_says(tmp_path: Path) -> None:
    release = load_release(LINE)
    async with watched(tmp_path, (LINE, ()), machine_type="pc") as (_, client):
        asked = 0
        for name in release.commands:
            if name.startswith("query-"):
                validate_reply(release, name, await client.execute(name))
                asked += 1
        assert asked > 12
        listed = [command["name"] for command in await client.execute("query-commands")]
        assert listed == list(release.commands)
        assert (await client.execute("query-events"))[0] == {"name": "INIT_COMPLETE"}
        assert "props" not in (await client.execute("query-cpus"))[0]


async def test_replies_come_before_events_and_those_have_no_data(tmp_path: Path) -> None:
    async with watched(tmp_path, (LINE, ()), shutdown=ShutdownAction.PAUSE) as (_, client):
        await client.send(b'{"execute": "system_reset"}{"execute": "system_powerdown"}{"execute": "quit"}')
        received = [await client.message() for _ in range(6)]
        assert [next(iter(set(message) & {"return", "event"})) for message in received] == ["return", "event"] * 3
        assert [message.get("event") for message in received[1::2]] == ["RESET", "POWERDOWN", "SHUTDOWN"]
        assert not any("data" in message for message in received)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (RunState.INTERNAL_ERROR, "paused"),
        (RunState.SHUTDOWN, "paused"),
        (RunState.PAUSED, "paused"),
        (RunState.WATCHDOG, "watchdog"),
        (RunState.GUEST_PANICKED, "guest-panicked"),
        (RunState.RUNNING, "running"),
    ],
)
async def test_a_reset_leaves_states_that_need_none(tmp_path: Path, before: RunState, after: str) -> None:
    async with watched(tmp_path, (LINE, ())) as (server, client):
        if before is not RunState.RUNNING:
            server.vm.system.machine.system_vmstop(before)
            assert await client.until("STOP") == ["STOP"]
        assert await client.state() == before
        await client.execute("system_reset")
        assert await client.until("RESET") == ["RESET"]
        assert await client.state() == after
        if after == "paused":
            await client.execute("cont")
            assert await client.state() == "running"


@pytest.mark.parametrize("machine_type", ["none", "pc"])
async def test_to_wake_a_guest_that_does_not_sleep_is_nothing(tmp_path: Path, machine_type: str) -> None:
    """Nothing is said, and nothing happens; other releases refuse it."""
    async with watched(tmp_path, (LINE, ()), machine_type=machine_type) as (_, client):
        assert await client.execute("system_wakeup") == {}
        await client.execute("stop")
        assert await client.execute("system_wakeup") == {}
        assert (client.names(), await client.state()) == (["STOP"], "paused")


class Watchman:
    """Looks at a machine as it emits WAKEUP."""

    def __init__(self, server: Served) -> None:
        self._machine, self._guest = server.vm.system.machine, server.vm.system.guest
        self.seen: list[tuple[object, object]] = []
        self._machine.observer = self

    def emitted(self, event: Event) -> None:
        if event.name == "WAKEUP":
            assert self._guest is not None
            self.seen.append((self._guest.wakeup_reason, self._machine.requests.wakeup))

    def state_changed(self, old: RunState, new: RunState) -> None:
        pass

    def guest_step(self, name: str) -> None:
        pass


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reason", ["other", "rtc"])
async def test_a_wakeup_tells_the_guest_why_and_then_forgets(
    tmp_path: Path, place: tuple[str, tuple[str, ...]], reason: str
) -> None:
    guest = GuestSettings(firmware=Firmware.NONE, sleep_time=20_000_000 if reason == "rtc" else None)
    async with watched(tmp_path, place, machine_type="pc", guest=guest) as (server, client):
        watchman = Watchman(server)
        await running(server)
        act(server, GuestAction.SUSPEND)
        await client.until("SUSPEND")
        if reason == "other":
            await client.execute("system_wakeup")
        assert await client.until("WAKEUP") == ["WAKEUP"]
        assert watchman.seen == [(reason, None)]
        assert await client.state() == "running"


def test_the_table_in_the_documents_names_tests_that_there_are() -> None:
    page = (ROOT / "docs" / "explanation" / "live-update.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    folders = [ROOT / "tests" / "live_update", ROOT / "tests" / "machine"]
    text = "".join(path.read_text() for folder in folders for path in folder.glob("test_*.py"))
    assert len(named) > 10
    assert {name for name in named if f"def {name}(" not in text} == set()


# --- no-reboot and reboot-reset


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("machine", "announced"),
    [
        ({"reboot": RebootAction.SHUTDOWN}, "SHUTDOWN"),
        ({"reboot_reset": True}, "RESET"),
        ({"reboot": RebootAction.SHUTDOWN, "reboot_reset": True}, "RESET"),
    ],
)
async def test_a_reset_that_becomes_a_shutdown(
    tmp_path: Path, place: tuple[str, tuple[str, ...]], machine: dict[str, Any], announced: str
) -> None:
    async with watched(tmp_path, place, **machine) as (server, client):
        await client.execute("system_reset")
        assert await client.until(announced) == [announced]
        assert await client.at_end()
        await server.ended.wait()
        assert server.status == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reboot", RebootAction)
@pytest.mark.parametrize("later", ["power off", "quit"])
async def test_a_shutdown_before_the_turn_is_one_reset(
    tmp_path: Path, place: tuple[str, tuple[str, ...]], reboot: RebootAction, later: str
) -> None:
    """The guest reboots, and before the turn it powers off or somebody wants the machine to quit: one RESET."""
    async with watched(tmp_path, place, reboot_reset=True, reboot=reboot) as (server, client):
        machine = server.vm.system.machine
        machine.system_reset(ShutdownCause.GUEST_RESET)
        if later == "quit":
            machine.quit()
        else:
            machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN)
        server.vm.loop.wake()
        assert await client.until("RESET") == ["RESET"]
        assert await client.at_end()
        assert client.names() == []


@pytest.mark.parametrize("place", PLACES)
async def test_the_flag_is_cleared_once_it_was_announced(tmp_path: Path, place: tuple[str, tuple[str, ...]]) -> None:
    async with watched(tmp_path, place, shutdown=ShutdownAction.PAUSE) as (server, client):
        assert await client.execute("query-reboot-reset") == {"enabled": False}
        await client.execute("set-reboot-reset", enable=True)
        assert (await client.execute("query-reboot-reset"))["enabled"] is True
        await client.execute("system_reset")
        assert await client.until("STOP") == ["RESET", "STOP"]
        assert await client.state() == "shutdown"
        # The next shutdown is one, and says so, while the setting stays.
        await client.execute("quit")
        assert await client.until("SHUTDOWN") == ["SHUTDOWN"]
        await server.ended.wait()
        assert server.vm.system.machine.reboot_reset


@pytest.mark.parametrize("place", PLACES)
async def test_reboot_reset_can_be_switched_off(tmp_path: Path, place: tuple[str, tuple[str, ...]]) -> None:
    async with watched(tmp_path, place, reboot_reset=True) as (_, client):
        await client.execute("set-reboot-reset", enable=False)
        await client.execute("system_reset")
        assert await client.until("RESET") == ["RESET"]
        assert await client.state() == "running"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("machine", [{"reboot": RebootAction.SHUTDOWN}, {"reboot_reset": True}])
async def test_under_no_shutdown_the_loop_takes_one_more_turn_without_blocking(
    tmp_path: Path, place: tuple[str, tuple[str, ...]], machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qmpd.machine import main_loop

    turns: list[tuple[str, bool]] = []
    real = main_loop.turn

    def counted(vm: Any) -> int | None:
        status = real(vm)
        turns.append((str(vm.state), vm.pending))
        return status

    monkeypatch.setattr(main_loop, "turn", counted)
    async with watched(tmp_path, place, shutdown=ShutdownAction.PAUSE, **machine) as (_, client):
        await client.execute("system_reset")
        await client.until("STOP")
        assert await client.state() == "shutdown"
        assert turns == [("shutdown", True), ("shutdown", False)]


REBOOTS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "none": ({}, ["RESET", "RESET"], "running"),
    "no-reboot": ({"reboot": RebootAction.SHUTDOWN}, ["SHUTDOWN", "STOP"], "shutdown"),
    "reboot-reset": ({"reboot_reset": True}, ["RESET", "STOP"], "shutdown"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", REBOOTS)
async def test_a_guests_reboot_is_seen_through(
    tmp_path: Path, place: tuple[str, tuple[str, ...]], option: str
) -> None:
    """Request, first reset, firmware, second reset; under no-shutdown, so that the end can be looked at."""
    machine, expected, state = REBOOTS[option]
    async with watched(
        tmp_path, place, machine_type="pc", shutdown=ShutdownAction.PAUSE, guest=QUICK, **machine
    ) as (server, client):
        await running(server)
        act(server, GuestAction.REBOOT)
        names = [(await client.until(expected[0]))[0]]
        names += await client.until(expected[1])
        assert names == expected
        assert await client.state() == state
        guest = server.vm.system.guest
        assert guest is not None
        if state == "running":
            # It comes up again, and that was all.
            await running(server)
            assert client.names() == []
        else:
            assert guest.phase == "stopping"


# --- wakeup and sleep


@pytest.mark.parametrize("place", PLACES)
async def test_sleep_and_wakeup(tmp_path: Path, place: tuple[str, tuple[str, ...]]) -> None:
    async with watched(tmp_path, place, machine_type="pc", guest=QUICK) as (server, client):
        await running(server)
        await client.execute("system_sleep")
        assert await client.until("SUSPEND") == ["SUSPEND"]
        assert await client.state() == "suspended"
        await client.execute("system_wakeup")
        assert await client.until("WAKEUP") == ["WAKEUP"]
        assert await client.state() == "running"
        await running(server)
        machine, guest = server.vm.system.machine, server.vm.system.guest
        assert guest is not None
        # The guest was told why, the request is forgotten, and no RESET was announced.
        assert (guest.wakeup_reason, machine.requests.wakeup) == ("other", None)
        assert client.names() == []


@pytest.mark.parametrize("place", PLACES)
async def test_a_guest_may_ignore_the_sleep_button(tmp_path: Path, place: tuple[str, tuple[str, ...]]) -> None:
    guest = GuestSettings(on_sleep=GuestAction.NONE)
    async with watched(tmp_path, place, machine_type="pc", guest=guest) as (server, client):
        await running(server)
        await client.execute("system_sleep")
        await trio.sleep(0.02)
        assert await client.state() == "running"
        assert client.names() == []


@pytest.mark.parametrize("place", PLACES)
async def test_the_buttons_order_in_one_turn(tmp_path: Path, place: tuple[str, tuple[str, ...]]) -> None:
    guest = GuestSettings(on_powerdown=GuestAction.NONE)
    async with watched(tmp_path, place, machine_type="pc", guest=guest) as (server, client):
        await running(server)
        machine = server.vm.system.machine
        # All three in one turn: the power button is announced, the sleep button pressed, and only then it stops.
        machine.system_vmstop(RunState.PAUSED)
        machine.system_sleep()
        machine.system_powerdown()
        assert await client.until("STOP") == ["POWERDOWN", "STOP"]
        await client.execute("cont")
        assert await client.until("SUSPEND") == ["RESUME", "SUSPEND"]
