"""What the run-state core sees of the guest and of the machine's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from qmpd.machine.requests import WakeupReason
    from qmpd.machine.run_state import RunState


class Guest(Protocol):
    """What runs on the virtual CPUs (`qmpd.guest.course.Guest`)."""

    @property
    def listens(self) -> bool:
        """Whether an operating system runs."""

    @property
    def all_cpus_run(self) -> bool:
        """Whether the first virtual CPU has set the others going."""

    def vcpus_run(self) -> None:
        """The virtual CPUs are set going."""

    def reset(self) -> None:
        """The machine has been reset."""

    def suspended(self) -> None:
        """The machine has entered S3."""

    def woken(self, reason: WakeupReason) -> None:
        """The machine has left S3."""

    def power_button(self) -> None:
        """The power button was pressed."""

    def sleep_button(self) -> None:
        """The sleep button was pressed."""

    def nmi(self) -> None:
        """A non-maskable interrupt has come."""

    @property
    def uses_acpi(self) -> bool:
        """Whether what runs is an operating system that knows ACPI."""

    def unplug_asked(self, path: str) -> None:
        """It is asked to let go of the device at this path."""

    def standby_added(self, path: str) -> None:
        """There is a card at this path, which stands in for another one (`failover=on`)."""

    def balloon_asked(self) -> None:
        """It is asked to do with another amount of memory."""

    def statistics_asked(self, delay: int) -> None:
        """Its balloon asks for statistics so many nanoseconds from now."""

    def found(self, state: RunState) -> None:
        """It is the guest of a machine that is found in this run state."""

    def snapshot(self) -> dict[str, object]:
        """It, as plain data."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become the guest that `snapshot` made this of."""


class Parts(Protocol):
    """What the machine consists of (`qmpd.hardware.inventory.Inventory`)."""

    @property
    def has_devices(self) -> bool:
        """Whether its devices are known: else they are what the settings say."""

    def drivers(self) -> set[str]:
        """The types of its devices."""

    def reset(self) -> None:
        """The machine has been reset."""

    def drain(self) -> None:
        """Let what is going on at the disks come to rest."""

    def vcpus_run(self) -> None:
        """The virtual CPUs are set going again."""

    def continued(self) -> None:
        """Somebody has asked for the machine to go on."""

    def driven(self, *, by_firmware: bool) -> None:
        """Whether firmware drives the disks from now on, or an operating system, or nobody."""

    def ask_again(self) -> None:
        """Ask the guest once more for what it has not done yet."""

    def balloon_polled(self) -> None:
        """The guest tells its balloon's statistics."""

    def balloon_followed(self) -> None:
        """The guest has done with its memory what it was asked."""

    def standby_driven(self, path: str) -> None:
        """The guest's driver of the network card at this path takes the failover pair that it is of."""

    def guest_answers(self, path: str, *, releases: bool) -> None:
        """The guest lets go of the device at this path, or will not."""
