"""What qmpd itself fails at: an unexpected exception costs the command that met it, and no other client anything.

Every dispatcher (QMP, the control sockets, the human monitor, qtest) has this guard around the execution of a command.
"""

from __future__ import annotations

UNEXPECTED = (Exception, SystemExit)
"""What the guard catches; code that is made for a command line may want to end the process."""

_LONGEST = 500
"""Characters of a line that are told."""


def said(error: BaseException, at: str = "this command") -> str:
    """What the client is told, in a line."""
    return f"qmpd failed at {at}, which is a defect of qmpd: {_shortened(f'{type(error).__name__}: {error}')}"


def reported(error: BaseException) -> str:
    """What standard error is told: where it happened."""
    import traceback

    lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
    return "\n".join(map(_shortened, lines))


def _shortened(line: str) -> str:
    # What a client has sent may be quoted in it.
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
