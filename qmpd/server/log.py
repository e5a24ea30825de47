"""The log on standard error: a line each, quiet unless asked.

Level 0 tells of what went wrong, 1 of each connection and change of state, 2 of each message.
"""

from __future__ import annotations

import contextlib
import os
import sys

from qmpd.server.writer import Writer

level = 0
name = "qmpd"
timestamp = False
"""Whether the time stands in front of each line."""
json_lines = False
"""Whether each line is a JSON object: `time`, `level` (error, info or message), `program` and `text`."""

_COLOURS = {"error": "\x1b[31m", "info": "\x1b[36m", "message": "\x1b[2m"}
_PLAIN = "\x1b[0m"

MOST = 1 << 20
"""Bytes that wait to be printed."""

PATIENCE = 1.0
"""Seconds that standard error is given to take the rest at the end."""

# What prints once nobody may wait for it; how many lines were left out since one was printed.
_writer: Writer | None = None
_lost = 0


def error(text: str) -> None:
    """Something went wrong: always printed."""
    _print("error", text)


def defect(what: str, failure: BaseException) -> None:
    """Something went wrong inside qmpd: always printed, with where that was."""
    import traceback

    error(what)
    error("".join(traceback.format_exception(failure)).rstrip())


def info(text: str) -> None:
    """A connection or a change of state: printed with -v."""
    if level >= 1:
        _print("info", text)


def message(text: str) -> None:
    """One message: printed with -vv."""
    if level >= 2:
        _print("message", text)


def _print(kind: str, text: str) -> None:
    line = _line(kind, text)
    if _writer is not None:
        _hand_over(_bytes(line))
        return
    try:
        if line.isascii() or not hasattr(sys.stderr, "buffer"):
            sys.stderr.write(line)
        else:
            sys.stderr.buffer.write(_bytes(line))
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # whoever reads the log is gone; the machine goes on


def _line(kind: str, text: str) -> str:
    if json_lines:
        import json

        return json.dumps({"time": _now(), "level": kind, "program": name, "text": text}) + "\n"
    time = f"{_now()} " if timestamp else ""
    # QEMU's own lines, under its name, are never coloured.
    if name == "qmpd" and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"{time}{_COLOURS[kind]}{name}:{_PLAIN} {text}\n"
    return f"{time}{name}: {text}\n"


def raw(text: str) -> None:
    """Something to be printed as it is."""
    if _writer is not None:
        _hand_over(_bytes(text))
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def never_wait() -> None:
    """Let nobody wait for standard error from now on, be it a pipe that nobody reads or a slow disk; see `finish`."""
    global _writer
    if _writer is None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
            _writer = Writer(sys.stderr.fileno(), MOST, owned=False)


def settle(patience: float) -> None:
    """Wait until all is printed, for so many seconds; not for the main loop."""
    if _writer is not None:
        _writer.settle(patience)


def finish() -> None:
    """Give standard error some time to take what is left."""
    if _writer is not None:
        if _lost:
            _hand_over(b"")
        _writer.settle(PATIENCE)


def _bytes(line: str) -> bytes:
    try:
        # What is no text is printed as it is, such as the name of a process.
        return os.fsencode(line)
    except UnicodeEncodeError:
        return line.encode("utf-8", "backslashreplace")


def _hand_over(line: bytes) -> None:
    global _lost
    assert _writer is not None
    if _lost and (_writer.relieved or not line):
        notice = _line("error", f"{_lost} lines are missing here, which standard error did not take in time")
        if _writer.write(_bytes(notice)):
            _lost = 0
    if line and (_lost or not _writer.write(line)):
        _lost += 1


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
