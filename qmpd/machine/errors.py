"""What an operation on a machine can fail with."""

from __future__ import annotations


class MachineError(Exception):
    """An operation was refused; the text is QEMU's own (class GenericError in QMP)."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidTransition(AssertionError):  # noqa: N818 - it is a bug of the core, named after what happened
    """The core tried to leave a run state for one that the table does not allow.  QEMU aborts there."""
