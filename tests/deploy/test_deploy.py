"""What is in scripts/deploy passes those who know its formats, and works where it can be tried."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "scripts" / "deploy"
TOOLS = Path(sys.executable).parent


def run(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", ["qmpd@.service", "qmpd@.socket", "qmpd-fleet@.service"])
def test_units_pass_systemd(unit: str, tmp_path: Path) -> None:
    for each in DEPLOY.glob("qmpd*"):
        shutil.copy(each, tmp_path)
    result = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, str(tmp_path) in result.stderr) == (0, False), result.stderr


def test_the_image_passes_hadolint() -> None:
    run(TOOLS / "hadolint", DEPLOY / "Containerfile")


def test_the_stateful_set_passes_kubernetes() -> None:
    run(TOOLS / "kubernetes-validate", "--strict", DEPLOY / "statefulset.yaml")


def test_serve_takes_the_sockets_of_a_service_manager_and_tells_it_when_it_is_ready(tmp_path: Path) -> None:
    """As sd_listen_fds(3) and sd_notify(3) have it: descriptors from 3 on, READY=1 to a datagram socket."""
    listening = {}
    for name in ("qmp", "control"):
        listening[name] = socket.socket(socket.AF_UNIX)
        listening[name].bind(str(tmp_path / f"{name}.sock"))
        listening[name].listen()
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify.sock"))
    manager.settimeout(20)
    numbers = {name: os.dup(each.fileno()) for name, each in listening.items()}
    # The shell puts the descriptors where a service manager does, and keeps its own process id.
    script = (
        f"exec 3<&{numbers['qmp']} 4<&{numbers['control']}; "
        'LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=qmp:control exec "$@"'
    )
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", sys.executable, "-m", "qmpd", "serve", "-machine", "none"],
        pass_fds=tuple(numbers.values()),
        env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify.sock")},
        stdout=subprocess.DEVNULL,
    )
    try:
        assert manager.recv(100) == b"READY=1"
        for name in ("qmp", "control"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(tmp_path / f"{name}.sock"))
                greeting = client.recv(1000)
                assert b'"QMP"' in greeting
                assert (b"control" in greeting) is (name == "control")
    finally:
        process.terminate()
        assert process.wait(10) == 0
        for number in numbers.values():
            os.close(number)
        for each in (*listening.values(), manager):
            each.close()
    # The files are the service manager's, and stay.
    assert (tmp_path / "qmp.sock").exists()
    assert (tmp_path / "control.sock").exists()
