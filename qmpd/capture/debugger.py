"""What a program's machines look like to a debugger (`qmpd.qapi.debugger`): asked packet by packet, as a debugger."""

from __future__ import annotations

import json
import re
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from qmpd.capture.client import Gone, Program, Refused
from qmpd.debugger.packets import packet
from qmpd.qapi.debugger import ABOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.capture.client import Client

_COMMON = ["-display", "none", "-nodefaults", "-S"]
_MEMORY = 32
# Where a real machine has nothing.
_NOWHERE = 0x1_0000_0000
_BOARDS = ("pc", "q35", "isapc", "microvm")
# Beside their memory boards have something in the last part of what 32 bits reach; it begins with one of these blocks.
_FIRST, _END = 0xFE000000, 1 << 32
_BLOCK, _PAGE = 1 << 14, 1 << 12
_PATIENCE = 10.0
# How long the other side is given to say what it may not say at all, in seconds.
_PAUSE = 0.3
# Real-mode code at 0x7c00 that writes 1 to pvpanic's port and goes round for ever.
_PANICS = "ba0505b001eeebfe"
_REPEATED = re.compile(rb"\$([^#]*)#..")
# Flags of a step that there are not.
_ODD_FLAGS = 9


class _Debugger:
    """One that is attached to a program."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._came = b""
        connection.settimeout(_PATIENCE)

    def _receive(self) -> None:
        try:
            more = self._connection.recv(1 << 16)
        except TimeoutError as error:
            raise Gone("the debugger gets no answer") from error
        except OSError as error:
            raise Gone(error.strerror or "the connection failed") from error
        if not more:
            raise Gone("the connection was closed")
        self._came += more

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        :raise Gone: nobody is there.
        """
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise Gone(error.strerror or "the connection failed") from error

    def next(self) -> bytes:
        """The content of the next packet.

        :raise Gone: none came.
        """
        while (match := _REPEATED.search(self._came)) is None:
            self._receive()
        self._came = self._came[match.end() :]
        with suppress(Gone):
            self.send(b"+")
        return match[1]

    def ask(self, content: str) -> str:
        """What a packet is answered."""
        self.send(packet(content.encode()))
        return self.next().decode("latin-1")

    def rest(self) -> list[str]:
        """The packets that come without being asked for, for a moment, or until the connection ends."""
        found = []
        self._connection.settimeout(_PAUSE)
        try:
            while True:
                found.append(self.next().decode("latin-1"))
        except Gone:
            return found
        finally:
            self._connection.settimeout(_PATIENCE)


@contextmanager
def _attached(command: str, options: list[str]) -> Iterator[tuple[_Debugger, Client]]:
    """A debugger at a program that has not run, with its monitor."""
    ours, theirs = socket.socketpair()
    device = ["-chardev", f"socket,id=debugger,fd={theirs.fileno()}", "-gdb", "chardev:debugger"]
    with ours, theirs, Program(command, [*options, *_COMMON, *device], [theirs.fileno()]) as program:
        theirs.close()
        yield _Debugger(ours), program.client


def debugger(command: str, report: Callable[[str], None]) -> dict[str, Any] | None:
    """The content of debugger.json for the program that `command` starts; None where it cannot be had."""
    try:
        found: dict[str, Any] = {}
        found.update(_answers(command))
        found.update(_stops(command))
        found.update(_breakpoints(command))
        found.update(_ends(command))
        with _attached(command, ["-machine", "pc", "-m", str(_MEMORY)]) as (asked, client):
            features, registers = _features(asked), _registers(asked, client)
    except (Refused, Gone, OSError, ValueError, KeyError) as error:
        report(f"what a debugger sees cannot be asked for: {error}")
        return None
    behaviour = {name: {"value": found[name], "about": about} for name, about in ABOUT.items()}
    mapped = {board: ranges for board in _BOARDS if (ranges := _mapped(command, board)) is not None}
    return {"behaviour": behaviour, "features": features, "registers": registers, "mapped": mapped}


def document(found: dict[str, Any]) -> bytes:
    """The file, a register and a board a line."""
    parts = []
    for name, value in found.items():
        if name == "registers":
            lines = ",\n".join(f"    {json.dumps(each)}" for each in value)
            parts.append(f'  "{name}": [\n{lines}\n  ]')
        elif name == "mapped":
            lines = ",\n".join(f"    {json.dumps(board)}: {json.dumps(ranges)}" for board, ranges in value.items())
            parts.append(f'  "{name}": {{\n{lines}\n  }}')
        else:
            parts.append(f'  "{name}": {json.dumps(value, indent=2)}'.replace("\n", "\n  "))
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()


# Behaviours


def _answers(command: str) -> dict[str, Any]:
    with _attached(command, ["-machine", "pc", "-m", str(_MEMORY)]) as (asked, _):
        ask = asked.ask
        supported = dict(part.split("=", 1) for part in ask("qSupported").split(";") if "=" in part)
        found: dict[str, Any] = {
            "packet_size": int(supported["PacketSize"], 16),
            "description_first": ask("p0") == "",
            "halted_by_core": "core:" in ask("?"),
            "unmapped_writes_refused": ask(f"M{_NOWHERE:x},1:00") != "OK",
            "step_flags_checked": ask(f"Qqemu.sstep={_ODD_FLAGS:x}") != "OK",
        }
        asked.send(packet(b"b"))
        found["backward_answered_twice"] = len(asked.rest()) > 1
        names = _names(_features(asked))
        vector, first, status = (names.index(name) for name in ("xmm0", "st0", "fstat"))
        value = bytes(range(16)).hex()
        ask(f"P{vector:x}={value}")
        found["vectors_written_swapped"] = ask(f"p{vector:x}") != value
        value = bytes(range(10)).hex()
        ask(f"P{first:x}={value}")
        # The top of the stack is the second register now.
        ask(f"P{status:x}={(1 << 11).to_bytes(4, 'little').hex()}")
        found["stack_turns"] = ask(f"p{first:x}") != value
        return found


def _stops(command: str) -> dict[str, Any]:
    with _attached(command, ["-machine", "pc", "-m", str(_MEMORY)]) as (asked, client):
        asked.ask("?")
        client.ask("cont")
        client.ask("stop")
        return {"replies_when_awaited": not asked.rest()}


def _breakpoints(command: str) -> dict[str, Any]:
    with _attached(command, ["-machine", "pc", "-m", str(_MEMORY), "-smp", "2"]) as (asked, _):
        for content in (f"Z0,{_END - 16:x},1", "Hc2", "?"):
            asked.ask(content)
        asked.send(packet(b"c"))
        return {"halt_clears_all": asked.rest() == []}


def _ends(command: str) -> dict[str, Any]:
    machine = ["-machine", "pc", "-m", str(_MEMORY)]
    with _attached(command, machine) as (asked, client):
        asked.ask("?")
        asked.send(packet(b"k"))
        told = asked.rest()
        with suppress(Gone):
            client.ask("query-status")
            client.ask("query-status")
        events = [event["event"] for event in client.events]
        kill = "shutdown" if "SHUTDOWN" in events else "told" if told else "exit"
    with _attached(command, machine) as (asked, client):
        asked.ask("?")
        asked.send(packet(b"c"))
        client.ask("query-status")
        client.send(b'{"execute": "quit"}')
        stops = len(asked.rest()) > 1
    return {"kill": kill, "end_stops": stops, "exit_status_told": _tells_status(command)}


def _tells_status(command: str) -> bool:
    """Whether a machine that ends with status 1 says so; where none can, it does not."""
    options = ["-machine", "pc", "-m", str(_MEMORY), "-device", "pvpanic", "-action", "panic=exit-failure"]
    try:
        with _attached(command, options) as (asked, _):
            names = _names(_features(asked))
            counter, code = names.index("rip"), names.index("cs")
            zero = bytes(4).hex()
            for content in (
                f"M7c00,{len(_PANICS) // 2:x}:{_PANICS}",
                f"P{code:x}={zero}",
                f"P{counter:x}={(0x7C00).to_bytes(8, 'little').hex()}",
            ):
                asked.ask(content)
            asked.send(packet(b"c"))
            return asked.next() == b"W01"
    except Refused:
        return False


# Captured data


def _features(asked: _Debugger) -> dict[str, str]:
    """The texts that describe the target, by their names."""
    found: dict[str, str] = {}
    wanted = ["target.xml"]
    while wanted:
        name = wanted.pop(0)
        text = ""
        while True:
            part = asked.ask(f"qXfer:features:read:{name}:{len(text):x},400")
            text += re.sub(r"\}(.)", lambda match: chr(ord(match[1]) ^ 0x20), part[1:], flags=re.DOTALL)
            if part[:1] != "m":
                break
        found[name] = text
        wanted += re.findall(r'<xi:include href="([^"]+)"', text)
    return found


def _names(features: dict[str, str]) -> list[str]:
    """The registers' names, in the order of their numbers."""
    texts = (re.sub("<!--.*?-->", "", text, flags=re.DOTALL) for text in features.values())
    return [name for text in texts for name in re.findall(r'<reg name="([^"]+)"', text)]


def _registers(asked: _Debugger, client: Client) -> list[dict[str, str]]:
    """Each register's name and value, and which of its bits can be written."""
    found = []
    for number, name in enumerate(_names(_features(asked))):
        client.ask("system_reset")
        # It may be answered before it is done.
        client.ask("query-status")
        value = asked.ask(f"p{number:x}")
        asked.ask(f"P{number:x}={'f' * len(value)}")
        ones = asked.ask(f"p{number:x}")
        asked.ask(f"P{number:x}={'0' * len(value)}")
        always = asked.ask(f"p{number:x}")
        found.append({"name": name, "value": value, "writable": ones})
        if always.strip("0"):
            found[-1]["always"] = always
    return found


def _mapped(command: str, board: str) -> list[list[int]] | None:
    """Where a board has something beside its memory, below 4 GiB; None where there is no such board."""
    try:
        with _attached(command, ["-machine", board, "-m", str(_MEMORY)]) as (asked, _):

            def has(address: int) -> bool:
                return not asked.ask(f"m{address:x},1").startswith("E")

            ranges: list[list[int]] = []
            for block in filter(has, range(_FIRST, _END, _BLOCK)):
                for page in filter(has, range(block, block + _BLOCK, _PAGE)):
                    if ranges and ranges[-1][1] == page:
                        ranges[-1][1] = page + _PAGE
                    else:
                        ranges.append([page, page + _PAGE])
            return ranges
    except Refused:
        return None
