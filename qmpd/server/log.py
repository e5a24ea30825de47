"""The log on standard error: a line each, quiet unless asked.

Level 0 tells of what went wrong, 1 of each connection and change of state, 2 of each message.
"""

from __future__ import annotations

import sys

level = 0
name = "qmpd"


def error(text: str) -> None:
    """Something went wrong: always printed."""
    _print(text)


def info(text: str) -> None:
    """A connection or a change of state: printed with -v."""
    if level >= 1:
        _print(text)


def message(text: str) -> None:
    """One message: printed with -vv."""
    if level >= 2:
        _print(text)


def _print(text: str) -> None:
    try:
        sys.stderr.write(f"{name}: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # whoever reads the log is gone; the machine goes on
