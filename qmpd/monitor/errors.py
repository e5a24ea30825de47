"""What a command ends with instead of a result."""

from __future__ import annotations

from qmpd.common.refusals import Worded


class CommandError(Worded):
    """A command's refusal, in its own words: `message` and `error_class` are the reply's `desc` and `class`.

    The classes are QAPI's `QapiErrorClass` (docs/interop/qmp-spec): GenericError, CommandNotFound,
    DeviceNotActive, DeviceNotFound, KVMMissingCap.
    """

    def __init__(self, message: str, error_class: str = "GenericError") -> None:
        super().__init__(message)
        self.error_class = error_class

    @property
    def description(self) -> str:
        """The message, by another name."""
        return self.message
