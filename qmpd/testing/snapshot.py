"""A VM as it was at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmpd.testing.kept_disks import KeptDisks


class Snapshot:
    """A VM as it was at one moment (`VM.snapshot`); `vm` is whose it is, `state` plain data.

    `disks` are the files that it may write to, None without any.
    """

    __slots__ = ("disks", "state", "vm")

    def __init__(self, vm: object, state: dict[str, Any], disks: KeptDisks | None = None) -> None:
        self.vm = vm
        self.state = state
        self.disks = disks
