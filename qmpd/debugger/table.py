"""How packets are looked up: entries of tables, and the reading of a packet's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from qmpd.debugger.arguments import Malformed, Thread, read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qmpd.debugger.target import Processor, Target

    Arguments = list[int | str | Thread]
    Handler = Callable[[Target, Arguments], None]

OK, NONE, UNKNOWN = b"OK", b"E00", b""
INVALID, FAULT, ODD = b"E22", b"E14", b"E01"


class Entry(NamedTuple):
    """One packet: how it begins (`whole`: all of it), its arguments, and whether it awaits a stop reply."""

    begins: str
    handler: Handler
    arguments: str = ""
    whole: bool = False
    awaits: bool = False


def run(target: Target, content: str, table: Sequence[Entry]) -> bool:
    """Execute the first entry that fits; False where none does, or it has wrong arguments."""
    for entry in table:
        if content == entry.begins if entry.whole else content.startswith(entry.begins):
            try:
                arguments = read(content[len(entry.begins) :], entry.arguments)
            except Malformed:
                return False
            target.awaits = entry.awaits
            entry.handler(target, arguments)
            return True
    return False


def with_processor(handler: Callable[[Target, Processor, Arguments], None]) -> Handler:
    """A handler that is about the CPU that was chosen for it."""

    def checked(target: Target, arguments: Arguments) -> None:
        processor = target.general
        if processor is None:
            target.tell(INVALID)
        else:
            handler(target, processor, arguments)

    return checked


def number_at(arguments: Arguments, place: int) -> int:
    """The argument at a place, which is a number."""
    return cast("int", arguments[place])


def text_at(arguments: Arguments, place: int) -> str:
    """The argument at a place, which is a text."""
    return cast("str", arguments[place])


def thread_at(arguments: Arguments, place: int) -> Thread:
    """The argument at a place, which is a thread."""
    return cast("Thread", arguments[place])


def from_hex(digits: str) -> bytes:
    """The bytes that digits stand for; what is no digit counts as 0, as it does there."""
    cleaned = "".join(each if each in "0123456789abcdefABCDEF" else "0" for each in digits[: len(digits) // 2 * 2])
    return bytes.fromhex(cleaned)


