"""The error that a control command ends with."""

from __future__ import annotations


class ControlError(Exception):
    """What was asked of the puppeteer cannot be done; `message` says why (QMP class GenericError)."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
