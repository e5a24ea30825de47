"""Monitors that are objects (11.1): on the command line and at any time later, with the clients that they have.

The real program, where it is here, is asked, too.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.support import PROGRAM, run
from tests.emulator.test_dialects import ACCEPTED, PROMPT, REQUEST, TELNET, Machine, banner, expect
from tests.emulator.test_dialects import running as running_machine
from tests.real_qemu import programs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

RELEASE = "11.1"
REAL = [pytest.param(program, id="QEMU") for release, program in programs().items() if release == RELEASE]
BOTH = pytest.mark.parametrize("program", [pytest.param(PROGRAM, id="qmpd"), *REAL])
GREETING = (
    '{"QMP": {"version": {"qemu": {"micro": 3, "minor": 1, "major": 11}, "package": "Debian 1:11.1.3+ds-1"}, '
    '"capabilities": ["oob"]}}\r\n'
)
OWN = {"name": "compat_monitor0", "type": "child<monitor-qmp>"}
_NUMBERS = itertools.count()


class Client:
    """A client of a monitor on a socket."""

    def __init__(self, machine: Machine) -> None:
        self.socket = machine.connect()
        self.file = self.socket.makefile("rwb")

    def line(self) -> str:
        return self.file.readline().decode()

    def ask(self, command: str, **arguments: object) -> Any:
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.file.flush()
        return json.loads(self.line())

    def hears_nothing(self) -> None:
        self.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            self.socket.recv(1)
        self.socket.settimeout(10)

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@contextmanager
def running(program: list[str], *options: str) -> Iterator[Machine]:
    """A machine with a character device `c` that nobody uses."""
    device = "socket,id=c,host=127.0.0.1,port=PORT,server=on,wait=off"
    with running_machine(program, RELEASE, "-chardev", device, *options) as machine:
        yield machine


def add(machine: Machine, kind: str = "monitor-qmp", name: str = "m", chardev: str = "c", **more: object) -> Any:
    return machine.ask("object-add", **{"qom-type": kind, "id": name, "chardev": chardev, **more})


def objects(machine: Machine) -> list[Any]:
    return [each for each in machine.ask("qom-list", path="/objects") if each["name"] != "type"]


def is_open(machine: Machine, label: str = "c") -> bool | None:
    found = {each["label"]: each["frontend-open"] for each in machine.ask("query-chardev")}
    return found.get(label)


@BOTH
@pytest.mark.parametrize("option", ["monitor-qmp,id=m,chardev=c", '{"qom-type":"monitor-qmp","id":"m","chardev":"c"}'])
def test_the_command_line_makes_one(program: list[str], option: str) -> None:
    with running(program, "-object", option) as machine:
        client = Client(machine)
        assert client.line() == GREETING
        assert client.ask("qmp_capabilities") == {"return": {}}
        assert objects(machine) == [{"name": "m", "type": "child<monitor-qmp>"}, OWN]
        for name, value in {"chardev": "c", "pretty": False, "close-action": "none"}.items():
            assert machine.ask("qom-get", path="/objects/m", property=name) == value
        assert is_open(machine)
        why = "Cannot delete the current QMP monitor"
        assert client.ask("object-del", id="m")["error"]["desc"] == why
        client.close()
        # The next client has it.
        client = Client(machine)
        assert client.line() == GREETING
        assert machine.ask("object-del", id="m") == {}
        client.hears_nothing()
        assert objects(machine) == [OWN]
        assert is_open(machine) is False
        assert machine.ask("chardev-remove", id="c") == {}
        client.close()


@BOTH
def test_one_is_made_later(program: list[str]) -> None:
    with running(program) as machine:
        # Who is connected already is greeted.
        client = Client(machine)
        client.hears_nothing()
        assert add(machine) == {}
        assert client.line() == GREETING
        assert client.ask("qmp_capabilities") == {"return": {}}
        machine.ask("stop")
        assert json.loads(client.line())["event"] == "STOP"
        assert add(machine, name="n")["desc"] == "chardev 'c' is already in use"
        assert add(machine, name="n", chardev="nothing")["desc"] == 'chardev "nothing" not found'
        assert machine.ask("chardev-remove", id="c")["desc"] == "Chardev 'c' is busy"
        assert machine.ask("object-del", id="m") == {}
        machine.ask("cont")
        client.hears_nothing()
        assert add(machine) == {}
        assert client.line() == GREETING
        assert machine.ask("object-del", id="m") == {}
        client.close()
        assert machine.ask("chardev-remove", id="c") == {}


@BOTH
@pytest.mark.parametrize("dialect", ["tcp", "telnet", "websocket"])
def test_who_is_connected_goes_on_in_his_dialect(program: list[str], dialect: str) -> None:
    way = "" if dialect == "tcp" else f",{dialect}=on"
    device = f"socket,id=c,host=127.0.0.1,port=PORT,server=on,wait=off{way}"
    with running_machine(program, RELEASE, "-chardev", device) as machine:
        client = machine.connect()
        if dialect == "websocket":
            client.sendall(REQUEST)
        expect(client, {"tcp": b"", "telnet": TELNET, "websocket": ACCEPTED}[dialect])
        greeting = GREETING.encode()
        if dialect == "websocket":
            greeting = b"\x82\x7e" + len(greeting).to_bytes(2, "big") + greeting
        for _ in range(2):
            assert add(machine) == {}
            expect(client, greeting)
            assert machine.ask("object-del", id="m") == {}
            machine.becomes(f"{dialect}:127.0.0.1:PORT,server=on <-> 127.0.0.1:THERE")
        # Nobody else is let in meanwhile.
        other = machine.connect()
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.recv(1)
        assert add(machine) == {}
        expect(client, greeting)


@BOTH
def test_one_goes_with_its_client(program: list[str]) -> None:
    with running(program, "-object", "monitor-qmp,id=m,chardev=c,close-action=delete") as machine:
        client = Client(machine)
        assert client.line() == GREETING
        client.close()
        wait_until(lambda: objects(machine) == [OWN])
        assert is_open(machine) is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", machine.port))


@BOTH
def test_a_human_one_stays(program: list[str]) -> None:
    with running(program) as machine:
        assert add(machine, "monitor-hmp") == {}
        client = machine.connect()
        expect(client, banner(RELEASE) + PROMPT)
        assert machine.ask("object-del", id="m")["desc"] == "Deleting HMP monitors is not supported"


@BOTH
def test_those_of_other_options_are_objects_too(program: list[str]) -> None:
    with running(program, "-mon", "c", "-monitor", "null", "-qmp-pretty", "null") as machine:
        assert objects(machine) == [
            {"name": "compat_monitor3", "type": "child<monitor-hmp>"},
            {"name": "compat_monitor1", "type": "child<monitor-hmp>"},
            {"name": "compat_monitor2", "type": "child<monitor-qmp>"},
            OWN,
        ]
        for number, pretty in {0: False, 2: True}.items():
            assert machine.ask("qom-get", path=f"/objects/compat_monitor{number}", property="pretty") is pretty
        assert machine.ask("qom-get", path="/objects/compat_monitor3", property="chardev") == "c"
        assert machine.ask("object-del", id="compat_monitor1")["desc"] == "Deleting HMP monitors is not supported"
        said = machine.ask("human-monitor-command", **{"command-line": "object_del compat_monitor0"})
        assert said == "Error: Cannot delete the current QMP monitor\r\n"
        why = "Parameter 'close-action' does not accept value 'x'"
        values = {"path": "/objects/compat_monitor0", "property": "close-action", "value": "x"}
        assert machine.ask("qom-set", **values)["desc"] == why


@BOTH
def test_what_is_to_become_of_one_can_change(program: list[str]) -> None:
    with running(program, "-object", "monitor-qmp,id=m,chardev=c") as machine:
        client = Client(machine)
        assert client.line() == GREETING
        machine.ask("qom-set", path="/objects/m", property="close-action", value="delete")
        client.close()
        wait_until(lambda: is_open(machine) is None)


def test_each_monitor_has_a_name_of_its_own() -> None:
    line = ["-M", "none", "-nodefaults", "-display", "none", "-qmp", "null", "-object"]
    done = run(*line, "memory-backend-ram,id=compat_monitor0,size=1M", release=RELEASE)
    why = "attempt to add duplicate property 'compat_monitor0' to object (type 'container')"
    assert done.stderr == f"qmpd-system-x86_64: -qmp null: {why}\n"


REFUSED = {
    "monitor-qmp,id=m,chardev=x": 'chardev "x" not found',
    "monitor-qmp,id=m": "-object monitor-qmp,id=m: Parameter 'chardev' is missing",
    "monitor-qmp,id=m,chardev=c,pretty=foo": (
        "-object monitor-qmp,id=m,chardev=c,pretty=foo: Parameter 'pretty' expects 'on' or 'off'"
    ),
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_is_refused(option: str) -> None:
    name = f"qmpd-test-{os.getpid()}-{next(_NUMBERS)}"
    device = f"socket,id=c,path={name},abstract=on,server=on,wait=off"
    done = run("-M", "none", "-nodefaults", "-display", "none", "-chardev", device, "-object", option, release=RELEASE)
    assert done.stderr == f"qmpd-system-x86_64: {REFUSED[option]}\n"
