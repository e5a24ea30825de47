"""Two machines, of which one moves to the other: qmpd's, under virtual time, and real QEMU's, beside each other.

A step is what one side is told, or that its process is killed, or that the way between them is cut.  What both sides
say until it is quiet belongs to the step.  qmpd is asked first; the real programs then get the time that they need to
say as much.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from endurance.way import Way

from tests.operations.comparing import plain
from tests.operations.player import TALK, play_step, served
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.operations.player import Client, Machine

PATIENCE, QUIET = 3.0, 0.12
MAIN, PEER = "main", "peer"
KILL, CUT = "kill", "cut"
_EIGHT_MEBIBYTES = b"abcdefg\n" * (1 << 20)
# So are the resets that real firmware adds to one.
_TIMED = re.compile(r'"event": "MIGRATION_PASS"|"reason": "guest-reset"')
# Who notices first that a way is cut, or that a migration is cancelled which waits in pre-switchover, and in which
# words, is a matter of time; and QEMU that ends at once leaves its socket's file behind, which nobody listens at.
_LOST = re.compile(
    r"(?:Unable to (?:read from|write to) socket|Channel error): [A-Za-z /]+|Switchover is interrupted"
)
_NOBODY = re.compile(r"(@DIR@/\w+\.sock': )(?:Connection refused|No such file or directory)")
KILLED = -9
ROUNDS, STILL = 60, 5
"""How often it is looked at most for what the two and the way between them say, and how often in vain at the end."""
PATIENTLY = 10 * TALK
"""The seconds between two looks where the computer may be busy."""
_LOADED = ["-device", "loader,file=@DIR@/ram.bin,addr=0x1000000,force-raw=on"]
PC = ["-machine", "pc,accel=tcg", "-m", "32", "-display", "none", "-nodefaults"]


class Step(NamedTuple):
    """What happens: `side` is told `what`, a message's text, or is killed, or the way is cut."""

    side: str
    what: str


class Said(NamedTuple):
    """What the two sides said of a step."""

    main: list[str]
    peer: list[str]


class Setting(NamedTuple):
    """How the two are started: whether the target waits for a client's `migrate-incoming`, and for `cont`."""

    deferred: bool = False
    stopped: bool = True

    def options(self, side: str) -> list[str]:
        """The command line of one of them, beside its monitor."""
        if side == MAIN:
            return [*PC, "-S", *_LOADED]
        incoming = ["-incoming", "defer" if self.deferred else "unix:@DIR@/m.sock"]
        return [*PC, *(["-S"] if self.stopped else []), *_LOADED, *incoming]


def comparable(lines: Sequence[str]) -> list[str]:
    """The lines without what differs from run to run: how often memory was looked at, and figures."""
    return [_without_figures(line) for line in lines if not _TIMED.search(line)]


def _without_figures(line: str) -> str:
    line = _NOBODY.sub(r"\1nobody", _LOST.sub("lost", line))
    if '"ram": {' not in line and '"total-time": ' not in line:
        return line
    return re.sub(r'(": )-?[0-9][0-9.eE+-]*', r"\1N", line)


async def ask_qmpd(
    release: str, setting: Setting, steps: Sequence[Step], pause: float = 2 * TALK
) -> tuple[list[Said], list[int | None]]:
    """What two machines of qmpd's say of each step, and with what they ended if they did.

    `pause` are the seconds between two looks whether a step is over: the way between them takes the computer's time.
    """
    with tempfile.TemporaryDirectory(prefix="m") as outer:
        folder = os.path.join(outer, "1")
        os.mkdir(folder)
        Path(folder, "ram.bin").write_bytes(_EIGHT_MEBIBYTES)
        scenario: dict[str, Any] = {
            "options": setting.options(MAIN), "guest": None, "peer": {"options": setting.options(PEER)},
        }  # fmt: skip
        way = Way(f"{folder}/r.sock", f"{folder}/m.sock")
        try:
            async with served(release, scenario, folder) as main, AsyncExitStack() as stack:
                assert main.other is not None
                sides: dict[str, Machine] = {MAIN: main, PEER: main.other}
                for each in sides.values():
                    each.own = await each.client()
                    stack.enter_context(each.own.socket)
                for each in sides.values():
                    await _settle(each, '{"execute": "qmp_capabilities"}')
                killed: set[str] = set()
                said = [await _ask_one(sides, way, step, killed, pause) for step in steps]
                status = [
                    KILLED if name in killed else await each.end(0) for name, each in sides.items()
                ]
        finally:
            way.close()
    return said, status


async def _settle(machine: Machine, text: str) -> list[str]:
    assert machine.own is not None
    return await play_step(machine, machine.own, {"send": text})


async def _ask_one(sides: dict[str, Machine], way: Way, step: Step, killed: set[str], pause: float) -> Said:
    machine = sides[step.side]
    assert machine.other is not None
    client: Client | None = machine.own
    assert client is not None
    came: list[str] = []
    if step.what == KILL:
        # Who has ended before has a status of its own.
        if not machine._ended.is_set():
            killed.add(step.side)
        await machine.end(0)
    elif step.what == CUT:
        way.cut()
    else:
        came = await play_step(machine, client, {"send": step.what})
    still = 0
    for _ in range(ROUNDS):
        await trio.sleep(pause)
        heard = len(comparable(machine.other.inbox))
        more = await play_step(machine, client, {"send": ""})
        came += more
        still = 0 if comparable(more) or len(comparable(machine.other.inbox)) > heard else still + 1
        if still == STILL:
            break
    there, machine.other.inbox = machine.other.inbox, []
    mine, other = comparable(came), comparable(there)
    return Said(mine, other) if step.side == MAIN else Said(other, mine)


class _Program:
    """One real program, and a client of its monitor."""

    def __init__(self, argv: list[str], path: str, folder: str) -> None:
        self._folder = folder
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while self._socket.connect_ex(path):
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.005)
        self._buffer = b""
        self.lines: list[str] = []
        self._ended = False
        while not self.lines:
            self.take(0.2)
        self.lines.clear()

    def send(self, text: str) -> None:
        with suppress(OSError):
            self._socket.sendall(text.encode())

    def take(self, patience: float) -> bool:
        """Have what comes among `lines`; whether something came."""
        if self._ended:
            time.sleep(min(patience, 0.01))
            return False
        self._socket.settimeout(patience)
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self._ended = not data
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        self.lines += [plain(line.decode("latin-1"), self._folder) for line in lines]
        return bool(data)

    def close(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()


def ask_qemu(
    release: str, setting: Setting, steps: Sequence[Step], expected: Sequence[Said] | None = None
) -> tuple[list[Said], list[int | None]]:
    """What two real programs say of each step, and with what they ended; it goes on while that is what is expected.

    Where nothing is, each step is given more time.
    """
    program = programs()[release]
    root = program[1] if program[0] == "chroot" else ""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="m", dir=f"{root}/tmp"))
        inside = folder.removeprefix(root)
        Path(folder, "ram.bin").write_bytes(_EIGHT_MEBIBYTES)
        way = Way(f"{folder}/r.sock", f"{folder}/m.sock")
        stack.callback(way.close)
        sides = {}
        for side in (PEER, MAIN):
            options = [each.replace("@DIR@", inside) for each in setting.options(side)]
            argv = [*program, *options, "-qmp", f"unix:{inside}/{side}.qmp,server=on,wait=off"]
            sides[side] = _Program(argv, f"{folder}/{side}.qmp", inside)
            stack.callback(sides[side].close)
        for each in sides.values():
            each.send('{"execute": "qmp_capabilities"}')
            while not each.lines:
                each.take(0.2)
            each.lines.clear()
        said: list[Said] = []
        for number, step in enumerate(steps):
            wanted = None if expected is None else expected[number]
            said.append(_ask_real(sides, way, step, inside, wanted))
            if wanted is not None and not same(said[-1], wanted):
                return said, []
        time.sleep(QUIET)
        return said, [sides[side].process.poll() for side in (MAIN, PEER)]


def _ask_real(sides: dict[str, _Program], way: Way, step: Step, folder: str, wanted: Said | None) -> Said:
    if step.what == KILL:
        sides[step.side].process.kill()
    elif step.what == CUT:
        way.cut()
    else:
        sides[step.side].send(step.what.replace("@DIR@", folder))
    deadline = time.monotonic() + PATIENCE
    last, told = time.monotonic(), 0
    while True:
        for each in sides.values():
            each.take(0.01)
        now = time.monotonic()
        # What differs from run to run is no news: some releases tell of a pass in every tenth of a second.
        heard = sum(len(comparable(each.lines)) for each in sides.values())
        if heard > told:
            last, told = now, heard
        if wanted is None:
            if now - last > 4 * QUIET:
                break
            continue
        enough = all(
            len(comparable(sides[side].lines)) >= len(lines)
            for side, lines in zip((MAIN, PEER), wanted, strict=True)
        )
        if now - last > QUIET and (enough or now > deadline):
            break
    found = Said(comparable(sides[MAIN].lines), comparable(sides[PEER].lines))
    for each in sides.values():
        each.lines.clear()
    return found


def same(one: Said, other: Said) -> bool:
    """Whether both said the same; replies and events alone, where which of them comes first is a matter of time."""
    return one == other or all(
        _apart(mine) == _apart(theirs) for mine, theirs in zip(one, other, strict=True)
    )


def _apart(lines: list[str]) -> tuple[list[str], list[str]]:
    events = [line for line in lines if '"event": "' in line]
    return events, [line for line in lines if '"event": "' not in line]


def execute(name: str, **arguments: object) -> str:
    """A message."""
    given = {"arguments": {key.replace("_", "-"): value for key, value in arguments.items()}} if arguments else {}
    return json.dumps({"execute": name, **given})
