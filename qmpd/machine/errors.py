"""What an operation on a machine can fail with."""

from __future__ import annotations

from qmpd.common.refusals import Worded
from qmpd.schedule import activity

NOT_SUSPENDED = "Unable to wake up: guest is not in suspended state"
"""What refuses to wake a guest that does not sleep."""


class MachineError(Worded):
    """An operation was refused; the text is QEMU's own."""

    __slots__ = ()


class DeviceNotFound(MachineError):  # noqa: N818 - QAPI's name for it
    """What was asked for does not exist (QAPI's `DeviceNotFound`)."""

    __slots__ = ()
    error_class = "DeviceNotFound"


# The core's own tables are held to by the same error as those of activities.  QEMU aborts there.
InvalidTransition = activity.InvalidTransition
