"""qemu.qmp's asyncio client, talking to a running `qmpd serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient

from tests.clients.programs import PATIENCE, Server, serving


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE))


async def connected(server: Server, name: str = "client") -> QMPClient:
    client = QMPClient(name)
    await client.connect(str(server.path))
    return client


async def next_event(listener: EventListener) -> tuple[str, object]:
    message = await listener.get()
    return str(message["event"]), message.get("data")


def test_commands_and_errors(tmp_path: Path) -> None:
    async def work(server: Server) -> None:
        client = await connected(server)
        assert client.greeting is not None
        assert client.greeting.QMP.capabilities == ["oob"]
        status = await client.execute("query-status")
        assert status == {"status": "running", "singlestep": False, "running": True}
        commands = await client.execute("query-commands")
        assert isinstance(commands, list)
        names = {command["name"] for command in commands}
        assert {"query-status", "migrate-pause", "human-monitor-command"} <= names
        assert isinstance(await client.execute("query-qmp-schema"), list)
        with pytest.raises(ExecuteError, match="The command no-such has not been found") as caught:
            await client.execute("no-such")
        assert caught.value.error_class == "CommandNotFound"
        with pytest.raises(ExecuteError, match="Parameter 'command-line' is missing"):
            await client.execute("human-monitor-command")
        with pytest.raises(ExecuteError, match="migrate-pause"):
            await client.execute("migrate-pause", oob=True)
        await client.disconnect()

    with serving(tmp_path / "vm.sock", "--release", "7.2", "-machine", "none") as server:
        run(work(server))


def test_every_client_hears_events(tmp_path: Path) -> None:
    async def work(server: Server) -> None:
        clients = [await connected(server, f"client {number}") for number in range(3)]
        listeners = [EventListener(["STOP", "RESUME", "RESET"]) for _ in clients]
        for client, listener in zip(clients, listeners, strict=True):
            client.register_listener(listener)
        await clients[0].execute("stop")
        await clients[1].execute("cont")
        await clients[2].execute("system_reset")
        for listener in listeners:
            assert await next_event(listener) == ("STOP", None)
            assert await next_event(listener) == ("RESUME", None)
            assert await next_event(listener) == ("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        # The machine ends for all of them; each is told before its connection is closed.
        shutdowns = [EventListener("SHUTDOWN") for _ in clients]
        for client, listener in zip(clients, shutdowns, strict=True):
            client.register_listener(listener)
        await clients[0].execute("quit")
        for client, listener in zip(clients, shutdowns, strict=True):
            assert await next_event(listener) == ("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
            try:
                await client.disconnect()
            except EOFError:
                pass  # the server closed first

    with serving(tmp_path / "vm.sock", "-machine", "none") as server:
        run(work(server))
        assert server.ended()[0] == 0


def test_many_commands_at_once(tmp_path: Path) -> None:
    async def work(server: Server) -> None:
        client = await connected(server)
        replies = await asyncio.gather(*(client.execute("query-name") for _ in range(200)))
        assert replies == [{"name": "vm1"}] * 200
        await client.disconnect()

    with serving(tmp_path / "vm.sock", "-machine", "none", "-name", "vm1") as server:
        run(work(server))


def test_nobody_listens(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(ConnectError):
            await QMPClient("client").connect(str(tmp_path / "vm.sock"))

    with serving(tmp_path / "vm.sock", "-machine", "none") as server:
        server.end()
    run(work())
