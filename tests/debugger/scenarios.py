"""What a debugger and a QMP client do to one machine, what real QEMU made of it, and the program that records that.

`python -m tests.debugger.scenarios RELEASE PROGRAM...` plays each scenario to PROGRAM, a process of its own each, and
writes `tests/golden/RELEASE/debugger.jsonl.gz`, a scenario a line: `{"scenario", "options", "steps": [{"do", "packets",
"lines"}], "status"?}`.  `do` is the step as it stands below; `packets` is what the debugger got, `lines` what came over
QMP, without timestamps; `status` is the exit status where the process had ended by itself.

Nothing here depends on what a guest's firmware does, nor on memory that nobody has initialized.  A step is

    connect             a debugger connects          close           it disconnects
    $CONTENT            it sends a packet, and acknowledges the answers, if any
    >BYTES              it sends these bytes as they are (with the escapes of a Python string)
    {"execute": ...}    a QMP client sends this      :LINE           a line of the human monitor, over QMP

PROGRAM may be `chroot FOLDER PROGRAM`.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.debugger.packets import packet
from tests.golden import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterable

QUIET = 0.15
"""Seconds without a byte after which a real program has said everything."""

_PATIENCE = 10.0
_FILE = "debugger.jsonl.gz"
_VOLATILE = (
    (re.compile(r'"timestamp": \{[^}]*\}'), '"timestamp": T'),
    (re.compile(r"#chr0\d\d"), "#chrN"),
    (re.compile(r"unix:[^,\"'\\]*/(gdb|qmp|other|again)\.sock"), r"unix:PATH/\1.sock"),
)


class Scenario(NamedTuple):
    """One scenario: the options of the machine, and the steps."""

    options: tuple[str, ...]
    steps: tuple[str, ...]
    debugger: bool = True


def execute(name: str, **arguments: object) -> str:
    return json.dumps({"execute": name, **({"arguments": arguments} if arguments else {})})


def monitor(line: str) -> str:
    """The packet that executes a line of the human monitor."""
    return "$qRcmd," + line.encode().hex()


def _packets(text: str) -> list[str]:
    return ["$" + word for word in text.split()]


STATUS = execute("query-status")
_DESCRIBED = "$qXfer:features:read:target.xml:0,ffb"
_ONES, _ZEROS, _LOW = "f" * 32, "0" * 32, "ffffff7f" + "f" * 24


def _each_register() -> list[str]:
    steps = []
    for number in range(0x44):
        for value in (_ONES, _ZEROS, _LOW, "01" + _ZEROS):
            steps += [f"$P{number:x}={value}", f"$p{number:x}"]
    return steps


SCENARIOS: dict[str, Scenario] = {
    "queries": Scenario(
        ("-S", "-smp", "3", "-m", "64"),
        (
            "connect",
            *_packets("""
                qSupported ? qC qfThreadInfo qsThreadInfo qsThreadInfo qsThreadInfo Hg2 g qC ? Hg0 Hc3 ?
                qSupported:multiprocess+;swbreak+;xmlRegisters=i386 ? ! qC qfThreadInfo qsThreadInfo Hg3 Hg4 Hgp1.2
                Hgp2.2 Hgp1.-1 Hg-1 Hgzz H Hg Hx1 Hc0 Hg0 T T0 Tp1.3 Tp2.1 Tp0.0 T3 Tzz vAttach;1 vAttach;2 vAttach;0
                vAttach vAttach;zz qThreadExtraInfo,p1.2 qThreadExtraInfo,2 qThreadExtraInfo,9 qThreadExtraInfo,zz
                qThreadExtraInfo p0 p10 pff P0=11 p0 qXfer:features:read:target.xml:0,10
                qXfer:features:read:target.xml:10,10 qXfer:features:read:target.xml:1000,10
                qXfer:features:read::0,10 qXfer:features:read:nope.xml:0,10 qXfer:features:read:tar:0,10
                qXfer:features:read:target.xml qXfer:features:read:target.xml:zz qXfer:memory-map:read::0,10
                qXfer:features:read:i386-32bit.xml:0,20 qXfer:features:read:target.xml:9c,10
                qXfer:features:read:i386-64bit.xml:0,ffb qXfer:features:read:i386-64bit.xml:7fd,ffb
                qXfer:features:read:i386-64bit.xml:ffa,ffb qXfer:features:read:i386-64bit.xml:17f7,ffb
                qAttached qAttached:1 qAttachedx qTStatus qOffsets qSymbol:: QStartNoAckMode vMustReplyEmpty vCont?
                qemu.Supported qqemu.Supported qqemu.sstepbits qqemu.sstep Qqemu.sstep=1 qqemu.sstep Qqemu.sstep:7
                Qqemu.sstep= Qqemu.sstep=9 Qqemu.sstep=7 qqemu.sstepbitsx qqemu.PhyMemMode Qqemu.PhyMemMode:1
                qqemu.PhyMemMode Qqemu.PhyMemMode:0 QqQ QPassSignals: qSupportedx qCx ?x gx !x a R00 i t B d r x0,10
                e A0 I b X0,0: vRun; vFile:setfs:0 vCtrlC vKill v q Q vCont vCont; vCont;x vCont;Czz vCont;C05zz
                vCont;c:zz vCont;c:9 vCont;c:p2.1 vCont;s:p1.9 qRcmd, qRcmd qRcmd,0 D
            """),
            "$",
            STATUS,
        ),
    ),
    "memory": Scenario(
        ("-S", "-m", "64"),
        (
            "connect",
            *_packets("""
                m m0 m0, m0,0 m0,10 m0,800 m0,801 m0,10011 mzz,4 m-1,4 mffffffff,4 m100000000,4 mffffffffffffffff,1
                m3fffffe,4 m3fffffe,2 m4000000,4 ma0000,4 mc0000000,1 mfed00000,1 mfebfffff,2 md0000000,4
                m10000000000,4 M M0,4 M0,4:00 M0,1:zz m0,1 M4000000,1:11 m4000000,1 Mffe,4:11223344 mffc,8
                Mffffffff,1:11 mffffffff,1 M0,0: M0,2:112 M0,1:1122 m0,2 M100000000,1:44 m100000000,1 M1000,4:deadbeef
                m1000,8 Qqemu.PhyMemMode:1 m1000,4 m3fffffe,1 Qqemu.PhyMemMode:0
            """),
            execute("system_reset"),
            "$m1000,8",
        ),
    ),
    "registers": Scenario(
        ("-S",),
        (
            "connect",
            "$p0",
            "$P0=1100000000000000",
            _DESCRIBED,
            *_each_register(),
            execute("system_reset"),
            *_packets("""
                g p pzz p0,1 P0 P P0= Pff=00 P10=0011 p10 P12=34120000 p12 P16=34120000 p16 p18 P17=00100000 p19
                P21=01020304050607080900 P22=11121314151617181900 p21 p22 p28 P2a=00080000 p2a p21 p22 p28
                P21=aaaaaaaaaaaaaaaaaaaa p21 p28 P2a=00380000 p21 p22 p28 P2a=00000000
                P31=000102030405060708090a0b0c0d0e0f p31 p32
                P1b=1100008000000000 p1b P20=0001000000000000 p20 P1b=1000006000000000 p1b p20 P1b=1100008000000000
                p1b p20 P1e=2000000000000000 P1b=1100008000000000 p1b p20 P1b=1000006000000000 p20 g
            """),
            execute("system_reset"),
            "$g",
            "$G" + "".join(f"{number % 256:02x}" for number in range(608)),
            "$g",
            execute("system_reset"),
            "$g",
            "$G00",
            "$g",
            "$G",
            "$G0",
            "$g",
        ),
    ),
    "breakpoints": Scenario(
        ("-S", "-smp", "2"),
        (
            "connect",
            *_packets("""
                Z Z0 Z0,1 Z0,1,1 z0,1,1 z0,1,1 Zz,1,1 Z0,zz,1 Z0,1,1;X1 Z1,1,1 z0,1,1 z0,1,1 z1,1,1 Z2,0,0 Z2,7,4 z2,7,4
                z2,7,4 Z2,7,4 z2,7,5 z3,7,4 Z3,7,4 Z4,7,4 z4,7,4 Z2,ffffffffffffffff,4 Z2,ffffffffffffffff,1
                Z2,10,1000 z2,10,1000 Z9,1,1 z9,1,1 z0,55,1 Z5,1,1 Z0,99,1 Z0,99,1 Hc2 ? Hc1 z0,99,1 z0,99,1 Z0,99,1 ?
                z0,99,1
            """),
        ),
    ),
    "breakpoint at the first instruction": Scenario(
        ("-S", "-smp", "2"),
        (
            "connect",
            "$Z0,fffffff0,1",
            "$c",
            STATUS,
            "$s",
            STATUS,
            "$z0,fffffff0,1",
            "$Z1,fffffff0,1",
            execute("system_reset"),
            STATUS,
            "$c",
            "$vCont;c",
            "$vCont;c:1",
            "$vCont;s:1",
            "$?",
            execute("query-status"),
        ),
    ),
    "breakpoints of one CPU forgotten": Scenario(
        ("-S", "-smp", "2"),
        ("connect", "$Z0,fffffff0,1", "$Hc2", "$?", "$c", ">\x03", STATUS),
    ),
    "steps": Scenario(
        ("-S",),
        (
            "connect",
            "$?",
            "$s",
            STATUS,
            ":info status",
            "$s",
            "$vCont;s",
            "$vCont;s:1",
            "$vCont;s:p1.1",
            "$vCont;S05",
            "$vCont;s:1;c",
            "$S05",
            "$sfff0",
            execute("cont"),
            execute("stop"),
            "$s",
            execute("stop"),
            STATUS,
            execute("system_wakeup"),
            execute("system_reset"),
            STATUS,
            "$s",
        ),
    ),
    "attached to a machine that runs": Scenario(
        (),
        (
            "connect",
            STATUS,
            "$?",
            "$c",
            STATUS,
            execute("stop"),
            execute("cont"),
            execute("stop"),
            "$c",
            ">\x03",
            "$c",
            "close",
            STATUS,
            "connect",
            ">+",
            "$?",
            "$qC",
        ),
    ),
    "attached to a machine that does not run": Scenario(
        ("-S",),
        (
            "connect",
            execute("cont"),
            execute("stop"),
            "$?",
            execute("cont"),
            "close",
            execute("stop"),
            "connect",
            ">$?#3f",
            ">+",
            execute("system_reset"),
            "$?",
            _DESCRIBED,
            "$p10",
        ),
    ),
    "bytes while it runs": Scenario(
        (),
        (
            "connect",
            "$c",
            ">x",
            "$?",
            "$c",
            ">$?#3f",
            ">$?#3f",
            ">+",
            "$vCont;c",
            ">\x03\x03",
            "$?",
            ">\x03",
            "$C05",
            ">\x03",
            "$vCont;C05;s:9",
            "$vCont;C05",
            ">+" + "+" + "+",
            "$F0",
            ">\x03",
            "$F0,0,C",
            "$Fzz",
            "$D",
            STATUS,
            ">\x03",
            "$qfThreadInfo",
            "$T1",
            "$c",
            ">\x03",
            "close",
            "connect",
            "$?",
        ),
    ),
    "sums": Scenario(
        ("-S",),
        (
            "connect",
            ">$?#00",
            ">-",
            ">$?#3f",
            ">-",
            ">-",
            ">+",
            ">garbage$?#3f",
            ">+$g",
            ">$?#3f",
            ">+$?#zz3f",
            ">#3f",
            ">+",
            ">$!#21",
            ">$!#21",
            ">+" + "+",
            ">$}\x01#7e",
            ">+$m0* ,4#a1",
            ">+$? #5f",
            ">+$?#3F",
            ">+$m0* ,4#f3",
            ">+$m0*\x01,4#f4",
            ">+$*!?#8a",
            ">+$m0}#4,4#ca",
            ">+$!}\x00x#16",
            ">+$" + "0" * 5000 + "#00",
            ">+$?#3f",
            ">+$?#3f+$?#3f+$?#3f+",
        ),
    ),
    "two processes": Scenario(
        ("-S",),
        ("connect", "$qSupported:multiprocess+", "$D", "$D;zz", "$D;0", "$D;1", STATUS, ">\x03", "$vAttach;1", "$D;1"),
    ),
    "detached": Scenario(("-S",), ("connect", "$Z0,fffffff0,1", "$D", STATUS, execute("stop"), "$c", STATUS, "close")),
    "killed": Scenario((), ("connect", "$?", "$k")),
    "killed by number": Scenario((), ("connect", "$?", "$vKill;1")),
    "killed where shutdowns pause": Scenario(("-no-shutdown",), ("connect", "$?", "$k", STATUS, "close")),
    "quit": Scenario(("-S",), ("connect", "$?", execute("quit"))),
    "quit while the debugger waits": Scenario(("-S",), ("connect", "$?", "$c", execute("quit"))),
    "quit without a debugger": Scenario(("-S",), ("connect", "$?", "close", execute("quit"))),
    "monitor": Scenario(
        ("-S",),
        (
            "connect",
            monitor("info status"),
            monitor("info version"),
            monitor("no such command"),
            monitor("help stop"),
            monitor("stop"),
            monitor("cont"),
            ">\x03",
            monitor("system_reset"),
            "$+",
            monitor("quit"),
        ),
    ),
    "given up from within": Scenario(("-S",), ("connect", monitor("gdbserver none"), ">$?#3f", STATUS)),
    "gdbserver": Scenario(
        ("-S",),
        (
            ":gdbserver unix:@other.sock,server=on,wait=off",
            execute("query-chardev"),
            ":gdbserver unix:@again.sock,server=on,wait=off",
            ":gdbserver null",
            ":gdbserver no-such-device",
            ":gdbserver stdio x",
            execute("query-chardev"),
            ":gdbserver none",
            execute("query-chardev"),
            ":gdbserver none",
            ":gdbserver unix:/nonexistent/x,server=on,wait=off",
            ":gdbserver null",
            execute("query-chardev"),
            execute("chardev-remove", id="gdb"),
            ":gdbserver null",
        ),
        debugger=False,
    ),
    "gdbserver of a machine without a CPU": Scenario(
        ("-machine", "none"), (":gdbserver", ":gdbserver none", execute("query-chardev")), debugger=False
    ),
    "given up": Scenario(
        (), ("connect", "$c", ":gdbserver null", execute("query-chardev"), ":gdbserver none", STATUS, "close")
    ),
    "preconfig": Scenario(
        ("-preconfig",), (execute("query-chardev"), execute("x-exit-preconfig"), execute("query-chardev"), "connect")
    ),
    "incoming": Scenario(("-incoming", "defer"), ("connect", "$?", "$c", STATUS, ">\x03", "$?")),
}


@functools.cache
def load(release: str) -> list[dict[str, Any]]:
    """What the release made of the scenarios."""
    with gzip.open(DIRECTORY / release / _FILE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def comparable(line: str) -> str:
    """A line of QMP without what is true of one process only; a list of character devices is put in order."""
    for pattern, replacement in _VOLATILE:
        line = pattern.sub(replacement, line)
    if '"frontend-open"' in line:
        message = json.loads(line)
        message["return"].sort(key=lambda each: each["label"])
        line = json.dumps(message)
    return line


def raw(step: str) -> bytes:
    """The bytes that a debugger sends in a step."""
    return packet(step[1:].encode("latin-1")) if step[0] == "$" else step[1:].encode("latin-1")


def message(step: str, folder: str) -> bytes:
    """What a QMP client sends in a step."""
    if step[0] == ":":
        step = execute("human-monitor-command", **{"command-line": step[1:].replace("@", f"{folder}/")})
    return step.encode()


def is_qmp(step: str) -> bool:
    return step[0] in "{:"


class Real:
    """A real program, a debugger and a QMP client at it."""

    def __init__(self, program: list[str], scenario: Scenario) -> None:
        root = program[1] if program[0] == "chroot" else ""
        self.folder = f"/tmp/qmpd-{os.getpid()}-{time.monotonic_ns()}"
        self._root = Path(root + self.folder)
        self._root.mkdir()
        options = ["-display", "none", "-nodefaults", "-qmp", f"unix:{self.folder}/qmp.sock,server=on,wait=off"]
        if scenario.debugger:
            options += ["-gdb", f"unix:{self.folder}/gdb.sock,server=on,wait=off"]
        self.process = subprocess.Popen(
            [*program, *options, *scenario.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._debugger: socket.socket | None = None
        self._qmp = self._connect("qmp.sock")
        self._lines = b""
        self._qmp.sendall(b'{"execute": "qmp_capabilities"}')
        while b'"return"' not in self._lines:
            self._lines += self._qmp.recv(1 << 16)
        self._lines = b""

    def _connect(self, name: str) -> socket.socket:
        deadline = time.monotonic() + _PATIENCE
        while True:
            client = socket.socket(socket.AF_UNIX)
            try:
                client.connect(str(self._root / name))
                return client
            except OSError:
                client.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def step(self, step: str) -> tuple[str, list[str]]:
        """Take one step: what the debugger got, and the lines over QMP."""
        if step == "connect":
            self._debugger = self._connect("gdb.sock")
        elif step == "close":
            if self._debugger is not None:
                self._debugger.close()
                self._debugger = None
        else:
            self._send(self._qmp if is_qmp(step) else self._debugger, message(step, self.folder), raw(step))
        got, lines = self._receive()
        if step[0] == "$" and b"$" in got:
            self._send(self._debugger, b"", b"+")
        return got.decode("latin-1"), [comparable(line) for line in lines]

    def _send(self, client: socket.socket | None, qmp: bytes, packets: bytes) -> None:
        try:
            if client is not None:
                client.sendall(qmp if client is self._qmp else packets)
        except OSError:
            pass

    def _receive(self) -> tuple[bytes, list[str]]:
        got = b""
        clients = [client for client in (self._qmp, self._debugger) if client is not None]
        while ready := select.select(clients, [], [], QUIET)[0]:
            for client in ready:
                try:
                    data = client.recv(1 << 16)
                except OSError:
                    data = b""
                if client is self._qmp:
                    self._lines += data
                else:
                    got += data or b"<end>"
                if not data:
                    clients.remove(client)
        *whole, self._lines = self._lines.split(b"\r\n")
        return got, [line.decode() for line in whole]

    def close(self) -> int | None:
        """End it; the exit status where it has ended by itself."""
        time.sleep(QUIET)
        status = self.process.poll()
        self.process.kill()
        self.process.wait()
        for client in (self._qmp, self._debugger):
            if client is not None:
                client.close()
        for path in self._root.iterdir():
            path.unlink()
        self._root.rmdir()
        return status


def play(program: list[str], name: str) -> dict[str, Any]:
    """What a real program makes of a scenario."""
    scenario = SCENARIOS[name]
    real = Real(program, scenario)
    try:
        steps = []
        for step in scenario.steps:
            packets, lines = real.step(step)
            steps.append({"do": step, "packets": packets, "lines": lines})
    finally:
        status = real.close()
    row: dict[str, Any] = {"scenario": name, "options": list(scenario.options), "steps": steps}
    return row if status is None else {**row, "status": status}


def record(release: str, program: list[str], names: Iterable[str]) -> None:
    """Record scenarios; those that are not named stay as they are."""
    path = DIRECTORY / release / _FILE
    rows = {row["scenario"]: row for row in load(release)} if path.exists() else {}
    for name in names:
        rows[name] = play(program, name)
        print(release, name)
    lines = [json.dumps(rows[name]) for name in SCENARIOS if name in rows]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0))


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2:], os.environ.get("ONLY", "").split(";") if "ONLY" in os.environ else SCENARIOS)
