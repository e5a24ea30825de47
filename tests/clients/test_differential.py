"""Random command sequences under random start options: qmpd and real QEMU have to say the same bytes.

Every example starts both afresh.  What is played is what the same program answers the same way every time:
machine `none` in all its states, machine `pc` as long as its CPUs have never run (firmware acts by the clock).
Each step ends with a command of its own, whose reply tells that all the others have come.

`QMPD_EXAMPLES` sets how many examples are tried with each release that is there; they are then chosen anew on
each run.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from qmpd.cli import serve
from qmpd.qapi import load_release
from qmpd.server.virtual_machine import VirtualMachine
from tests.clients.programs import PATIENCE
from tests.golden import RELEASES
from tests.player import comparable
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = int(os.environ.get("QMPD_EXAMPLES", "0"))
SETTLING = {"5.2": 0.2}
"""Seconds until a release that starts is talked to: 5.2 can lose a byte and greet late before."""
DEFAULT_EXAMPLES = {"7.2": 40}
"""How many examples are tried in an ordinary run; the other releases are rarely there, and get a few."""


class Talk:
    """A client's side of one session: sends steps, collects what comes back."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self.socket.connect_ex(path):
            if time.monotonic() > deadline:
                self.socket.close()
                raise TimeoutError("nobody listens")
            time.sleep(0.002)
        self.buffer = b""
        self.steps = 0
        self.ended = False

    def line(self) -> str | None:
        """The next line; None at the end of the connection."""
        while b"\n" not in self.buffer:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self.ended = True
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return comparable(line.decode("latin-1"))

    def until(self, mark: str) -> Iterator[str]:
        """The lines up to the first that holds the mark."""
        while (line := self.line()) is not None:
            yield line
            if mark in line:
                return

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.ended = True

    def step(self, data: bytes, alone: bool) -> list[str]:
        """Send `data` and take what comes back; `alone`: its reply has to come before more is sent."""
        self.steps += 1
        mark = f"step {self.steps}"
        lines: list[str] = []
        if alone:
            self.send(data)
            lines += self.until('"id": "alone"')
            data = b""
        self.send(data + json.dumps({"execute": "query-name", "id": mark}).encode())
        lines += self.until(mark)
        return lines


def play_qemu(release: str, options: list[str], steps: list[tuple[bytes, bool]]) -> list[object]:
    """What real QEMU says, and its exit status if it ended."""
    program = programs()[release]
    root = program[1] if program[0] == "chroot" else ""
    with tempfile.TemporaryDirectory(prefix="qmpd-", dir=f"{root}/tmp") as folder:
        path = f"{folder}/qemu.sock"
        address = f"unix:{path.removeprefix(root)},server=on,wait=off"
        command = [*program, "-display", "none", "-nodefaults", *options, "-qmp", address]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as qemu:
            try:
                time.sleep(SETTLING.get(release, 0))
                talk = Talk(path)
                with talk.socket:
                    said: list[object] = [talk.line()]
                    for data, alone in steps:
                        if not talk.ended:
                            said.append(talk.step(data, alone))
                said.append(qemu.wait(PATIENCE) if talk.ended else None)
            finally:
                qemu.kill()
    return said


def play_qmpd(release: str, options: list[str], steps: list[tuple[bytes, bool]], path: str) -> list[object]:
    """What qmpd says, and its exit status if it ended."""
    parsed = serve.parse(["--release", release, *options, "-qmp", f"unix:{path},server=on,wait=off"])
    assert parsed is not None
    vm = VirtualMachine(parsed[0])
    vm.listen()
    scope = trio.CancelScope()
    status: list[int] = []
    token: list[trio.lowlevel.TrioToken] = []

    async def run() -> None:
        token.append(trio.lowlevel.current_trio_token())
        with scope:
            status.append(await vm.run())

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    try:
        talk = Talk(path)
        with talk.socket:
            said: list[object] = [talk.line()]
            for data, alone in steps:
                if not talk.ended:
                    said.append(talk.step(data, alone))
        if talk.ended:
            thread.join(PATIENCE)
            said.append(status[0])
        else:
            said.append(None)
    finally:
        try:
            token[0].run_sync_soon(scope.cancel)
        except (IndexError, trio.RunFinishedError):
            pass  # it has ended already
        thread.join(PATIENCE)
    return said


# -- what is played


def command(name: str, **arguments: object) -> dict[str, object]:
    request: dict[str, object] = {"execute": name}
    if arguments:
        request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
    return request


ENUMERATIONS: dict[str, list[str | int | None]] = {
    "reboot": ["reset", "shutdown", "bogus"],
    "shutdown": ["poweroff", "pause", 1],
    "panic": ["pause", "shutdown", "exit-failure", "none", None],
    "watchdog": ["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi", ""],
}
QUERIES = [
    "query-status", "query-name", "query-uuid", "query-version", "query-target", "query-kvm", "query-current-machine",
    "query-cpus-fast", "query-hotpluggable-cpus", "query-memory-size-summary", "query-chardev", "query-yank",
    "query-iothreads", "query-migrate", "query-block", "query-pci", "query-events",
]  # fmt: skip
HUMAN_LINES = [
    "info status", "info name", "info uuid", "info version", "info", "foo", "", " ", "stop", "system_reset",
    "system_powerdown", "system_wakeup", "info foo", "stop now", "c x",
]  # fmt: skip
MORE_OPTIONS = [
    ["-no-shutdown"], ["-watchdog-action", "pause"], ["-name", "vm 1"], ["-m", "48"],
    ["-uuid", "8b1c3a52-2f4c-4d4e-9a57-0d6c4a3b2f10"],
]  # fmt: skip
ENDING_OPTIONS = [
    ["-no-reboot"], ["-action", "reboot=shutdown"], ["-action", "shutdown=pause"],
    ["-action", "panic=pause,watchdog=none"],
]  # fmt: skip
MALFORMED = [
    b"{", b"}", b"{'execute'}", b"[1,]", b"'x", b"nul", b"{\"execute\": 'query-name', 'id': 1.50}", b"\x01", b"[[",
    b"{'id':7}",
    b"{'execute':'query-name','execute':'stop'}", b"17", b"{'execute':5}", b"{'execute':'stop','extra':1}", b"-",
    b"{'execute':'query-name','id':{'b':1,'a':[null,true]}}", b"{'exec-oob':'query-name'}",
]  # fmt: skip

actions = st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in ENUMERATIONS.items()})


def commands(may_continue: bool, may_end: bool) -> st.SearchStrategy[dict[str, object]]:
    """One command; `cont` only where nothing acts by the clock then, `quit` only where it may end."""
    moving = ["stop", "system_reset", "system_powerdown", "system_wakeup", "stop", "inject-nmi", "x-exit-preconfig"]
    lines = [*HUMAN_LINES]
    if may_continue:
        moving += ["cont", "cont"]
        lines += ["cont", "c"]
    names = st.sampled_from(moving).map(command)
    return st.one_of(
        names,
        names,
        st.sampled_from(QUERIES).map(command),
        st.just(command("query-status")),
        actions.map(lambda values: command("set-action", **values)),
        st.sampled_from(ENUMERATIONS["watchdog"]).map(lambda value: command("watchdog-set-action", action=value)),
        st.sampled_from(lines).map(lambda line: command("human-monitor-command", command_line=line)),
        st.sampled_from(["no-such", "qmp_capabilities", "query-status "]).map(command),
        st.sampled_from(moving).map(lambda name: command(name, bogus=1)),
        st.integers(0, 11).map(lambda number: command("query-status" if number or not may_end else "quit")),
    )


@st.composite
def examples(draw: st.DrawFn, release: str) -> tuple[list[str], list[tuple[bytes, bool]]]:
    """Start options, and steps: bytes, and whether they are an out-of-band command that is sent alone."""
    machine = draw(st.sampled_from(["none", "none", "pc"]))
    options = ["-machine", machine]
    incoming = draw(st.integers(0, 7)) == 0
    recent = load_release(release).behaviour.keyval_options
    preconfig = draw(st.integers(0, 7)) == 0 and (recent or not incoming)
    if machine == "pc" or draw(st.booleans()):
        options.append("-S")
    if incoming:
        options += ["-incoming", "defer"]
    if preconfig:
        options.append("-preconfig")
    # Where replies do not wait for events, chance decides what is still said when the machine ends.
    may_end = load_release(release).behaviour.reply_after_turn
    more = [*MORE_OPTIONS, *ENDING_OPTIONS] if may_end else MORE_OPTIONS
    options += [word for words in draw(st.lists(st.sampled_from(more), max_size=3)) for word in words]
    if machine == "pc":
        options += draw(st.sampled_from([[], ["-smp", "2"], ["-smp", "2,maxcpus=4"], ["-smp", "4,cores=2"]]))
    oob = draw(st.integers(0, 3)) == 0
    negotiation = command("qmp_capabilities", enable=["oob"]) if oob else command("qmp_capabilities")
    steps: list[tuple[bytes, bool]] = []
    if draw(st.integers(0, 9)):
        steps.append((json.dumps(negotiation).encode(), False))
    one = commands(machine == "none" and not incoming, may_end)
    for _ in range(draw(st.integers(1, 8))):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            # The byte 0xFF makes either parser start over, whatever it was in the middle of.
            steps.append((draw(st.sampled_from(MALFORMED)) + b"\xff", False))
        elif kind == 1 and oob:
            name = draw(st.sampled_from(["migrate-pause", "query-status", "no-such", "yank", "migrate-recover"]))
            steps.append((json.dumps({"exec-oob": name, "id": "alone"}).encode(), True))
        else:
            requests = draw(st.lists(one, min_size=1, max_size=6))
            spaces = draw(st.sampled_from(["", "\n", " \r\n"]))
            steps.append(
                (
                    spaces.join(
                        json.dumps(request | {"id": number}) for number, request in enumerate(requests)
                    ).encode(),
                    False,
                )
            )
    return options, steps


@pytest.mark.parametrize("release", RELEASES)
def test_qmpd_says_what_qemu_says(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")

    @settings(
        max_examples=EXAMPLES or DEFAULT_EXAMPLES.get(release, 10),
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(examples(release))
    def same(example: tuple[list[str], list[tuple[bytes, bool]]]) -> None:
        options, steps = example
        for _ in range(3):
            try:
                qemu = play_qemu(release, options, steps)
            except TimeoutError:
                # The real program says nothing for so long only where the computer has much to do.
                reject()
            with tempfile.TemporaryDirectory(prefix="qmpd-") as folder:
                qmpd = play_qmpd(release, options, steps, f"{folder}/qmpd.sock")
            if qmpd == qemu:
                return
            # An answer may have come late, where the computer has much to do; a real difference is there again.
        assume('"QMP"' in str(qemu[0]))  # 5.2 can greet late where it took longer to start
        for ours, theirs in zip(qmpd, qemu, strict=True):
            assert ours == theirs

    same()
