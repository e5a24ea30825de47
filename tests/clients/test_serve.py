"""`qmpd serve` as a process: its sockets, its signals, its log and what it prints."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from qmpd.server.settings import VMSettings
from tests.clients.programs import PATIENCE, QMPD, read_all, read_lines, serving, without_times
from tests.emulator.support import PROGRAM

NEGOTIATE = b'{"execute": "qmp_capabilities"}'


def refused(*arguments: str) -> str:
    """What is printed by a `qmpd` that does not start."""
    ended = subprocess.run([*QMPD, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


def own_name() -> str:
    """How a signal's receiver is told who sent it: as the sender was started."""
    return Path("/proc/self/cmdline").read_bytes().partition(b"\0")[0].decode()


def test_it_tells_where_it_listens_and_what_to_type(tmp_path: Path) -> None:
    first, second = tmp_path / "a b.sock", tmp_path / "c.sock"
    with serving(first, "--socket", str(first), "-qmp-pretty", f"unix:{second},server,nowait", listen=False) as server:
        with server.connect(second) as client:
            assert read_lines(client, 2) == [b"{\r\n", b'    "QMP": {\r\n']
        status, output, errors = server.end()
    assert status == 0
    assert output == (
        f"QMP of QEMU {VMSettings().release} listens on {first}\n"
        f"QMP of QEMU {VMSettings().release} listens on {second}\n"
        f"next: socat - UNIX-CONNECT:'{first}'   or: qmp-shell '{first}'\n"
    )
    assert errors.startswith("qmpd: terminating on signal 15 from pid ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_socket_of_its_own(tmp_path: Path, variable: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    environment[variable] = str(tmp_path)
    with subprocess.Popen(
        [*QMPD, "serve", "-machine", "none"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().rsplit(" ", 1)[1].strip())
        assert path.is_relative_to(tmp_path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if variable == "TMPDIR":
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert list(tmp_path.iterdir()) == []


def test_its_socket_is_private_and_no_live_server_loses_one(tmp_path: Path) -> None:
    path = tmp_path / "vm.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with serving(path, "-machine", "none") as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = refused("serve", "--socket", str(path))
        assert text == f"qmpd: Failed to bind socket to {path}: Address already in use\n"
        server.greeted().close()
        assert server.end()[0] == 0
    assert not path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_announced_to_every_client(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path / "vm.sock", "-machine", "none") as server:
        clients = [server.greeted() for _ in range(3)]
        for client in clients:
            client.sendall(NEGOTIATE)
            read_lines(client, 1)
        status, _, errors = server.end(number)
        for client in clients:
            assert without_times(read_all(client)) == (
                b'{"timestamp": T, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-signal"}}\r\n'
            )
            client.close()
    assert status == 0
    assert errors == f"qmpd: terminating on signal {int(number)} from pid {os.getpid()} ({own_name()})\n"


def test_replies_to_everything_sent_before_the_end(tmp_path: Path) -> None:
    with serving(tmp_path / "vm.sock", "-machine", "none") as server, server.greeted() as client:
        client.sendall(NEGOTIATE + b'{"execute": "query-name"}' * 500 + b'{"execute": "quit"}')
        said = read_all(client)
        assert said.count(b'{"return": {}}\r\n') == 502
        assert server.ended()[0] == 0


def test_pid_file(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with serving(tmp_path / "vm.sock", "-machine", "none", "-pidfile", str(pid_file)) as server:
        server.greeted().close()
        assert pid_file.read_text() == f"{server.process.pid}\n"
        text = refused("serve", "-machine", "none", "--socket", str(tmp_path / "other.sock"), "-pidfile", str(pid_file))
        assert text == "qmpd: cannot create PID file: Cannot lock pid file: Resource temporarily unavailable\n"
        assert not (tmp_path / "other.sock").exists()
        assert server.end()[0] == 0
    assert not pid_file.exists()


def test_wait_holds_the_start(tmp_path: Path) -> None:
    path = tmp_path / "vm.sock"
    with subprocess.Popen(
        [*QMPD, "serve", "-machine", "none", "-v", "-qmp", f"unix:{path},server=on"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert (
            process.stderr.readline()
            == f"qmpd: info: QEMU waiting for connection on: disconnected:unix:{path},server=on\n"
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.settimeout(PATIENCE)
            read_lines(client, 1)
            client.sendall(NEGOTIATE + b'{"execute": "query-status"}')
            assert b'"running": true' in read_lines(client, 2)[1]
            client.sendall(b'{"execute": "quit"}')
            read_all(client)
        assert process.wait(PATIENCE) == 0


def test_one_client_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "vm.sock"
    with serving(
        path, "-machine", "none", "-qmp", f"unix:{path},server=on,wait=off,exclusive=on", listen=False
    ) as server:
        with server.greeted() as first:
            second = server.connect()
            second.sendall(NEGOTIATE)
            second.settimeout(0.2)
            with pytest.raises(TimeoutError):
                second.recv(1)
            first.sendall(NEGOTIATE)
            read_lines(first, 1)
        second.settimeout(PATIENCE)
        assert read_lines(second, 2)[1] == b'{"return": {}}\r\n'
        second.close()


def test_it_logs_only_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "vm.sock"
    for option, connections, messages in (("-S", 0, 0), ("-v", 1, 0), ("-vv", 1, 1)):
        with serving(path, "-machine", "none", option) as server:
            with server.greeted() as client:
                client.sendall(b'{"execute": "quit"}' + NEGOTIATE + b'{"execute": "quit"}')
                read_all(client)
            _, _, errors = server.ended()
            assert all(line.startswith("qmpd: ") for line in errors.splitlines())
            assert bool(errors.count("connected")) == bool(connections)
            assert bool(errors.count("qmp_capabilities")) == bool(messages)


REDIRECTIONS = {
    "closed": ">&-",
    "broken": "",
    "full": ">/dev/full",
    "both closed": "<&- >&- 2>&-",
    "both broken": "2>&1",
}
"""What becomes of standard output and standard error; a pipe that nobody reads stands for standard output first."""


class TestOutputThatNobodyReads:
    @staticmethod
    def start(how: str, *arguments: str) -> subprocess.Popen[str]:
        reads, writes = os.pipe()
        os.close(reads)
        try:
            return subprocess.Popen(
                ["sh", "-c", f'exec "$@" {REDIRECTIONS[how]}', "sh", *arguments],
                # As Python does it by itself: what is written stays in a buffer.
                env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
                stdout=writes,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            os.close(writes)

    @pytest.mark.parametrize("how", REDIRECTIONS)
    @pytest.mark.parametrize("program", [[*QMPD, "serve", "--socket"], [*PROGRAM, "-display", "none", "-qmp"]])
    def test_of_a_server(self, how: str, program: list[str], tmp_path: Path) -> None:
        path = tmp_path / "vm.sock"
        where = str(path) if program[-1] == "--socket" else f"unix:{path},server=on,wait=off"
        with self.start(how, *program, where, "-machine", "none") as process:
            deadline = time.monotonic() + PATIENCE
            with socket.socket(socket.AF_UNIX) as client:
                while client.connect_ex(str(path)):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                client.settimeout(PATIENCE)
                read_lines(client, 1)
                client.sendall(NEGOTIATE)
                assert read_lines(client, 1) == [b'{"return": {}}\r\n']
            process.terminate()
            assert process.wait(PATIENCE) == 0
            assert process.stderr is not None
            told = process.stderr.read()
        assert told == "" if "both" in how else "terminating on signal 15" in told
        assert not path.exists()

    @pytest.mark.parametrize("how", REDIRECTIONS)
    @pytest.mark.parametrize(
        "program",
        [[*QMPD, "--help"], [*QMPD, "serve", "--help"], [*QMPD, "commands"], [*QMPD, "graph"], [*PROGRAM, "-version"]],
        ids=["help", "serve help", "commands", "graph", "version"],
    )
    def test_of_what_only_prints(self, how: str, program: list[str]) -> None:
        with self.start(how, *program) as process:
            _, told = process.communicate(timeout=PATIENCE)
        if how == "full" and program[-1] != "-version":
            # What was wanted is not there; the emulator looks away, as QEMU does.
            assert (process.returncode, told) == (1, "qmpd: standard output: No space left on device\n")
        else:
            assert (process.returncode, told) == (0, "")


def test_a_wrong_command_line_is_refused_in_one_line() -> None:
    assert refused("serve", "-foo") == "qmpd: -foo: invalid option\n"


def test_other_words_are_refused() -> None:
    assert refused("srve") == "qmpd: srve: no such subcommand; did you mean 'serve'?\n"
    assert refused("xyz") == "qmpd: xyz: no such subcommand (qmpd --help lists them)\n"
    assert refused("--xyz") == "qmpd: --xyz: no such option (qmpd --help lists them)\n"
    assert refused().startswith("usage: qmpd ")
