"""The error that a command ends with."""

from __future__ import annotations


class CommandError(Exception):
    """A command's refusal: `description` and `error_class` are the reply's `desc` and `class`.

    The classes are QAPI's `QapiErrorClass` (docs/interop/qmp-spec): GenericError, CommandNotFound,
    DeviceNotActive, DeviceNotFound, KVMMissingCap.
    """

    __slots__ = ("description", "error_class")

    def __init__(self, description: str, error_class: str = "GenericError") -> None:
        super().__init__(description)
        self.description = description
        self.error_class = error_class
