"""What an operation on a machine can fail with."""

from __future__ import annotations

from qmpd.common.refusals import Worded

NOT_SUSPENDED = "Unable to wake up: guest is not in suspended state"
"""What refuses to wake a guest that does not sleep."""


class MachineError(Worded):
    """An operation was refused; the text is QEMU's own."""

    __slots__ = ()


class DeviceNotFound(MachineError):  # noqa: N818 - QAPI's name for it
    """What was asked for does not exist (QAPI's `DeviceNotFound`)."""

    __slots__ = ()
    error_class = "DeviceNotFound"


class InvalidTransition(AssertionError):  # noqa: N818 - it is a bug of the core, named after what happened
    """The core tried to leave a run state for one that the table does not allow.  QEMU aborts there."""
