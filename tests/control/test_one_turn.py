"""What a guest, a timer, a signal and clients ask for while the main loop hangs: the next turn serves it in order.

Each pair of sources is tried with a process of its own, over its sockets. `tests/clients/test_one_turn.py` does the
same beside real QEMU, as far as that can be made to wait.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.clients.programs import PATIENCE, Server, serving

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = (
    "-machine", "pc", "-guest", "firmware=none,sleep-time=5s", "-device", "pvpanic", "-device", "ib700",
    "-no-shutdown", "-clock", "virtual", "-watchdog-action", "pause",
)  # fmt: skip
SIGNAL = 15
END = "SHUTDOWN host-signal"


class Line:
    """A client that speaks QMP's framing and has negotiated."""

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self._buffer = b""
        self.ask("qmp_capabilities")

    def send(self, command: str, /, **arguments: object) -> None:
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.socket.sendall(json.dumps({"execute": command, "arguments": given}).encode())

    def message(self) -> dict[str, Any] | None:
        while b"\n" not in self._buffer:
            data = self.socket.recv(1 << 16)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, command: str, /, **arguments: object) -> Any:
        self.send(command, **arguments)
        while (message := self.message()) is not None:
            if "event" not in message and "QMP" not in message:
                return message["return"]
        return None


def short(message: dict[str, Any]) -> str:
    if "event" in message:
        reason = message.get("data", {}).get("reason")
        return message["event"] if reason is None else f"{message['event']} {reason}"
    return "ok" if "return" in message else "error"


class Machine:
    """A machine whose main loop can be made to hang."""

    def __init__(self, server: Server, control: Line, client: Line) -> None:
        self.server = server
        self.control = control
        self.client = client

    def do(self, what: str) -> None:
        """Let one source ask for something."""
        source, _, rest = what.partition(" ")
        if source == "guest":
            self.control.ask(f"guest-{rest}")
        elif source == "timer":
            self.control.ask("clock-advance", time=rest)
        elif source == "signal":
            os.kill(self.server.process.pid, SIGNAL)
        else:
            self.client.send(rest)

    def heard(self, *, ends: bool = False) -> list[str]:
        """What the client has been told, by now; of a machine that `ends` to the end."""
        if not ends:
            self.client.send("query-uuid")
        heard: list[str] = []
        while (message := self.client.message()) is not None:
            if message.get("return", {}).get("UUID") is not None:
                break
            heard.append(short(message))
        return heard


@contextmanager
def machine(folder: Path, release: str, *options: str) -> Iterator[Machine]:
    control_path = folder / "control.sock"
    more = ("--release", release, "-control", f"unix:{control_path}")
    with (
        serving(folder / "vm.sock", *OPTIONS, *more, *options) as server,
        server.greeted(control_path) as control,
        server.greeted() as client,
    ):
        yield Machine(server, Line(control), Line(client))


class Pair(NamedTuple):
    """What is asked for while the main loop hangs, and what a client hears then, the reply after the turn."""

    asked: tuple[str, ...]
    heard: list[str]
    options: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


PAIRS: dict[str, Pair] = {
    # The guest and a command: the turn serves the guest, then the command is executed.
    "guest resets, command stops": Pair(("client stop", "guest reboot"), ["RESET guest-reset", "STOP", "ok"]),
    "guest resets, command resets": Pair(
        ("client system_reset", "guest reboot"), ["RESET guest-reset", "RESET host-qmp-system-reset", "ok"]
    ),
    "guest powers off, command resets": Pair(
        ("client system_reset", "guest shut-down"),
        ["SHUTDOWN guest-shutdown", "STOP", "RESET host-qmp-system-reset", "ok"],
    ),
    "guest panics, command continues": Pair(
        ("client cont", "guest panic"), ["GUEST_PANICKED", "STOP", "RESUME", "ok"], ("-action", "panic=pause")
    ),
    "guest sleeps, command wakes": Pair(("client system_wakeup", "guest suspend"), ["SUSPEND", "WAKEUP", "ok"]),
    "guest fails, command stops": Pair(("client stop", "guest internal-error"), ["STOP", "ok"]),
    # The guest and a signal: one turn, which serves them in the main loop's own order.
    "guest resets, signal": Pair(("guest reboot", "signal"), [END]),
    "guest powers off, signal": Pair(("guest shut-down", "signal"), [END]),
    "guest sleeps, signal": Pair(("signal", "guest suspend"), ["SUSPEND", END]),
    "guest panics, signal": Pair(("guest panic", "signal"), ["GUEST_PANICKED", END]),
    "guest resets, signal, reboot-reset": Pair(
        ("guest reboot", "signal"), ["RESET host-signal"], ("-extension", "reboot-reset", "-reboot-reset")
    ),
    "guest resets, signal, both": Pair(
        ("guest reboot", "signal"), ["RESET host-signal"],
        ("-extension", "reboot-reset", "-reboot-reset", "-no-reboot"),
    ),
    # The guest twice: a later request of a kind replaces the first, the kinds have an order.
    "guest resets and sleeps": Pair(("guest reboot", "guest suspend"), ["SUSPEND", "RESET guest-reset"]),
    "guest fails and resets": Pair(("guest internal-error", "guest reboot"), ["RESET guest-reset", "STOP"]),
    # A timer: it does what it does before the turn, whoever else waits.
    "timer, command": Pair(
        ("client system_powerdown", "timer 6s"), ["WAKEUP", "POWERDOWN", "ok"], before=("guest suspend",)
    ),
    "timer, signal": Pair(("signal", "timer 6s"), [END], before=("guest suspend",)),
    "timer, command that asks for the same": Pair(
        ("client system_wakeup", "timer 6s"), ["WAKEUP", "error"], before=("guest suspend",)
    ),
    # A signal and commands.
    "signal, commands": Pair(("client system_powerdown", "client stop", "signal"), [END]),
    "signal, command that ends": Pair(("client quit", "signal"), [END]),
    # Everything.
    "guest, timer, signal, command": Pair(
        ("client stop", "guest panic", "timer 6s", "signal"), ["GUEST_PANICKED", END]
    ),
    # An event that waited for its rate limit goes out before the timers of the machine's own time.
    "rate limit, guest's timer": Pair(
        ("timer 6s",), ["WATCHDOG", "WAKEUP"], ("-watchdog-action", "none"),
        ("guest expire-watchdog", "guest expire-watchdog", "guest suspend"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_in_one_turn(tmp_path: Path, name: str) -> None:
    pair = PAIRS[name]
    with machine(tmp_path, "7.2", *pair.options) as vm:
        vm.control.ask("clock-advance", time="1s")
        for what in pair.before:
            vm.do(what)
        vm.heard()
        vm.control.ask("fault-hang-main-loop")
        for what in pair.asked:
            vm.do(what)
        vm.control.ask("fault-clear")
        ends = pair.heard[-1].endswith("host-signal")
        assert vm.heard(ends=ends) == pair.heard
        if ends:
            assert vm.server.process.wait(PATIENCE) == 0


def test_replies_go_before_the_turn_where_the_release_does_so(tmp_path: Path) -> None:
    with machine(tmp_path, "5.2") as vm:
        vm.control.ask("clock-advance", time="1s")
        vm.control.ask("fault-hang-main-loop")
        vm.do("client system_reset")
        vm.do("guest reboot")
        vm.control.ask("fault-clear")
        assert vm.heard() == ["RESET guest-reset", "ok", "RESET host-qmp-system-reset"]


def test_a_signal_ends_a_machine_that_hangs_as_soon_as_it_does_not(tmp_path: Path) -> None:
    with machine(tmp_path, "7.2") as vm:
        vm.control.ask("fault-hang-main-loop")
        vm.do("signal")
        time.sleep(0.2)
        assert vm.server.process.poll() is None
        vm.control.ask("fault-clear")
        assert vm.heard(ends=True) == [END]
        assert vm.server.process.wait(PATIENCE) == 0
