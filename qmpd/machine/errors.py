"""What an operation on a machine can fail with."""

from __future__ import annotations


class MachineError(Exception):
    """An operation was refused; the text is QEMU's own.  `error_class` is its class in QMP."""

    __slots__ = ("message",)
    error_class = "GenericError"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class DeviceNotFound(MachineError):  # noqa: N818 - QAPI's name for it
    """What was asked for does not exist (QAPI's `DeviceNotFound`)."""

    __slots__ = ()
    error_class = "DeviceNotFound"


class InvalidTransition(AssertionError):  # noqa: N818 - it is a bug of the core, named after what happened
    """The core tried to leave a run state for one that the table does not allow.  QEMU aborts there."""
