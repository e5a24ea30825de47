"""What monitors have said before QEMU finds that the machine cannot be made (seen on four releases)."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.emulator.support import run

if TYPE_CHECKING:
    from pathlib import Path

BANNERS = (("7.2", "QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) "),
           ("10.0", "QEMU 10.0.13 monitor - type 'help' for more information\r\n"))  # fmt: skip


@pytest.mark.parametrize(("release", "banner"), BANNERS)
def test_the_human_monitor(release: str, banner: str) -> None:
    def said(*options: str) -> str:
        done = run("-nodefaults", "-display", "none", "-monitor", "stdio", *options, release=release)
        assert done.returncode == 1
        return done.stdout.replace("\n", "\r\n") if "\r" not in done.stdout else done.stdout

    assert said("-device", "foo").replace("\r\r", "\r") == banner
    assert said("-drive", "if=ide").replace("\r\r", "\r") == banner
    assert said("-drive", "driver=foo") == said("-machine", "foo") == "", "there is no monitor yet"


def test_qmp() -> None:
    done = run("-nodefaults", "-display", "none", "-qmp", "stdio", "-device", "foo")
    assert list(json.loads(done.stdout)) == ["QMP"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-device", "foo"), True), (("-kernel", "/nonexistent/kernel"), True), (("-m", "1P"), True),
        (("-accel", "foo"), False), (("-blockdev", "qcow2,file=x,node-name=y"), False), (("-machine", "foo"), None),
    ],
)  # fmt: skip
def test_a_socket_that_connects_is_told_and_closed(tmp_path: Path, options: tuple[str, ...], said: bool | None) -> None:
    """QEMU's own Python waits for the connection before it looks whether the program has ended."""
    path = tmp_path / "monitor"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(5)
        monitor = ("-chardev", f"socket,id=mon,path={path}", "-mon", "chardev=mon,mode=control")
        done = run("-nodefaults", "-display", "none", "-machine", "pc", *monitor, *options)
        assert done.returncode == 1
        if said is None:
            listener.settimeout(0.1)
            with pytest.raises(TimeoutError):
                listener.accept()
            return
        client, _ = listener.accept()
        with client, client.makefile("rb") as stream:
            lines = stream.readlines()
        assert [list(json.loads(line)) for line in lines] == ([["QMP"]] if said else [])


def test_a_socket_that_cannot_connect_is_found_first(tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    option = f"socket,id=mon,path={path}"
    done = run("-nodefaults", "-display", "none", "-chardev", option, "-mon", "chardev=mon", "-device", "foo")
    assert done.returncode == 1
    assert f"-chardev {option}: Failed to connect to '{path}': Connection refused" in done.stderr
    assert "foo" not in done.stderr


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("path=/nonexistent/x", "Failed to connect to '/nonexistent/x': No such file or directory"),
        ("path=/nonexistent/x,server=on", "Failed to bind socket to /nonexistent/x: No such file or directory"),
        ("path=", "Failed to connect to '': Connection refused"),
        ("host=127.0.0.1,port=1,telnet=on", "Failed to connect to '127.0.0.1:1': Connection refused"),
        ("host=::1,port=z", "address resolution failed for ::1:z: Servname not supported for ai_socktype"),
        ("path=/nonexistent/x,reconnect=1", None),
    ],
)
def test_each_socket_is_had_before_the_machine(device: str, why: str | None) -> None:
    option = f"socket,id=c,{device}"
    done = run("-nodefaults", "-display", "none", "-chardev", option, "-device", "foo")
    said = "-device foo: 'foo' is not a valid device model name" if why is None else f"-chardev {option}: {why}"
    assert (done.returncode, done.stderr) == (1, f"qmpd-system-x86_64: {said}\n")


def test_a_socket_that_is_handed_over_is_told() -> None:
    """QEMU's own Python hands one half of a pair over."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as stream:
        option = f"socket,id=mon,fd={theirs.fileno()}"
        monitor = ("-chardev", option, "-mon", "chardev=mon,mode=control")
        done = run("-nodefaults", "-display", "none", *monitor, "-device", "foo", pass_fds=[theirs.fileno()])
        theirs.close()
        assert done.returncode == 1
        assert [list(json.loads(line)) for line in stream] == [["QMP"]]


def test_a_socket_that_several_share_is_opened_once(tmp_path: Path) -> None:
    path = tmp_path / "monitor"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        shared = ("-chardev", f"socket,id=c,path={path}", "-chardev", "mux,id=m,chardev=c")
        assert run("-nodefaults", "-display", "none", *shared, "-device", "foo").returncode == 1
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(("machine", "name"), [("pc", "pc.ram"), ("microvm", "microvm.ram"), ("none", "ram")])
def test_memory_that_no_process_has_addresses_for(machine: str, name: str) -> None:
    done = run("-nodefaults", "-display", "none", "-machine", machine, "-m", "1P")
    text = f"cannot set up guest memory '{name}': Cannot allocate memory"
    assert (done.returncode, done.stderr) == (1, f"qmpd-system-x86_64: {text}\n")
    done = run("-nodefaults", "-display", "none", "-object", "memory-backend-ram,id=m,size=1P")
    assert "cannot set up guest memory 'm': Cannot allocate memory" in done.stderr
