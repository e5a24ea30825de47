"""Replies and events that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.control.support import Refused, played

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_value_for_the_next_replies(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = await machine.connect()
        override = await control("override-reply", command="query-name", return_={"name": "made up"}, count=2)
        assert override == {
            "id": 1, "command": "query-name", "return": {"name": "made up"}, "count": 2, "execute": False
        }
        for _ in range(2):
            assert (await client.execute("query-name"))["return"] == {"name": "made up"}
        assert (await client.execute("query-name"))["return"] == {}
        assert await control("query-overrides") == []


async def test_an_error_until_it_is_cleared_and_nothing_is_executed(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("override-reply", command="stop", error="Not today", error_class="DeviceNotActive")
        for _ in range(3):
            assert (await client.execute("stop"))["error"] == {"class": "DeviceNotActive", "desc": "Not today"}
        assert (await control("query-guest"))["run-state"] == "running"
        assert (await client.execute("stop", bogus=1))["error"] == {
            "class": "GenericError", "desc": "Parameter 'bogus' is unexpected"
        }
        assert len(await control("query-overrides")) == 1
        await control("override-clear")
        assert (await client.execute("stop"))["return"] == {}
        assert (await control("query-guest"))["run-state"] == "paused"


async def test_a_command_that_is_executed_all_the_same(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("override-reply", command="stop", error="Too late", execute=True, count=1)
        assert (await client.execute("stop"))["error"] == {"class": "GenericError", "desc": "Too late"}
        assert (await control("query-guest"))["run-state"] == "paused"


async def test_only_with_matching_arguments(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = await machine.connect()
        for path, name in (("/a", "one"), ("/b", "two")):
            await control(
                "override-reply", command="qom-list", arguments={"path": path}, return_=[{"name": name, "type": "t"}]
            )
        assert (await client.execute("qom-list", path="/b"))["return"] == [{"name": "two", "type": "t"}]
        assert (await client.execute("qom-list", path="/a"))["return"] == [{"name": "one", "type": "t"}]
        assert "made" not in str(await client.execute("qom-list", path="/"))
        await control("override-clear", id=1)
        assert [each["id"] for each in await control("query-overrides")] == [2]
        with pytest.raises(Refused, match="there is no override 1"):
            await control("override-clear", id=1)


async def test_values_are_checked_unless_told_otherwise(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = await machine.connect()
        with pytest.raises(Refused, match=r"query-name\.return: \$: Additional properties are not allowed"):
            await control("override-reply", command="query-name", return_={"nom": "x"})
        with pytest.raises(Refused, match=r"release 7\.2 has no command query-weather"):
            await control("override-reply", command="query-weather", return_={})
        await control("override-reply", command="query-name", return_=[None, 1.5, {"nom": "x"}], check=False, count=1)
        assert (await client.execute("query-name"))["return"] == [None, 1.5, {"nom": "x"}]
        await control("override-reply", command="query-weather", return_="rain", check=False, arguments={"where": "x"})
        assert (await client.execute("query-weather", where="x", when="now"))["return"] == "rain"
        assert (await client.execute("query-weather"))["error"] == {
            "class": "CommandNotFound", "desc": "The command query-weather has not been found"
        }


async def test_overrides_keep_to_negotiation(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        await control("override-reply", command="query-name", return_={"name": "x"})
        client = await machine.connect(greeting=False)
        await client.line()
        assert b"CommandNotFound" in (await client.ask(b'{"execute": "query-name"}') or b"")
        await control("override-reply", command="qmp_capabilities", error="Not yet", count=1)
        assert b"Not yet" in (await client.ask(b'{"execute": "qmp_capabilities"}') or b"")
        assert await client.ask(b'{"execute": "qmp_capabilities"}') == b'{"return": {}}'
        assert await client.ask(b'{"execute": "query-name"}') == b'{"return": {"name": "x"}}'


async def test_events_out_of_nowhere(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = await machine.connect()
        await control("emit-event", event="DEVICE_DELETED", data={"path": "/x", "device": "d"})
        event = await client.message()
        assert (event["event"], event["data"]) == ("DEVICE_DELETED", {"path": "/x", "device": "d"})
        await control("emit-event", event="WEATHER", data={"rain": True}, check=False)
        assert (await client.message())["event"] == "WEATHER"
        await control("emit-event", event="STOP")
        assert "data" not in await client.message()
        attempts: list[tuple[dict[str, Any], str]] = [
            ({"event": "DEVICE_DELETED", "data": {"path": 5}}, r"DEVICE_DELETED\.data: \$\.path: 5 is not of type"),
            ({"event": "DEVICE_DELETED"}, "'path' is a required property"),
            ({"event": "WEATHER"}, r"release 7\.2 has no event WEATHER"),
            ({"event": "STOP", "data": [1]}, "'data' is an object"),
        ]
        for arguments, message in attempts:
            with pytest.raises(Refused, match=message):
                await control("emit-event", **arguments)


async def test_events_out_of_nowhere_are_limited_as_others(tmp_path: Path) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        control = await machine.control()
        client = await machine.connect()
        for offset in range(3):
            await control("emit-event", event="BALLOON_CHANGE", data={"actual": offset})
        assert (await client.message())["data"] == {"actual": 0}
        assert (await control("clock-run-until-quiet"))["advanced"] == 2
        assert (await client.message())["data"] == {"actual": 2}


async def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        attempts: list[tuple[dict[str, Any], str]] = [
            ({}, "either 'return' or 'error'"),
            ({"return": {}, "error": "x"}, "either 'return' or 'error'"),
            ({"return": {}, "error-class": "GenericError"}, "'error-class' belongs to 'error'"),
            ({"error": "x", "error-class": "Odd"}, "'error-class' is one of GenericError"),
            ({"return": {}, "arguments": 1}, "'arguments' is an object"),
            ({"return": {}, "count": 0}, "'count' is a positive number"),
        ]
        for arguments, message in attempts:
            with pytest.raises(Refused, match=message):
                await control("override-reply", command="query-name", **arguments)
        assert await control("query-overrides") == []
