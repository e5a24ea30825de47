"""The language of `qemu-io`: its commands' arguments, sizes, and how it tells of what was done.  (qemu-io-cmds.c.)"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from qmpd.common.integers import from_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)([bBkKmMgGtTpPeE]?)\Z")
_UNITS = "bkmgtpe"
_LARGEST = (1 << 63) - 1
_STEPS = ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))


class Wrong(Exception):  # noqa: N818 - the name says what happened
    """A command cannot be carried out as it is written; the text says why, and ends with a line feed."""


class Command(NamedTuple):
    """A command: how many arguments it takes (`most` is None for any number), its options, and what help says."""

    name: str
    least: int
    most: int | None
    options: str
    usage: str
    short: str


COMMANDS = (
    Command("abort", 0, 0, "", "", "simulate a program crash using abort(3)"),
    Command("aio_flush", 0, 0, "", "", "completes all outstanding aio requests"),
    Command(
        "aio_read", 2, None, "CP:iqv", "[-Ciqv] [-P pattern] off len [len..]",
        "asynchronously reads a number of bytes",
    ),
    Command(
        "aio_write", 2, None, "CfiP:quz", "[-Cfiquz] [-P pattern] off len [len..]",
        "asynchronously writes a number of bytes",
    ),
    Command("alloc", 1, 2, "", "offset [count]", "checks if offset is allocated in the file"),
    Command("break", 2, 2, "", "event tag", "sets a breakpoint on event and tags the stopped request as tag"),
    Command("discard", 2, None, "Cq", "[-Cq] off len", "discards a number of bytes at a specified offset"),
    Command("flush", 0, 0, "", "", "flush all in-core file state to disk"),
    Command("help", 0, 1, "", "[command]", "help for one or all commands"),
    Command("info", 0, 0, "", "", "prints information about the current file"),
    Command("length", 0, 0, "", "", "gets the length of the current file"),
    Command("map", 0, 0, "", "", "prints the allocated areas of a file"),
    Command(
        "read", 2, None, "abCl:pP:qs:v", "[-abCqv] [-P pattern [-s off] [-l len]] off len",
        "reads a number of bytes at a specified offset",
    ),
    Command(
        "readv", 2, None, "CP:qv", "[-Cqv] [-P pattern] off len [len..]",
        "reads a number of bytes at a specified offset",
    ),
    Command("remove_break", 1, 1, "", "tag", "remove a breakpoint by tag"),
    Command("reopen", 0, None, "rwc:o:", "[(-r|-w)] [-c cache] [-o options]", "reopens an image with new options"),
    Command("resume", 1, 1, "", "tag", "resumes the request tagged as tag"),
    Command("sigraise", 1, 1, "", "signal", "raises a signal"),
    Command("sleep", 1, 1, "", "", "waits for the given value in milliseconds"),
    Command("truncate", 1, 3, "m:", "[-m prealloc_mode] off", "truncates the current file at the given offset"),
    Command("wait_break", 1, 1, "", "tag", "waits for the suspension of a request"),
    Command(
        "write", 2, None, "bcCfnpP:qs:uz", "[-bcCfnquz] [-P pattern | -s source_file] off len",
        "writes a number of bytes at a specified offset",
    ),
    Command(
        "writev", 2, None, "CfqP:", "[-Cfq] [-P pattern] off len [len..]",
        "writes a number of bytes at a specified offset",
    ),
)  # fmt: skip


_EMPTY = "Error: Device '{name}' has no medium\n"
MISSED = {
    "map": "Failed to query image length: No medium found\n", "truncate": "No medium inserted\n",
    "alloc": _EMPTY, "info": _EMPTY, "reopen": _EMPTY, "wait_break": _EMPTY,
}  # fmt: skip
"""What the monitor says where nothing is in the drive.  QEMU ends in `_EMPTY`'s cases, or waits for ever."""


def find(name: str) -> Command | None:
    """The command of this name, or of its short one."""
    whole = {"d": "discard", "f": "flush", "i": "info", "l": "length", "r": "read", "rv": "readv", "w": "write",
             "wv": "writev"}.get(name, name)  # fmt: skip
    return next((each for each in COMMANDS if each.name == whole), None)


def usage(command: Command) -> str:
    """The line that help has of a command."""
    return f"{command.name}{' ' if command.usage else ''}{command.usage} -- {command.short}\n"


class Words(NamedTuple):
    """The options that a command was given, by their letters, and its arguments."""

    options: dict[str, str]
    arguments: list[str]


def parse(command: Command, words: Sequence[str]) -> Words:
    """Sort the words behind a command's name into options and arguments.

    :raise Wrong: there are too few or too many, or an option is none.
    """
    if len(words) < command.least or (command.most is not None and len(words) > command.most):
        raise Wrong(f"bad argument count {len(words)} to {command.name}, expected {_expected(command)}\n")
    if not command.options:
        return Words({}, list(words))
    options: dict[str, str] = {}
    arguments: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            arguments += rest
            break
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            place = command.options.find(letter)
            if place < 0 or letter == ":":
                raise Wrong(f"{command.name}: invalid option -- '{letter}'\n{usage(command)}")
            if command.options[place + 1 : place + 2] == ":":
                if not letters and not rest:
                    raise Wrong(f"{command.name}: option requires an argument -- '{letter}'\n{usage(command)}")
                options[letter], letters = letters or rest.pop(0), ""
            else:
                options[letter] = ""
    return Words(options, arguments)


def _expected(command: Command) -> str:
    if command.most is None:
        return f"at least {command.least} arguments"
    if command.least == command.most:
        return f"{command.least} arguments"
    return f"between {command.least} and {command.most} arguments"


def number(text: str) -> int:
    """A size.

    :raise Wrong: it is none.
    """
    found = _NUMBER.match(text)
    if found is None:
        raise Wrong(f"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}\n")
    power = 10 * _UNITS.index(found[2].lower() or "b")
    whole = int(found[1], 16) if found[1][:2] in ("0x", "0X") else None
    if whole is not None:
        value = whole << power
    else:
        value = int(float(found[1]) * (1 << power)) if "." in found[1] else from_digits(found[1]) << power
    if value > _LARGEST:
        raise Wrong(f"Parsing error: argument too large -- {text}\n")
    return value


def source(path: str, count: int) -> bytes:
    """So many bytes of a file, which is repeated where it is shorter.

    :raise Wrong: it cannot be read, or is empty.
    """
    from qmpd.block.files import read_bytes

    try:
        content = read_bytes(path, count)
    except OSError as error:
        raise Wrong(f"{path}: {error.strerror}\n") from None
    if not content:
        raise Wrong(f"{path}: file is empty\n")
    return (content * (count // len(content) + 1))[:count]


def byte(text: str) -> int:
    """A pattern.

    :raise Wrong: it is none.
    """
    try:
        value = int(text, 0) if not re.fullmatch(r"0[0-7]+", text) else int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise Wrong(f"{text} is not a valid pattern byte\n")
    return value


def size(value: float) -> str:
    """A size as people read it: `64 KiB`."""
    for power, unit in _STEPS:
        if value >= 1 << power:
            return _short(value / (1 << power), unit)
    return _short(value, "bytes")


def _short(value: float, unit: str) -> str:
    text = f"{value:.3f}"
    return f"{text.removesuffix('.000')} {unit}"


def report(done: str, offset: int, asked: int, total: int, seconds: float, *, terse: bool, operations: int = 1) -> str:
    """What was done, and how fast."""
    seconds = max(seconds, 1e-9)
    if terse:
        return f"{total},{operations},{_time(seconds)},{total / seconds:.3f},{operations / seconds:.3f}\n"
    return (
        f"{done} {total}/{asked} bytes at offset {offset}\n{size(total)}, {operations} ops; {_time(seconds)} "
        f"({size(total / seconds)}/sec and {operations / seconds:.4f} ops/sec)\n"
    )


def _time(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, whole = divmod(rest, 60)
    hundredths = int(seconds % 1 * 100)
    if hours:
        return f"{hours}:{minutes:02}:{whole:02}.{hundredths:02}"
    if minutes:
        return f"{minutes}:{whole:02}.{hundredths:02}"
    return f"{whole:02}.{hundredths:02} sec"


def dump(data: bytes, offset: int) -> str:
    """Bytes for people to read."""
    said = []
    for place in range(0, len(data), 16):
        part = data[place : place + 16]
        shown = "".join(chr(each) if 32 <= each < 127 else "." for each in part)
        said.append(f"{offset + place:08x}:  {' '.join(f'{each:02x}' for each in part)}  {shown}\n")
    return "".join(said)


class Expected:
    """What is to be found in a part of what is read: a pattern, or anything (None)."""

    def __init__(self, pattern: int | None, skip: int, length: int) -> None:
        self._pattern = pattern
        self._begin, self._end = skip, skip + length
        self.is_missing = False

    def take(self, place: int, data: bytes) -> None:
        """Look at a piece that begins there."""
        if self._pattern is not None and not self.is_missing:
            part = data[max(0, self._begin - place) : max(0, self._end - place)]
            self.is_missing = part != bytes([self._pattern]) * len(part)
