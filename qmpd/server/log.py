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


def error(text: str) -> None:
    """Something went wrong: always printed."""
    _print(text)


def defect(what: str, failure: BaseException) -> None:
    """Something went wrong inside qmpd: always printed, with where that was."""
    import traceback

    error(what)
    error("".join(traceback.format_exception(failure)).rstrip())


def info(text: str) -> None:
    """A connection or a change of state: printed with -v."""
    if level >= 1:
        _print(text)


def message(text: str) -> None:
    """One message: printed with -vv."""
    if level >= 2:
        _print(text)


def _print(text: str) -> None:
    line = f"{_time()}{name}: {text}\n"
    try:
        if line.isascii() or not hasattr(sys.stderr, "buffer"):
            sys.stderr.write(line)
        else:
            # What is no text is printed as it is, such as the name of a process.
            sys.stderr.buffer.write(os.fsencode(line))
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # whoever reads the log is gone; the machine goes on


def _time() -> str:
    if not timestamp:
        return ""
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ")
