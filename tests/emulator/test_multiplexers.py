"""Character devices that are shared, through the drop-in program: what comes out is what real QEMU 7.2 prints."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import subprocess
import termios
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.devices import needs_pseudo_terminals
from tests.emulator.support import PROGRAM, QUIET, connect, environment, run, running
from tests.real_qemu import programs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

BANNER = b"QEMU 7.2.22 monitor - type 'help' for more information\r\n"
PROMPT = b"(qemu) "
ESCAPE = b"\x01"
ENDED = b"QEMU: Terminated\n\r"
HELP = (
    b"\n\r%k h    print this help\n\r%k x    exit emulator\n\r%k s    save disk data back to file (if -snapshot)\n\r"
    b"%k t    toggle console timestamps\n\r%k b    send break (magic sysrq)\n\r"
    b"%k c    switch between console and monitor\n\r%k %k  sends %k\n\r"
)
_QUIT = '{"execute": "qmp_capabilities"}{"execute": "quit"}'
GOING = ["-display", "none", "-nodefaults"]
STDIO = ["-chardev", "stdio,id=m,mux=on,signal=off"]
SHUTDOWN = rb'\{"timestamp": [^\n]*"event": "SHUTDOWN", "data": \{"guest": false, "reason": "host-qmp-quit"\}\}\r\n'


class Typist:
    """Somebody at a program's standard input and output, or at a socket."""

    def __init__(self, reads: int, writes: int) -> None:
        self.reads = reads
        self.writes = writes

    def type(self, keys: bytes, until: bytes) -> bytes:
        """Type something; all that comes until it ends so."""
        os.write(self.writes, keys)
        return self.read(until)

    def read(self, until: bytes, seconds: float = 15) -> bytes:
        came = b""
        end = time.monotonic() + seconds
        while not came.endswith(until):
            assert select.select([self.reads], [], [], max(end - time.monotonic(), 0))[0], f"nothing after {came!r}"
            data = os.read(self.reads, 1 << 16)
            if not data:
                return came
            came += data
        return came

    def silent(self, keys: bytes) -> None:
        """Type something to which nothing is said."""
        os.write(self.writes, keys)
        assert not select.select([self.reads], [], [], 0.1)[0]


def typist(program: subprocess.Popen[bytes]) -> Typist:
    assert program.stdin is not None
    assert program.stdout is not None
    return Typist(program.stdout.fileno(), program.stdin.fileno())


def piped(*options: str, release: str = "7.2") -> AbstractContextManager[subprocess.Popen[bytes]]:
    return running(*options, release=release, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("options", [["-nographic", "-net", "none", "-S"], [*QUIET, "-serial", "mon:stdio"]])
def test_the_serial_port_has_the_focus_first(options: list[str]) -> None:
    with piped(*options) as program:
        person = typist(program)
        assert person.type(b"abc" + ESCAPE + b"h", b"sends C-a\n\r") == HELP.replace(b"%k", b"C-a")
        person.silent(ESCAPE + b"z" + ESCAPE + ESCAPE)
        assert person.type(ESCAPE + b"c", PROMPT) == BANNER + PROMPT
        typed = person.type(b"info name\n", b"\n" + PROMPT)
        assert typed.endswith(b"info name\x1b[K\r\n(qemu) ")
        # What is typed before the keys is done before them.
        left = person.type(b"info uuid\ninf" + ESCAPE + b"c", b"inf\x1b[K\r\n")
        assert b"00000000-0000-0000-0000-000000000000\r\n(qemu) i" in left
        person.silent(b"x")
        assert person.type(ESCAPE + b"c", PROMPT) == PROMPT
        assert person.type(ESCAPE + b"x", ENDED) == ENDED
        assert program.wait(10) == 0


def test_another_character_before_the_keys() -> None:
    with piped("-nographic", "-net", "none", "-S", "-echr", "0x40") as program:
        person = typist(program)
        help_ = person.type(b"@?", b"sends Escape-Char\n\r")
        assert help_ == b"\n\rEscape-Char set to Ascii: 0x40\n\r" + HELP.replace(b"%k", b"Escape-Char")
        person.silent(ESCAPE + b"c")
        assert person.type(b"@x", ENDED) == ENDED


@pytest.mark.parametrize(
    ("text", "key"),
    [("+65", b"A"), (" 0101", b"A"), (str(2**32 + 65), b"A"), ("0x", b"\0"), ("0x141", None), ("9" * 5000, None)],
    ids=["sign", "octal", "more bits", "no digits", "no byte", "too large"],
)
def test_the_character_before_the_keys_is_read_as_c_does(text: str, key: bytes | None) -> None:
    with piped(*QUIET, *STDIO, "-mon", "chardev=m", "-echr", text) as program:
        person = typist(program)
        person.read(PROMPT)
        if key is None:
            assert person.type(b"Ah\xff", b"\xff\x1b[K").startswith(b"A\x1b[K")
        else:
            assert person.type(key + b"x", ENDED) == ENDED


def test_lines_with_the_time_before_them() -> None:
    with piped(*QUIET, "-serial", "mon:stdio") as program:
        person = typist(program)
        assert person.type(ESCAPE + b"t" + ESCAPE + b"c", PROMPT) == BANNER + b"[00:00:00.000] " + PROMPT
        said = person.type(b"info name\n", PROMPT)
        assert re.search(rb"\r\n\[00:00:0\d\.\d\d\d\] \(qemu\) $", said)


def test_a_qmp_monitor_is_heard_whoever_has_the_focus() -> None:
    with piped(*QUIET, *STDIO, "-serial", "chardev:m", "-serial", "chardev:m", "-qmp", "chardev:m") as program:
        person = typist(program)
        assert person.read(b"]}}\r\n").startswith(b'{"QMP": ')
        person.silent(ESCAPE + b"c")
        assert person.type(b'{"execute": "qmp_capabilities"}\n', b"}\r\n") == b'{"return": {}}\r\n'
        shown = person.type(b'{"execute": "query-chardev"}\n', b"]}\r\n")
        assert shown == (
            b'{"return": [{"frontend-open": true, "filename": "mux", "label": "m"}, '
            b'{"frontend-open": true, "filename": "stdio", "label": "m-base"}]}\r\n'
        )
        ended = person.type(ESCAPE + b"x", b"no end")
        assert re.fullmatch(re.escape(ENDED) + SHUTDOWN, ended)
        assert program.wait(10) == 0


def answers(program: list[str], release: str, *asked: tuple[str, Mapping[str, object]]) -> list[object]:
    """What a machine with a multiplexer that nobody uses answers to this: what is returned, or the error's text."""
    line = [*program, "-machine", "none", *QUIET, "-chardev", "null,id=m,mux=on", "-qmp", "stdio"]
    commands = [("qmp_capabilities", {}), *asked, ("quit", {})]
    text = "".join(json.dumps({"execute": name, "arguments": each}) for name, each in commands)
    done = subprocess.run(
        line, input=text, capture_output=True, timeout=60, text=True, env=environment(release), check=True
    )
    said = [each for each in map(json.loads, done.stdout.splitlines()) if "return" in each or "error" in each]
    return [each["return"] if "return" in each else each["error"]["desc"] for each in said][1:-1]


@pytest.mark.parametrize(
    ("release", "stopped", "first"),
    [("5.2", [], [b"QMP"]), ("7.2", [], [b"RESUME", b"QMP"]), ("10.0", ["-S"], [b"QMP"])],
)
def test_the_start_is_told_before_the_greeting(
    tmp_path: Path, release: str, stopped: list[str], first: list[bytes]
) -> None:
    """As real QEMU does, whose shared devices open behind the machine: to who is there at its start, and once."""
    with piped(*GOING, *STDIO, "-mon", "chardev=m,mode=control", *stopped, release=release) as program:
        said = typist(program).read(b"]}}\r\n")
        assert re.findall(rb'"(QMP|RESUME)"', said) == first
    place = ["-chardev", f"socket,id=m,mux=on,path={tmp_path}/m,server=on", "-mon", "chardev=m,mode=control"]
    with piped(*GOING, *place, *stopped, release=release):
        for expected in (first, [b"QMP"]):
            with connect(tmp_path / "m") as client:
                said = Typist(client.fileno(), client.fileno()).read(b"]}}\r\n")
                assert re.findall(rb'"(QMP|RESUME)"', said) == expected


def test_a_multiplexer_on_a_device_that_has_a_name() -> None:
    line = ["-chardev", "stdio,id=x,signal=off", "-chardev", "mux,id=m,chardev=x", "-mon", "m", "-serial", "chardev:m"]
    with piped(*QUIET, *line) as program:
        person = typist(program)
        person.silent(b"x")
        assert person.type(ESCAPE + b"c", PROMPT) == BANNER + PROMPT
        shown = person.type(b"info chardev\n", b"\n" + PROMPT)
        assert b"m: filename=mux\r\n" in shown
        assert b"x: filename=stdio\r\n" in shown
        assert person.type(ESCAPE + b"x", ENDED) == ENDED


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["-chardev", "mux,id=m,chardev=x", "-mon", "x"], "-mon x: Device 'x' is in use"),
        (["-chardev", "mux,id=m,chardev=x", "-chardev", "mux,id=n,chardev=x"], "Device 'x' is in use"),
        (["-chardev", "mux,id=m,chardev=x", "-chardev", "mux,id=n,chardev=m"], "does not model a multiplexer of a"),
    ],
)
def test_what_has_a_multiplexer_has_no_other_user(options: list[str], why: str) -> None:
    assert why in run(*QUIET, "-chardev", "null,id=x", *options).stderr


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_taking_multiplexers_away(release: str, real: bool) -> None:
    """In 7.2 and before each is in use, whoever uses it; the device below it is as long as it is there."""
    if real and release not in programs():
        pytest.skip("this program is not here")
    busy = "Chardev '{}' is busy".format
    wanted = [busy("m-base"), busy("m"), busy("m-base")] if release in ("5.2", "7.2") else [busy("m-base"), {}, {}]
    asked = [("chardev-remove", {"id": each}) for each in ("m-base", "m", "m-base")]
    assert answers(programs()[release] if real else PROGRAM, release, *asked) == wanted


def test_late_multiplexers_are_said_to_be_missing() -> None:
    said = answers(
        PROGRAM,
        "7.2",
        ("chardev-add", {"id": "x", "backend": {"type": "null", "data": {}}}),
        ("chardev-add", {"id": "n", "backend": {"type": "mux", "data": {"chardev": "x"}}}),
        ("human-monitor-command", {"command-line": "chardev-add null,id=n,mux=on"}),
    )
    assert said[0] == {}
    assert all("does not model multiplexers" in str(each) for each in said[1:])


@pytest.mark.parametrize(
    ("release", "why"),
    [("7.2", b"Device 'm' is in use"), ("10.0", b"too many uses of multiplexed chardev 'm' (maximum is 4)")],
)
def test_no_more_than_four_share_a_device(release: str, why: bytes) -> None:
    ports = ["-serial", "chardev:m"] * 4
    with running(*QUIET, *STDIO, "-mon", "chardev=m", *ports, stderr=subprocess.PIPE, release=release) as program:
        assert program.stderr is not None
        assert why in program.stderr.readline()
        assert program.wait(10) == 1


def test_a_debugger_shares_a_device() -> None:
    with piped(*QUIET, *STDIO, "-gdb", "chardev:m", "-mon", "chardev=m") as program:
        person = typist(program)
        stopped = b"+$T05thread:01;#07"
        assert person.type(b"+$?#3f", stopped) == stopped
        assert person.type(ESCAPE + b"c", PROMPT) == BANNER + PROMPT
        person.type(b"+$?#3f\n", b"\r\n" + PROMPT)
        person.type(ESCAPE + b"c", b"\r\n")
        assert person.type(b"+$?#3f", stopped) == stopped


def test_a_test_program_on_a_device_that_there_is() -> None:
    with piped(*QUIET, *STDIO, "-qtest", "chardev:m", "-qtest-log", "none", release="10.0") as program:
        assert typist(program).type(b"clock_step\n", b"\n") == b"OK 0\n"


@pytest.mark.parametrize("kind", ["socket", pytest.param("pty", marks=needs_pseudo_terminals)])
def test_each_client_finds_the_device_as_the_last_one_left_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.sock"
    backend = f"socket,path={path},server=on,wait=off" if kind == "socket" else "pty"
    line = [*QUIET, "-chardev", f"{backend},id=m,mux=on", "-mon", "chardev=m", "-serial", "chardev:m"]
    with running(*line, stdout=subprocess.PIPE) as program:
        if kind == "pty":
            assert program.stdout is not None
            name = program.stdout.readline().split()[4].decode()
        for first in (True, False):
            if kind == "socket":
                client = connect(path)
                number = client.detach()
            else:
                number = os.open(name, os.O_RDWR | os.O_NOCTTY)
            person = Typist(number, number)
            if first:
                person.silent(b"x")
                assert person.type(ESCAPE + b"c", PROMPT) == BANNER + PROMPT
            else:
                assert person.read(PROMPT) == BANNER + PROMPT
            os.close(number)
            if first and kind == "pty":
                time.sleep(0.3)  # nothing tells at once that a pseudo-terminal was closed


@pytest.mark.parametrize(
    ("shared", "more"),
    [
        ("", ["-chardev", "mux,id=n,chardev=m", "-mon", "n"]),
        (",mux=on", ["-mon", "m"]),
        (",mux=on", []),
        ("", ["-serial", "chardev:m"]),
        ("", []),
    ],
)
def test_the_machine_waits_for_a_client_whoever_uses_the_device(tmp_path: Path, shared: str, more: list[str]) -> None:
    path = tmp_path / "c"
    option = f"-chardev socket,id=m,path={path},server=on" + shared
    line = ["-machine", "pc", *QUIET[:-1], *option.split(), *more, "-qmp", "stdio"]
    pipe = subprocess.PIPE
    with running(*line, stdin=pipe, stdout=pipe, stderr=pipe) as program:
        assert program.stderr is not None
        waits = f"{option}: info: QEMU waiting for connection on: disconnected:unix:{path},server=on\n"
        assert program.stderr.readline().decode().endswith(waits)
        person = typist(program)
        asked = b'{"execute": "qmp_capabilities"}{"execute": "query-status"}'
        assert b'"status": "prelaunch"' in person.type(asked, b'"running": false}}\r\n')
        with connect(path):
            wait_until(lambda: b"true" in person.type(b'{"execute": "query-status"}', b"}}\r\n"))


def test_the_log_of_a_shared_device_lacks_what_monitors_say(tmp_path: Path) -> None:
    chardev = f"null,id=m,mux=on,logfile={tmp_path}/log"
    warning = "does not model the log of what a monitor says"
    for more, is_told in ((["-mon", "m"], True), (["-serial", "chardev:m"], False)):
        done = run("-machine", "pc", *QUIET, "-chardev", chardev, *more, "-qmp", "stdio", text=_QUIT)
        assert (warning in done.stderr) is is_told


@needs_pseudo_terminals
def test_a_terminal_hands_over_its_keys() -> None:
    with ExitStack() as stack:
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        program = stack.enter_context(
            running(*QUIET, "-serial", "mon:stdio", stdin=theirs, stdout=theirs, stderr=theirs)
        )
        os.close(theirs)
        person = Typist(ours, ours)
        # The terminal gives lines until the program has it.
        wait_until(lambda: not termios.tcgetattr(ours)[3] & termios.ICANON)
        assert person.type(ESCAPE + b"x", b"QEMU: Terminated\r\n\r") == b"QEMU: Terminated\r\n\r"
        assert program.wait(10) == 0


def test_in_5_2_nobody_is_told_of_the_end() -> None:
    with piped(*QUIET, *STDIO, "-qmp", "chardev:m", release="5.2") as program:
        person = typist(program)
        assert person.read(b"]}}\r\n").startswith(b'{"QMP": ')
        assert person.type(ESCAPE + b"x", b"no end") == ENDED
        assert program.wait(10) == 0


def test_nobody_reads_what_is_typed() -> None:
    """A port that its guest does not read takes 33 bytes, as QEMU's does, and then not even the keys are heard."""
    with piped(*QUIET, *STDIO, "-mon", "chardev=m", "-serial", "chardev:m") as program:
        person = typist(program)
        help_ = person.type(b"i" * 32 + ESCAPE + b"h", b"sends C-a\n\r")
        assert help_ == HELP.replace(b"%k", b"C-a")
        person.silent(b"i" + ESCAPE + b"h")
        program.terminate()
        assert program.wait(10) == 0


@pytest.mark.parametrize(
    ("port", "guest"),
    [
        (["-serial", "chardev:c"], ""),
        (["-device", "virtio-serial", "-device", "virtserialport,chardev=c"], "-guest boot-time=0"),
    ],
)
def test_the_client_of_a_port_that_is_not_read_waits(tmp_path: Path, port: list[str], guest: str) -> None:
    line = [*PROGRAM, *GOING, "-chardev", f"socket,id=c,path={tmp_path}/c,server=on", *port]
    with subprocess.Popen(line, env=environment(options=guest), stderr=subprocess.DEVNULL) as program:
        with connect(tmp_path / "c") as client:
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.sendall(bytes(1 << 21))
        program.terminate()
        assert program.wait(10) == 0


def test_a_guest_that_runs_reads_what_is_typed(tmp_path: Path) -> None:
    place = ["-chardev", f"socket,id=c,path={tmp_path}/c,server=on", "-serial", "chardev:c"]
    told = environment(options="-guest boot-time=0")
    with subprocess.Popen([*PROGRAM, *GOING, *place], env=told, stderr=subprocess.DEVNULL) as program:
        with connect(tmp_path / "c") as client:
            client.settimeout(15)
            client.sendall(bytes(1 << 21))
        program.terminate()
        assert program.wait(10) == 0


MONITORS = ["-machine", "none", *STDIO, "-mon", "chardev=m", "-serial", "chardev:m", "-mon", "chardev=m", "-echr", "2"]
PORT = ["-machine", "pc", *STDIO, "-mon", "chardev=m", "-serial", "chardev:m", "-mon", "chardev=m", "-echr", "2"]


@pytest.mark.parametrize("release", sorted(programs()))
@pytest.mark.parametrize(
    ("options", "texts"),
    [(MONITORS, [b"info name\n", b"info uuid\n", b"i", b"\x7f", b"x\n"]), (PORT, [b"i", b"\x7f", b"\n"])],
    ids=["monitors", "port"],
)
def test_random_keys_are_answered_as_by_real_qemu(release: str, options: list[str], texts: list[bytes]) -> None:
    dice = random.Random(release)
    asked = [b"\x02" + key for key in (b"c", b"c", b"c", b"h", b"?", b"\x02", b"b", b"z", b"s")]
    # A port that its guest does not read takes 32 bytes in QEMU, and then not even the keys are heard.
    keys = b"".join(dice.choice([*asked, *texts, *texts]) for _ in range(60)) + b"\x02x"
    said = []
    for program in (programs()[release], PROGRAM):
        line = [*program, *QUIET, *options]
        done = subprocess.run(line, input=keys, capture_output=True, timeout=60, check=True, env=environment(release))
        said.append(done.stdout)
    assert said[0] == said[1]
