"""Any options and any arguments, sent to a fleet's socket and to a machine's control socket: both live on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from qmpd.control.fleet import fleet_interface
from qmpd.control.spelling import read, spell
from qmpd.control.whole import interface
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Object
from tests.control.client import PATIENCE, Client, Nested

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from qmpd.control.interface import Interface

ROOT = Path(__file__).parent.parent.parent

TEXTS = st.sampled_from([
    "", "0", "1s", "0.5", "1e9", "-5s", "146y", "99999999999999999999h", "9" * 5000, "1." + "9" * 5000 + "h", "\ud800",
    "\0", "a" * 100_000, "/machine", "query-status", "RTC_CHANGE", "DEVICE_DELETED", "net0", "never", "nan", "/",
])  # fmt: skip
NUMBERS: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, -1, 0.5, 255, 1e9, 1e18, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 1e308, -1e308, 5e-324]
)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    st.sampled_from([Nested(10), Nested(300), Nested(1000)]),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)

OPTIONS = st.lists(
    st.sampled_from([
        *((name, value) for name in ("-m", "-smp", "-name", "-uuid", "-clock", "-guest", "-device", "-drive", "-cpu",
          "-machine", "-accel", "-action", "-twin", "-release", "-extension", "-incoming", "-watchdog-action")
          for value in ("", "help", "9" * 5000, "\0", "\udcff", "/", "/dev/null", "none", "=", ",,", "a" * 300)),
        ("--help",), ("-h",), ("",), ("-",), ("-S",), ("-preconfig",), ("-no-shutdown",), ("-qmp", "x"), ("-vv",),
        ("-clock", "scaled=1e308"), ("-clock", "scaled=1e6"), ("-clock", "scaled=5e-324"), ("-clock", "virtual"),
        ("-clock", "scaled=nan"), ("-clock", "scaled=-1"), ("-m", "1e30"), ("-smp", "1,maxcpus=288"),
        ("-guest", "boot-time=" + "9" * 5000), ("-guest", "firmware-resets=" + "9" * 5000), ("-device", "pvpanic"),
        ("-guest", "boot-time=1s,on-boot=reboot"), ("-device", "ib700"), ("-release", "5.2"), ("-release", "11.1"),
        ("-extension", "live-update"), ("-socket", "x"), ("-control", "x"), ("-pidfile", "x"), ("-transcript", "x"),
    ]),
    max_size=3,
).map(lambda words: [word for option in words for word in option])  # fmt: skip


def arguments(described: Interface, name: str) -> st.SearchStrategy[Any]:
    """Values of the type of this name."""
    found = described.introspection.type(name)
    if isinstance(found, Builtin):
        if found.name in ("int", "number"):
            return NUMBERS.filter(lambda value: found.name == "number" or isinstance(value, int))
        return {"str": TEXTS, "bool": st.booleans()}.get(found.name, VALUES)
    if isinstance(found, Enumeration):
        return st.sampled_from(found.values)
    if isinstance(found, Array):
        return st.lists(arguments(described, found.element), max_size=2)
    if isinstance(found, Alternate):
        return st.one_of([arguments(described, branch) for branch in found.branches])
    assert isinstance(found, Object)
    required = {each.name: arguments(described, each.type) for each in found.members if not each.optional}
    optional = {each.name: arguments(described, each.type) for each in found.members if each.optional}
    return st.fixed_dictionaries(required, optional=optional)


def commands(described: Interface, leave_out: str = "") -> st.SearchStrategy[dict[str, Any]]:
    """Commands whose arguments are of the right types, whatever they say, and some that are not."""
    types = {
        each["name"]: each["arg-type"]
        for each in described.entries
        if each["meta-type"] == "command" and each["name"] != leave_out
    }
    made = [
        st.fixed_dictionaries(
            {"execute": st.just(name), "arguments": arguments(described, kind)},
            optional={"id": VALUES},
        )
        for name, kind in types.items()
    ]
    return st.one_of(*made, st.fixed_dictionaries({"execute": st.sampled_from([*types]), "arguments": VALUES}))


class RunningFleet:
    """`qmpd fleet` as a process, and a client of its socket."""

    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/fleet/fleet.sock"
        self.errors = Path(folder, "stderr")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qmpd", "fleet", "--count", "0", "--dir", f"{folder}/fleet"],
                stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT,
            )  # fmt: skip
        try:
            self.client = self._connect()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _connect(self) -> Client:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return Client(self.path)
            except (FileNotFoundError, ConnectionRefusedError):
                # The socket is not there, or not listening yet.
                assert self.process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)

    def returned(self, command: str, **arguments: object) -> Any:
        return self.client.ask({"execute": command, "arguments": arguments})["return"]


@pytest.fixture(scope="module")
def fleet() -> Iterator[RunningFleet]:
    with tempfile.TemporaryDirectory() as folder:
        running = RunningFleet(folder)
        try:
            with running.client:
                yield running
            running.process.terminate()
            assert running.process.wait(PATIENCE) == 0
        finally:
            running.process.kill()
            running.process.wait()
        told = running.errors.read_text()
        assert "Traceback" not in told, told[told.index("Traceback") :][:3000]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(command=st.one_of(commands(fleet_interface(), "quit"), OPTIONS))
def test_a_fleet_outlives_whatever_it_is_told(fleet: RunningFleet, command: Any) -> None:
    if isinstance(command, list):
        command = {"execute": "create", "arguments": {"options": command}}
    reply = fleet.client.ask(command)
    if command["execute"] == "create" and "return" in reply:
        # It may have ended by itself.
        fleet.client.ask({"execute": "destroy", "arguments": {"name": reply["return"]["name"]}})
    assert fleet.returned("query-statistics")["failed"] == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(options=OPTIONS, told=st.lists(commands(interface()), min_size=1, max_size=8))
def test_a_machine_outlives_whatever_its_puppeteer_is_told(
    fleet: RunningFleet, options: list[str], told: list[dict[str, Any]]
) -> None:
    # That may take its time, and rightly so.
    assume("reboot" not in str([options, told]))
    made = fleet.client.ask({"execute": "create", "arguments": {"options": options}})
    if "return" not in made:
        made = {"return": fleet.returned("create")}
    # Some commands end a machine.
    with contextlib.suppress(ConnectionError, FileNotFoundError):
        with Client(made["return"]["control-path"]) as puppeteer, Client(made["return"]["qmp-path"]):
            for command in told:
                puppeteer.ask(command)
                puppeteer.ask({"execute": "query-clock"})
            puppeteer.ask({"execute": "fault-clear"})
            with Client(made["return"]["qmp-path"]) as client:
                client.ask({"execute": "query-status"})
    fleet.client.ask({"execute": "destroy", "arguments": {"name": made["return"]["name"]}})
    assert fleet.returned("query-statistics")["failed"] == 0


def test_a_long_time_is_passed_in_turns(fleet: RunningFleet) -> None:
    """A guest that reboots all the time for a century: the fleet, its other machines and the machine itself answer."""
    busy = fleet.returned("create", options=["-clock", "virtual", "-guest", "boot-time=0,on-boot=reboot"])
    other = fleet.returned("create")
    with Client(busy["control-path"]) as puppeteer, Client(busy["qmp-path"]) as client:
        puppeteer.socket.sendall(b'{"execute": "clock-advance", "arguments": {"time": "800000h"}}')
        with Client(busy["control-path"]) as second, Client(other["qmp-path"]) as neighbour:
            longest = 0.0
            for asked in (fleet.client, second, neighbour, client) * 5:
                began = time.monotonic()
                command = "query-status" if asked in (neighbour, client) else "query-commands"
                assert "return" in asked.ask({"execute": command})
                longest = max(longest, time.monotonic() - began)
            assert longest < 2
        fleet.returned("destroy", name=busy["name"])
        with pytest.raises(ConnectionError):
            puppeteer.ask({"execute": "query-clock"})
    fleet.returned("destroy", name=other["name"])


def waits_to_be_read(client: socket.socket) -> bool:
    """Whether the other end has not taken yet what was sent."""
    return fcntl.ioctl(client, termios.TIOCOUTQ, b"\0" * 4) != b"\0" * 4


def test_a_signal_ends_a_machine_whose_time_passes(tmp_path: Path) -> None:
    control, socket_path = tmp_path / "control", tmp_path / "qmp"
    line = [sys.executable, "-m", "qmpd", "serve", "--socket", str(socket_path), "-control", f"unix:{control}"]
    line += ["-clock", "virtual", "-guest", "boot-time=0,on-boot=reboot"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        with Client(str(control)) as puppeteer:
            puppeteer.socket.sendall(b'{"execute": "clock-advance", "arguments": {"time": "800000h"}, "id": 1}')
            while waits_to_be_read(puppeteer.socket):
                time.sleep(0.01)
            time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            # What was begun is answered all the same.
            assert b'{"return": {}, "id": 1}\r\n' in puppeteer.lines.readlines()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert os.listdir(tmp_path) == []


@given(depth=st.integers(0, 3000), value=st.one_of(NUMBERS, TEXTS))
def test_deep_values_are_spelled_and_read(depth: int, value: object) -> None:
    import json

    flat = {"a": [depth, {"b": value}], "c": []}
    assert json.loads(spell(flat)) == flat == read(spell(flat).encode())
    text = spell(Nested(depth).value())
    assert text.count("[") + text.count("{") == depth
    if depth < 1000:
        assert spell(read(text.encode())) == text
