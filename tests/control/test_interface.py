"""The control socket's interface: one declaration, from which all else follows; and nothing of it on QMP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from jsonschema import Draft202012Validator

from qmpd.control.__main__ import documents
from qmpd.control.puppeteer import GROUPS, Puppeteer
from qmpd.control.whole import interface
from tests.control.support import Refused, played

if TYPE_CHECKING:
    from typing import Any

FOLDER = Path(__file__).parents[2] / "schemas" / "control"


def test_files_are_up_to_date() -> None:
    for name, text in documents().items():
        assert (FOLDER / name).read_text() == text, f"run: python -m qmpd.control {FOLDER}"


def test_schema_is_one() -> None:
    schema = interface().schema
    Draft202012Validator.check_schema(schema)
    assert set(interface().commands) == {
        name.removesuffix(".arguments") for name in schema["$defs"] if name.endswith(".arguments")
    }


def test_every_command_is_a_method_of_the_puppeteer_and_says_what_it_does() -> None:
    assert set(GROUPS) <= set(Puppeteer.__slots__)
    for command in interface().commands.values():
        assert command.declaration.summary.endswith(".")


def arguments_of(definition: dict[str, Any], name: str) -> set[str]:
    return set(definition[f"{name}.arguments"].get("properties", ()))


def test_introspection_and_schema_agree() -> None:
    found, schema = interface().introspection, interface().schema["$defs"]
    for name in found.commands:
        members = {member.name for member in found.object(found.command(name).arguments).members}
        assert members == arguments_of(schema, name) == set(interface().commands[name].parameters)


async def test_it_speaks_qmp(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = control.client
        assert [entry["name"] for entry in await control("query-commands")] == list(interface().commands)
        assert await control("query-qmp-schema") == interface().entries
        version = await control("query-version")
        assert version == {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "qmpd control socket"}

        fresh = await trio.open_unix_socket(machine.control_path)
        fresh_client = type(client)(fresh)
        assert await fresh_client.message() == {"QMP": {"version": version, "capabilities": []}}
        assert await fresh_client.ask(b'{"execute": "query-clock", "id": 7}') == (
            b'{"error": {"class": "CommandNotFound", "desc": '
            b'"Expecting capabilities negotiation with \'qmp_capabilities\'"}, "id": 7}'
        )
        await fresh_client.send(b'{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}')
        assert (await fresh_client.message())["error"] == {
            "class": "GenericError", "desc": "Capability oob is not offered"
        }
        await fresh.aclose()

        for sent, desc in [
            (b"{ nonsense }", "JSON parse error, invalid keyword 'nonsense'"),
            (b"[]", "QMP input must be a JSON object"),
            (b'{"exec-oob": "query-clock"}', "QMP input member 'exec-oob' is unexpected"),
            (b'{"execute": "no-such"}', "The command no-such has not been found"),
            (b'{"execute": "clock-advance"}', "Parameter 'time' is missing"),
            (b'{"execute": "query-clock", "arguments": {"a": 1}}', "Parameter 'a' is unexpected"),
            (b'{"execute": "clock-advance", "arguments": {"time": []}}',
             "Invalid parameter type for 'time', expected: Time"),
            (b'{"execute": "clock-set", "arguments": {"kind": "lunar"}}',
             "Parameter 'kind' does not accept value 'lunar'"),
            (b'{"execute": "qmp_capabilities"}', "Capabilities negotiation is already complete, command ignored"),
        ]:
            await client.send(sent)
            error = (await client.message())["error"]
            assert isinstance(error, dict)
            assert error["desc"] == desc


async def test_pretty(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        assert machine.vm.settings.control is not None
        machine.vm.settings.control.pretty = True
        stream = await trio.open_unix_socket(machine.control_path)
        with trio.fail_after(5):
            data = b""
            while not data.endswith(b"}\r\n"):
                data += await stream.receive_some()
        assert data.startswith(b'{\n    "QMP": {\n        "version": ')
        assert json.loads(data)
        await stream.aclose()


async def test_the_qemu_qmp_client_drives_it(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        script = (
            "import asyncio, sys\n"
            "from qemu.qmp import QMPClient\n"
            "async def main():\n"
            "    client = QMPClient('test')\n"
            "    await client.connect(sys.argv[1])\n"
            "    await client.execute('clock-advance', {'time': '2s'})\n"
            "    print((await client.execute('query-clock'))['time'])\n"
            "    await client.disconnect()\n"
            "asyncio.run(main())\n"
        )
        import sys

        with trio.fail_after(20):
            result = await trio.run_process([sys.executable, "-c", script, machine.control_path], capture_stdout=True)
        assert result.stdout == b"2.0\n"


async def test_nothing_of_it_is_seen_on_qmp(tmp_path: Path) -> None:
    seen = []
    for control in (True, False):
        folder = tmp_path / str(control)
        folder.mkdir()
        async with played(folder, control=control) as machine:
            client = await machine.connect()
            answers = [
                await client.execute(name)
                for name in ("query-commands", "query-chardev", "query-yank", "guest-reboot", "query-version")
            ]
            seen.append(json.dumps(answers).replace(str(folder), ""))
            if not control:
                assert machine.vm.puppeteer is None
                assert not (folder / "control.sock").exists()
    assert seen[0] == seen[1]
    assert "control" not in seen[0].replace("client_migrate", "")


async def test_a_control_client_that_leaves_costs_nothing(tmp_path: Path) -> None:
    async with played(tmp_path) as machine:
        control = await machine.control()
        await control("transcript-follow")
        await control.client.stream.aclose()
        await machine.healthy()
        other = await machine.control()
        assert (await other("query-clock"))["kind"] == "virtual"


async def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    async with played(tmp_path, machine_type="none") as machine:
        control = await machine.control()
        for command in ("guest-reboot", "query-guest", "guest-proceed"):
            with pytest.raises(Refused, match="the machine has no guest"):
                await control(command)


async def test_it_answers_before_the_first_client_has_come(tmp_path: Path) -> None:
    async with played(tmp_path, wait=True) as machine:
        control = await machine.control()
        await control("fault-early-event", count=1)
        with pytest.raises(Refused, match="does not run"):
            await control("guest-reboot")
        await control("clock-advance", time="1m")
        assert (await control("query-guest"))["run-state"] == "prelaunch"
        client = await machine.connect(greeting=False)
        assert (await client.message())["event"] == "RESUME"
        await client.negotiate()
        await control("clock-advance", time="1s")
        assert (await control("query-guest"))["phase"] == "nothing-to-boot"


async def test_an_old_release_replies_before_the_turn_here_too(tmp_path: Path) -> None:
    async with played(tmp_path, release="5.2") as machine:
        control = await machine.control()
        client = await machine.connect()
        await client.send(b'{"execute": "system_reset"}')
        assert await client.message() == {"return": {}}
        assert (await client.message())["event"] == "RESET"
        assert (await control("query-version"))["qemu"]["major"] == 5
