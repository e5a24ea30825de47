"""The guest as its agent sees it: what it is called, who uses it, what is plugged into it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BLOCK = 128 << 20
"""Bytes of a memory block."""
SYSTEM: Mapping[str, str] = {
    "id": "debian",
    "name": "Debian GNU/Linux",
    "pretty-name": "Debian GNU/Linux 12 (bookworm)",
    "version": "12 (bookworm)",
    "version-id": "12",
    "kernel-release": "6.1.0-28-amd64",
    "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)",
    "machine": "x86_64",
}
"""What guest-get-osinfo tells of a guest of which nothing else was said."""


class Disk(NamedTuple):
    """A disk of the machine's: its name in the guest, bus, place on it, PCI address and size in bytes."""

    name: str
    bus: str
    target: int = 0
    unit: int = 0
    address: tuple[int, int, int] = (0, 0, 0)
    size: int = 0
    serial: str = ""


class Facts(Protocol):
    """What the machine is to its guest, and what the guest may do to it.  Times are in nanoseconds."""

    @property
    def processors(self) -> int:
        """How many virtual CPUs there are."""

    @property
    def memory(self) -> int:
        """Bytes of memory."""

    @property
    def cards(self) -> Sequence[str]:
        """The addresses of the network cards."""

    @property
    def disks(self) -> Sequence[Disk]:
        """The disks."""

    def now(self) -> int:
        """The time of the real-time clock, since 1970."""

    def running(self) -> int:
        """The machine's own time, which stands still while it is stopped."""

    def shut_down(self, mode: str) -> None:
        """Power off ("powerdown"), halt ("halt") or reboot ("reboot")."""

    def suspend(self, *, to_disk: bool) -> None:
        """Sleep: to disk, or to memory."""

    def set_clock(self, offset: int) -> None:
        """The guest has set the real-time clock, which is `offset` ahead of the host's from now on."""


@dataclass(slots=True)
class User:
    """A user: the home, the keys that may log in (None where there is no file of them), and since when they are there.

    `since` is in seconds since 1970, None for one who has not logged in.
    """

    home: str
    keys: list[str] | None = None
    since: float | None = None
    password: str | None = None


@dataclass(slots=True)
class GuestModel:
    """The guest.  `addresses` are those of a network card, by its own, each with the length of its prefix.

    `offset` is what its clock is ahead of the host's, in nanoseconds; `mountpoints` are its file systems, those that
    are frozen in `frozen`; `processors_off` and `memory_off` are the numbers of those that it has taken offline.
    """

    host_name: str = "localhost"
    system: dict[str, str] = field(default_factory=lambda: dict(SYSTEM))
    zone: str = "UTC"
    zone_offset: int = 0
    users: dict[str, User] = field(default_factory=lambda: {"root": User("/root")})
    addresses: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    mountpoints: list[str] = field(default_factory=lambda: ["/"])
    frozen: list[str] | None = None
    offset: int = 0
    processors_off: list[int] = field(default_factory=list)
    memory_off: list[int] = field(default_factory=list)

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain data."""
        return asdict(self)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `snapshot` made this of."""
        for name, value in state.items():
            setattr(self, name, value)
        self.users = {name: User(**user) for name, user in state["users"].items()}
        self.addresses = {card: [(each, size) for each, size in some] for card, some in state["addresses"].items()}
