"""The pid file, alone and against QEMU's."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from qmpd.server.pid_file import PidFile, PidFileError

QEMU = shutil.which("qemu-system-x86_64")


def test_it_holds_the_process_id_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("an older and longer content\n")
    path.chmod(0o600)
    pid_file = PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pid_file.remove()
    assert not path.exists()


def test_a_relative_path_is_removed_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pid_file = PidFile("pid")
    monkeypatch.chdir("/")
    pid_file.remove()
    assert not (tmp_path / "pid").exists()


def test_a_locked_file_is_refused_until_it_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "pid")
    first = PidFile(path)
    with pytest.raises(PidFileError, match=r"^cannot create PID file: Cannot lock pid file: Resource temporarily"):
        PidFile(path)
    first.remove()
    PidFile(path).remove()


def test_another_file_under_its_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pid_file = PidFile(str(path))
    path.unlink()
    path.write_text("another's\n")
    pid_file.remove()
    assert path.read_text() == "another's\n"


@pytest.mark.parametrize(("name", "reason"), [("none/pid", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_created(tmp_path: Path, name: str, reason: str) -> None:
    path = f"{tmp_path}/{name}"
    with pytest.raises(PidFileError) as caught:
        PidFile(path)
    assert str(caught.value) == f"cannot create PID file: Could not create '{path}': {reason}"
    with pytest.raises(PidFileError) as caught:
        PidFile(path, "Cannot open pid file: {reason}")
    assert str(caught.value) == f"cannot create PID file: Cannot open pid file: {reason}"


@pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")
def test_qemu_and_qmpd_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    command = [str(QEMU), "-machine", "none", "-display", "none", "-nodefaults", "-pidfile", str(path)]
    pid_file = PidFile(str(path))
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (refused.returncode, refused.stderr) == (
        1,
        "qemu-system-x86_64: cannot create PID file: Cannot lock pid file: Resource temporarily unavailable\n",
    )
    pid_file.remove()
    with subprocess.Popen([*command, "-qmp", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as qemu:
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        qemu.stdout.readline()
        with pytest.raises(PidFileError, match="Cannot lock pid file"):
            PidFile(str(path))
        qemu.stdin.write(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
    assert not path.exists()
