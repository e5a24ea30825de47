"""A VM as it was at one moment."""

from __future__ import annotations

from typing import Any


class Snapshot:
    """A VM as it was at one moment (`VM.snapshot`); `vm` is whose it is, `state` plain data."""

    __slots__ = ("state", "vm")

    def __init__(self, vm: object, state: dict[str, Any]) -> None:
        self.vm = vm
        self.state = state
