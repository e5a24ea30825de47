"""What can go wrong with a migration when somebody asks for it; nothing does where nobody has."""

from __future__ import annotations

from typing import Protocol


class Faults(Protocol):
    """Who has migrations meet faults (`qmpd.control.migration_faults`)."""

    def takes_cut(self, copied: int, total: int) -> bool:
        """Whether the way is lost now that so many bytes of memory were copied; that happens once it is told."""

    def next_cut(self, copied: int, total: int) -> int | None:
        """How many bytes of memory may be copied until the way is lost; None: any number."""

    def takes_refusal(self) -> str | None:
        """Why the machine that comes now is refused; None where it is not."""

    @property
    def hold_switchover(self) -> bool:
        """Whether a machine that has stopped for its migration stays where it is."""

    @property
    def keep_it_from_converging(self) -> bool:
        """Whether so much of the memory is always written to that there is no end of it."""


class NoFaults:
    """Nothing goes wrong."""

    hold_switchover = keep_it_from_converging = False

    def takes_cut(self, copied: int, total: int) -> bool:
        """See `Faults`."""
        return False

    def next_cut(self, copied: int, total: int) -> int | None:
        """See `Faults`."""
        return None

    def takes_refusal(self) -> str | None:
        """See `Faults`."""
        return None


NONE = NoFaults()
