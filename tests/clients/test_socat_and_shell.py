"""People's programs: socat and qmp-shell, talking to a running `qmpd serve`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clients.programs import PATIENCE, QMP_SHELL, SOCAT, Server, serving, without_times

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, '
    b'"package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}\r\n'
)


@pytest.mark.skipif(SOCAT is None, reason="socat is not installed")
class TestSocat:
    """What a person pipes through socat."""

    def talk(self, server: Server, text: bytes) -> bytes:
        ended = subprocess.run(
            [str(SOCAT), "-", f"UNIX-CONNECT:{server.path}"],
            input=text,
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        return without_times(ended.stdout)

    def test_a_half_closed_connection_gets_all_its_replies(self, tmp_path: Path) -> None:
        with serving(tmp_path / "vm.sock", "--release", "7.2", "-machine", "none") as server:
            said = self.talk(
                server,
                b'{"execute": "qmp_capabilities"}\n{"execute": "query-status", "id": 1}\n{"execute": "stop"}\n'
                b"{'execute': 'query-name', 'id': [1.5]}",
            )
            assert said == (
                GREETING + b'{"return": {}}\r\n'
                b'{"return": {"status": "running", "singlestep": false, "running": true}, "id": 1}\r\n'
                b'{"timestamp": T, "event": "STOP"}\r\n'
                b'{"return": {}}\r\n'
                b'{"return": {}, "id": [1.5]}\r\n'
            )

    def test_quit(self, tmp_path: Path) -> None:
        with serving(tmp_path / "vm.sock", "--release", "7.2", "-machine", "none") as server:
            said = self.talk(server, b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
            assert said == (
                GREETING + b'{"return": {}}\r\n'
                b'{"timestamp": T, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}\r\n'
                b'{"return": {}}\r\n'
            )
            status, _, errors = server.ended()
            assert (status, errors) == (0, "")
            assert not server.path.exists()


class TestQMPShell:
    """What a person types into qmp-shell."""

    def type(self, server: Server, text: str, *options: str) -> list[str]:
        ended = subprocess.run(
            [QMP_SHELL, *options, str(server.path)],
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    def test_commands(self, tmp_path: Path) -> None:
        with serving(tmp_path / "vm.sock", "--release", "7.2", "-machine", "none", "-name", "vm1") as server:
            shown = self.type(server, "query-status\nquery-name\nstop\nset-action reboot=shutdown\nno-such a=1\n")
            assert shown == [
                "Welcome to the QMP low-level shell!",
                "Connected to QEMU 7.2.22",
                "",
                '(QEMU) {"return": {"status": "running", "singlestep": false, "running": true}}',
                '(QEMU) {"return": {"name": "vm1"}}',
                '(QEMU) {"return": {}}',
                '(QEMU) {"return": {}}',
                '(QEMU) {"error": {"class": "CommandNotFound", "desc": "The command no-such has not been found"}}',
                "(QEMU) ",
            ]

    def test_human_monitor(self, tmp_path: Path) -> None:
        with serving(tmp_path / "vm.sock", "--release", "7.2", "-S", "-name", "vm1") as server:
            shown = self.type(server, "info status\ninfo name\ncont\nfoo\ninfo status\nstop\n", "-H")
            assert shown == [
                "Welcome to the HMP shell!",
                "Connected to QEMU 7.2.22",
                "",
                "(QEMU) VM status: paused (prelaunch)",
                " (QEMU) vm1",
                " (QEMU) (QEMU) unknown command: 'foo'",
                " (QEMU) VM status: running",
                " (QEMU) (QEMU) ",
            ]
