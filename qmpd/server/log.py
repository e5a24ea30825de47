"""The log on standard error: a line each, quiet unless asked.

Level 0 tells of what went wrong, 1 of each connection and change of state, 2 of each message.
"""

from __future__ import annotations

import os
import sys

level = 0
name = "qmpd"
timestamp = False
"""Whether the time stands in front of each line."""
json_lines = False
"""Whether each line is a JSON object: `time`, `level` (error, info or message), `program` and `text`."""

_COLOURS = {"error": "\x1b[31m", "info": "\x1b[36m", "message": "\x1b[2m"}
_PLAIN = "\x1b[0m"


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
    try:
        if line.isascii() or not hasattr(sys.stderr, "buffer"):
            sys.stderr.write(line)
        else:
            # What is no text is printed as it is, such as the name of a process.
            sys.stderr.buffer.write(os.fsencode(line))
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


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
