"""A session that fails inside at what a client has sent: that client is told and disconnected, the others go on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import orjson
import pytest
import trio

from qmpd.control.session import PuppetSession
from qmpd.human.editor import LineEditor
from qmpd.machine import MachineSettings
from qmpd.monitor.session import Session
from qmpd.server import log
from qmpd.server.settings import MonitorSettings, VMSettings
from qmpd.server.virtual_machine import VirtualMachine
from qmpd.wire import Decoder, decoder, plain, scanner
from tests.server.support import Client
from tests.server.test_fleet import running as running_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

POISON = b"poison"
FAILURE = "qmpd failed at reading this, which is a defect of qmpd: ZeroDivisionError: planted"
DISCONNECTED = "is disconnected: qmpd failed at reading what it sent, a defect of qmpd"


def failing(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same, but for input that holds the poison."""

    def fail(self: object, data: bytes, *more: object) -> Any:
        if POISON in bytes(data):
            raise ZeroDivisionError("planted")
        return original(self, data, *more)

    return fail


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(log, "error", lines.append)
    return lines


@pytest.fixture
def told(errors: list[str]) -> Iterator[list[str]]:
    """What is printed on standard error; it has to be of one failure in the end."""
    yield errors
    assert len(errors) == 2
    assert errors[0].startswith("client ")
    assert errors[0].endswith(DISCONNECTED)
    assert errors[1].startswith("Traceback")
    assert errors[1].endswith("ZeroDivisionError: planted")


async def poisoned(client: Client, before: int = 3) -> None:
    """Send requests and the poison at once: the requests are executed, the poison is answered, that is the end."""
    requests = [b'{"execute":"query-version","id":%d}\n' % number for number in range(before)]
    await client.send(b"".join(requests))
    await client.send(b'{"execute":"poison"}\n{"execute":"query-version","id":"lost"}')
    replies = [await client.message() for _ in range(before)]
    assert [reply.get("id") for reply in replies] == list(range(before))
    assert await client.message() == {"error": {"class": "GenericError", "desc": FAILURE}}
    assert await client.line() is None


class Machine:
    """A served machine with a socket of each kind: `qmp`, `pretty`, `control`, `human` and `qtest`."""

    def __init__(self, folder: Path, with_control: bool) -> None:
        self.folder = folder
        kinds = {
            "qmp": MonitorSettings(path=str(folder / "qmp")),
            "human": MonitorSettings(path=str(folder / "human"), mode="readline"),
            "qtest": MonitorSettings(path=str(folder / "qtest"), mode="qtest"),
        }
        control = MonitorSettings(path=str(folder / "control"), chardev="control") if with_control else None
        machine = MachineSettings(qtest_log="none")
        settings = VMSettings(release="7.2", machine=machine, monitors=list(kinds.values()), control=control)
        self.vm = VirtualMachine(settings)
        self.vm.listen()
        self.status: int | None = None
        self.clients: list[Client] = []

    async def run(self) -> None:
        self.status = await self.vm.run()

    async def connect(self, kind: str) -> Client:
        with trio.fail_after(5):
            client = Client(await trio.open_unix_socket(str(self.folder / kind)))
        self.clients.append(client)
        if kind in ("qmp", "control"):
            await client.negotiate()
        elif kind == "human":
            await client.up_to(b"(qemu) ")
        return client


async def with_machine(
    folder: Path, fail: Callable[[Machine], Any], with_control: bool = False, others: tuple[str, ...] = ("qmp",)
) -> None:
    """Run a machine, let one client fail, and see that clients from before and new ones are served to the end."""
    machine = Machine(folder, with_control)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            first = [await machine.connect(kind) for kind in others]
            await fail(machine)
            for client in [*first, *[await machine.connect(kind) for kind in others]]:
                assert "return" in await client.execute("query-version")
            assert (await first[0].ask(b'{"execute":"quit"}') or b"").startswith(b'{"timestamp"')
    finally:
        for client in machine.clients:
            client.stream.socket.close()
    assert machine.status == 0


PARTS = [
    (Decoder, "feed"),
    (Decoder, "feed_plain"),
    (scanner.Scanner, "scan"),
    (Session, "receive"),
]


@pytest.mark.parametrize(("owner", "name"), PARTS, ids=[name for _, name in PARTS])
async def test_a_qmp_client(
    owner: type, name: str, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "scan":
        monkeypatch.setattr(Decoder, "feed_plain", lambda self, data: None)
        monkeypatch.setattr(decoder, "take_plain", lambda data, position, messages: position)
    monkeypatch.setattr(owner, name, failing(getattr(owner, name)))

    async def fail(machine: Machine) -> None:
        client = await machine.connect("qmp")
        # What came in an earlier piece is executed, whatever becomes of later ones.
        requests = b'{"execute":"query-version","id":1}{"execute":"query-version","id":2}'
        await client.send(requests)
        assert [(await client.message())["id"] for _ in range(2)] == [1, 2]
        await poisoned(client, before=0)

    await with_machine(tmp_path, fail)


async def test_a_qmp_client_with_much_in_one_piece(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "feed_plain", failing(Decoder.feed_plain))

    async def fail(machine: Machine) -> None:
        client = await machine.connect("qmp")
        await client.send(b'{"execute":"query-version"}' * 100 + b'{"execute":"poison"}')
        # What was read before is answered.
        message = await client.message()
        while "return" in message:
            message = await client.message()
        assert message == {"error": {"class": "GenericError", "desc": FAILURE}}
        assert await client.line() is None

    await with_machine(tmp_path, fail)


async def test_what_orjson_may_raise(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "loads", partial(failing(lambda self, data: orjson.loads(data)), None))

    async def fail(machine: Machine) -> None:
        await poisoned(await machine.connect("qmp"), before=0)

    await with_machine(tmp_path, fail)


async def test_with_a_puppeteer(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "feed", failing(Decoder.feed))

    async def fail(machine: Machine) -> None:
        control = await machine.connect("control")
        client = await machine.connect("qmp")
        assert any(type(session) is PuppetSession for session in machine.vm.dispatcher.sessions)
        await poisoned(client, before=0)
        assert "return" in await control.execute("query-version")

    await with_machine(tmp_path, fail, with_control=True, others=("qmp", "control"))


async def test_a_client_of_the_control_socket(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "feed", failing(Decoder.feed))

    async def fail(machine: Machine) -> None:
        await poisoned(await machine.connect("control"), before=0)

    await with_machine(tmp_path, fail, with_control=True, others=("qmp", "control"))


async def test_a_client_of_a_fleet(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "feed", failing(Decoder.feed))
    async with running_fleet(tmp_path / "fleet", 2) as fleet:
        control, machine = await fleet.control(), await fleet.machine(0)
        await poisoned(await fleet.control(), before=0)
        for client in (control, machine, await fleet.control(), await fleet.machine(1)):
            assert "return" in await client.execute("query-version")


async def test_a_client_of_a_machine_of_a_fleet(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "feed", failing(Decoder.feed))
    async with running_fleet(tmp_path / "fleet", 2) as fleet:
        control, machine = await fleet.control(), await fleet.machine(0)
        await poisoned(await fleet.machine(0), before=0)
        for client in (control, machine, await fleet.machine(0), await fleet.machine(1)):
            assert "return" in await client.execute("query-version")
        statistics = (await control.execute("query-statistics"))["return"]
        assert isinstance(statistics, dict)
        assert (statistics["machines"], statistics["failed"]) == (2, 0)


async def test_a_person_at_the_human_monitor(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    key = LineEditor.key

    def fail_at_a_bang(editor: LineEditor, byte: int) -> str | None:
        if byte == ord("!"):
            raise ZeroDivisionError("planted")
        return key(editor, byte)

    monkeypatch.setattr(LineEditor, "key", fail_at_a_bang)

    async def fail(machine: Machine) -> None:
        other, client = await machine.connect("human"), await machine.connect("human")
        await client.send(b"info name\ninfo !")
        shown = await client.rest()
        assert shown.endswith(f"\r\nError: {FAILURE}\r\n".encode())
        await other.send(b"info status\n")
        await other.up_to(b"VM status: running\r\n(qemu) ")

    await with_machine(tmp_path, fail)


async def test_a_test_program(tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from qmpd.qtest.protocol import QtestSession

    execute = failing(lambda self, line: "OK")
    monkeypatch.setattr(QtestSession, "_execute", lambda self, words: execute(self, " ".join(words).encode()))

    async def fail(machine: Machine) -> None:
        other, client = await machine.connect("qtest"), await machine.connect("qtest")
        await client.send(b"endianness\npoison\nendianness\n")
        assert await client.rest() == f"OK\nFAIL {FAILURE}\n".encode()
        await other.send(b"endianness\n")
        await other.up_to(b"OK\n")

    await with_machine(tmp_path, fail)


async def test_a_session_that_cannot_even_tell(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "feed", failing(Decoder.feed))
    monkeypatch.setattr(Session, "fail", failing(Session.receive))

    async def fail(machine: Machine) -> None:
        client = await machine.connect("qmp")
        await client.send(b'{"execute":"poison"}')
        assert await client.line() is None

    await with_machine(tmp_path, fail)
