"""Capturing the installed QEMU: the shipped folder comes out again; a running VM's face is copied."""

from __future__ import annotations

import gzip
import json
import os
import pty
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmpd.capture import live
from qmpd.capture.client import Client, Program
from qmpd.capture.reference import NO_MACHINE, OPTIONS
from qmpd.cli.main import main
from qmpd.cli.serve import parse
from qmpd.qapi import BadRelease, load_release
from qmpd.qapi.captured import CapturedError
from qmpd.qapi.twin import Twin
from tests.devices import needs_pseudo_terminals
from tests.real_qemu import programs

RELEASE = "7.2"
RUN = "import sys; from qmpd.cli.main import main; sys.exit(main())"
UUID = "8b1c3a52-2f4c-4d4e-9a57-0d6c4a3b2f10"


@pytest.fixture(scope="module")
def program() -> str:
    """The command line that starts QEMU 7.2."""
    if RELEASE not in programs():
        pytest.skip(f"no QEMU {RELEASE} here")
    return shlex.join(programs()[RELEASE])


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder, unpacked: versions of zlib differ in how they say the same."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {name: gzip.decompress(data) if name.endswith(".gz") else data for name, data in files.items()}


def test_the_shipped_folder_comes_out_again(program: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shipped = load_release(RELEASE).directory
    with Program(program, OPTIONS[NO_MACHINE]) as running:
        package = running.client.greeting["version"]["package"]
    if package != load_release(RELEASE).package:
        pytest.skip(f"the QEMU here is another build: {package}")
    folder = tmp_path / f"qemu-{RELEASE}"
    shutil.copytree(shipped, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    # Files that are not there, or say something else, are made anew; the others stay as they are, to the byte.
    spoilt = ("commands.jsonl", "answers.jsonl.gz", "release.json")
    (folder / spoilt[0]).unlink()
    (folder / spoilt[1]).write_bytes(b"damaged")
    (folder / spoilt[2]).write_bytes(b"{}")
    assert main(["capture", "--qemu", program, "-o", str(folder)]) == 0
    assert contents(folder) == contents(shipped)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in spoilt} == {
        name: data for name, data in before.items() if name not in spoilt
    }
    assert capfd.readouterr() == ("", "")


class VM:
    """A running QEMU with a monitor's socket, and what it is asked from outside of capture."""

    def __init__(self, program: str, path: Path) -> None:
        self.path = str(path)
        options = ["-machine", "pc,accel=tcg", "-m", "48", "-smp", "2", "-display", "none", "-nodefaults", "-S"]
        options += ["-name", "original", "-uuid", UUID, "-device", "pvpanic"]
        self.process = subprocess.Popen(
            [*shlex.split(program), "-qmp", f"unix:{path},server=on,wait=off", *options], stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            if path.exists():
                return
            time.sleep(0.01)
        raise AssertionError("QEMU does not start")

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path)
        return connection

    def ask(self, command: str, arguments: dict[str, Any] | None = None) -> bytes:
        client = Client(self.connect())
        try:
            return client.ask(command, arguments).reply
        finally:
            client.close()


@pytest.fixture(scope="module")
def vm(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VM]:
    running = VM(program, tmp_path_factory.mktemp("vm") / "monitor.sock")
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="module")
def twin(vm: VM, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    path = tmp_path_factory.mktemp("twin") / "original.twin"
    assert main(["capture", "--socket", vm.path, "-o", str(path)]) == 0
    return Twin(path, load_release)


def spelled(found: bytes | CapturedError | None) -> bytes:
    assert found is not None
    if isinstance(found, bytes):
        return b'{"return": ' + found + b"}"
    return json.dumps({"error": {"class": found.error_class, "desc": found.description}}).encode()


def test_a_twin_knows_what_the_vm_was(twin: Twin) -> None:
    facts = twin.facts
    assert (facts.name, facts.uuid, facts.memory, facts.cpus) == ("original", UUID, 48 << 20, 2)
    assert (facts.machine_type, facts.status, facts.base) == ("pc", "prelaunch", RELEASE)
    base = load_release(RELEASE)
    assert list(twin.commands) == list(base.commands)
    assert twin.introspection_reply == base.introspection_reply
    assert vars(twin.behaviour) == vars(base.behaviour)
    assert twin.human_monitor.help(["stop"]) == base.human_monitor.help(["stop"])
    twin.commands["block_resize"].check({"device": "x", "size": 1})


def test_a_twin_answers_every_query_as_the_vm(vm: VM, twin: Twin) -> None:
    compared = 0
    for command in [name for name in twin.commands if name.startswith("query-") and twin.commands[name].captured]:
        reply = vm.ask(command)
        if b"is missing" in reply or command == "query-qmp-schema":
            continue
        assert spelled(twin.captured(command, {}, "pc", {})) == reply
        compared += 1
    assert compared > 55
    assert {"query-name", "query-cpus-fast", "query-pci"} <= twin.answered_first
    assert not {"query-status", "query-commands"} & twin.answered_first


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("qom-list", {"path": "/machine/unattached"}),
        ("qom-list", {"path": "/no/such/path"}),
        ("qom-list-types", {"implements": "pci-device"}),
        ("device-list-properties", {"typename": "pvpanic"}),
        ("device-list-properties", {"typename": "e1000"}),
        ("qom-list-properties", {"typename": "memory-backend-ram"}),
        ("query-named-block-nodes", {"flat": True}),
        ("query-rocker", {"name": "nope"}),
    ],
)
def test_a_twin_answers_with_arguments_too(vm: VM, twin: Twin, command: str, arguments: dict[str, Any]) -> None:
    assert spelled(twin.captured(command, arguments, "pc", {})) == vm.ask(command, arguments)


def test_only_harmless_commands_are_sent(vm: VM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twin: Twin) -> None:
    sent: list[str] = []
    really = Client.ask_all

    def record(client: Client, questions: list[tuple[str, dict[str, Any] | None]]) -> Any:
        sent.extend(command for command, _ in questions)
        return really(client, questions)

    monkeypatch.setattr(Client, "ask_all", record)
    # As if no release were known that is the same build: now the types are asked for as well.
    monkeypatch.setattr(live, "nearest", lambda version: load_release("5.2"))
    assert main(["capture", "--socket", vm.path, "-o", str(tmp_path / "other.twin")]) == 0
    others = {command for command in sent if not command.startswith("query-")}
    assert others == {"qom-list", "qom-list-types", "device-list-properties"}
    other = Twin(tmp_path / "other.twin", load_release)
    asked = {"typename": "pvpanic"}
    assert other.captured("device-list-properties", asked, "pc", {}) == twin.captured(
        "device-list-properties", asked, "pc", {}
    )
    # What it could not be asked is the nearest release's.
    asked = {"typename": "memory-backend-ram"}
    nearest = load_release("5.2").captured("qom-list-properties", asked, "pc", {})
    assert other.captured("qom-list-properties", asked, "pc", {}) == nearest
    assert set(other.names.alternates) <= set(load_release(RELEASE).names.alternates)
    assert "StrOrNull" in other.names.alternates.values()


def test_a_monitor_that_has_a_client_is_not_waited_for(
    vm: VM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "_PATIENCE", 0.3)
    with vm.connect() as first:
        assert first.recv(10)
        assert main(["capture", "--socket", vm.path, "-o", str(tmp_path / "x")]) == 1
    assert "is another client connected there?" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_twin_s_file_is_a_release(vm: VM, tmp_path: Path) -> None:
    path = tmp_path / "again.twin"
    assert main(["capture", "--socket", vm.path, "-o", str(path)]) == 0
    first = path.read_bytes()
    assert main(["capture", "--socket", vm.path, "-o", str(path)]) == 0
    assert path.read_bytes() == first
    release = load_release(str(path))
    assert isinstance(release, Twin)
    extended = load_release(str(path), ["sleep"])
    assert extended.captured("query-name", {}, "pc", {}) == b'{"name": "original"}'
    assert "query-name" in extended.answered_first


def test_a_served_twin_is_that_vm_and_lives_on(vm: VM, tmp_path: Path) -> None:
    path, monitor = str(tmp_path / "original.twin"), str(tmp_path / "twin.sock")
    assert main(["capture", "--socket", vm.path, "-o", path]) == 0
    settings, _, _, _ = parse(["--twin", path, "-name", "other"]) or pytest.fail("help")
    machine = settings.machine
    assert (machine.name, machine.uuid, machine.memory, machine.topology.cpus) == ("other", UUID, 48 << 20, 2)
    assert machine.start_paused
    server = subprocess.Popen(
        [sys.executable, "-c", RUN, "serve", "--twin", path, "--socket", monitor], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline()
        with socket.socket(socket.AF_UNIX) as theirs, vm.connect() as ours:
            theirs.connect(monitor)
            twin, original = Client(theirs), Client(ours)
            assert twin.greeting["version"] == original.greeting["version"]
            queries = [(name, None) for name in load_release(RELEASE).commands if name.startswith("query-")]
            for question, one, other in zip(queries, twin.ask_all(queries), original.ask_all(queries), strict=True):
                assert one == other, question
            assert twin.ask("cont").value == b"{}"
            assert twin.ask("query-status").result["status"] == "running"
    finally:
        server.terminate()
        server.communicate()


def test_a_file_that_is_no_twin_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"nothing")
    with pytest.raises(BadRelease, match="no twin's file"):
        load_release(str(path))


@needs_pseudo_terminals
def test_progress_shows_on_a_terminal_only(vm: VM, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ["capture", "--socket", vm.path, "-o", str(tmp_path / "x")]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert out == b""
    assert b"answers" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of --qemu and --socket is needed"),
        (["--qemu", "x", "--socket", "y"], "one of --qemu and --socket is needed"),
        (["--socket", "x"], "--socket needs -o FILE"),
        (["--qemu"], "--qemu: needs a value"),
        (["--qemu", "a", "--qemu", "b"], "--qemu: given twice"),
        (["--nope"], "--nope: no such option"),
        (["--qemu", "/no/such/program"], "cannot start '/no/such/program'"),
        (["--qemu", "false"], "'false' is no QEMU that answers"),
        (["--socket", "/no/such/socket", "-o", "x"], "/no/such/socket: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("qmpd capture: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_help_tells_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "--help"]) == 0
    assert "usage: qmpd capture --qemu PROGRAM" in capsys.readouterr().out
