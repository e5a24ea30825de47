"""What is plugged into a machine, as the soak expects it (`endurance.model`)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

MEMORY = 128 << 20
PAGE = 4096
RNG, BALLOON = "virtio-rng-pci", "virtio-balloon-pci"
DEVICES = ("d0", "d1", "d2")
NETDEVS = ("n0", "n1")
OBJECTS = ("o0", "o1")
AT_ONCE = -1
NO_BALLOON = "No balloon device has been activated"
COMMANDS = frozenset({
    "device_add", "device_del", "balloon", "query-balloon", "netdev_add", "netdev_del", "object-add", "object-del",
})  # fmt: skip


class Refused(Exception):  # noqa: N818 (an answer like any other)
    """A command fails: the error's class and description."""

    def __init__(self, text: str, error_class: str = "GenericError") -> None:
        super().__init__(text)
        self.text = text
        self.error_class = error_class


@dataclass(frozen=True)
class PlugRules:
    """Where the releases differ."""

    duplicate: str = "Duplicate device ID '{}'"
    # An id is taken until DEVICE_DELETED has come.
    taken_until_told: bool = False
    refusal_told: bool = True
    unique_netdevs: bool = True
    # The nanoseconds from the moment at which a device has gone to DEVICE_DELETED, which tells of all by then.
    lag: int = 55_000_000
    # Whether a device that is added ends that; one that is refused always does.
    adding_ends_lag: bool = False


OLD = PlugRules("Duplicate ID '{}' for device", True, False, False, adding_ends_lag=True)
NEW = PlugRules(lag=0)


@dataclass
class Device:
    """A device: what it is, where it is on its bus, and whether it is to go."""

    driver: str
    slot: int
    pending: bool = False


@dataclass
class Plugged:
    """The devices and backends of one machine.

    `gone` are ids of devices of which DEVICE_DELETED has to tell yet, `until` is when it does, in nanoseconds.
    """

    rules: PlugRules
    has_bus: bool
    devices: dict[str, Device] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)
    until: int = AT_ONCE
    netdevs: list[str] = field(default_factory=list)
    objects: set[str] = field(default_factory=set)
    actual: int = MEMORY
    target: int = MEMORY

    def copy(self) -> Plugged:
        """Another one in the same state."""
        return copy.deepcopy(self)

    @property
    def has_balloon(self) -> bool:
        """Whether there is a balloon."""
        return any(device.driver == BALLOON for device in self.devices.values())

    @property
    def pending(self) -> list[str]:
        """The ids of the devices that the guest is to let go of, in the order of their places."""
        names = [name for name, device in self.devices.items() if device.pending]
        return sorted(names, key=lambda name: self.devices[name].slot)

    # Commands: each returns what the guest has to hear of, or nothing

    def execute(self, name: str, arguments: dict[str, Any]) -> str:
        """Execute one of `COMMANDS`; the timer that it sets where the guest listens, or nothing.

        :raise Refused: it fails.
        """
        result: str | None = getattr(self, name.replace("-", "_"))(arguments)
        return result or ""

    def device_add(self, arguments: dict[str, Any]) -> None:
        driver, name = arguments["driver"], arguments["id"]
        if self.rules.taken_until_told and name in self.taken:
            raise Refused(self.rules.duplicate.format(name))
        try:
            self._add(driver, name)
        except Refused:
            self.until = AT_ONCE
            raise
        if self.rules.adding_ends_lag:
            self.until = AT_ONCE

    def _add(self, driver: str, name: str) -> None:
        if name in self.devices:
            raise Refused(self.rules.duplicate.format(name))
        if not self.has_bus:
            raise Refused(f"No 'PCI' bus found for device '{driver}'")
        if driver == BALLOON:
            if self.has_balloon:
                raise Refused("Only one balloon device is supported")
            self.actual = self.target = MEMORY
        slots = {each.slot for each in self.devices.values()}
        self.devices[name] = Device(driver, next(slot for slot in range(32) if slot not in slots))
        self.taken.add(name)

    def find(self, name: str) -> Device:
        """The device of this id."""
        if name not in self.devices:
            raise Refused(f"Device '{name}' not found", "DeviceNotFound")
        return self.devices[name]

    def device_del(self, arguments: dict[str, Any]) -> str:
        name = arguments["id"]
        # The machine has run, so that it can be asked for again and again.
        self.find(name).pending = True
        return f"unplug {name}"

    def balloon(self, arguments: dict[str, Any]) -> str:
        if not self.has_balloon:
            raise Refused(NO_BALLOON, "DeviceNotActive")
        self.target = MEMORY - (MEMORY - min(arguments["value"], MEMORY)) // PAGE * PAGE
        return "balloon"

    def netdev_add(self, arguments: dict[str, Any]) -> None:
        name = arguments["id"]
        if self.rules.unique_netdevs and name in self.netdevs:
            raise Refused(f"Duplicate ID '{name}'")
        self.netdevs.append(name)

    def netdev_del(self, arguments: dict[str, Any]) -> None:
        name = arguments["id"]
        if name not in self.netdevs:
            raise Refused(f"Device '{name}' not found", "DeviceNotFound")
        self.netdevs.remove(name)

    def object_add(self, arguments: dict[str, Any]) -> None:
        name = arguments["id"]
        if name in self.objects:
            raise Refused(f"attempt to add duplicate property '{name}' to object (type 'container')")
        self.objects.add(name)

    def object_del(self, arguments: dict[str, Any]) -> None:
        name = arguments["id"]
        if name not in self.objects:
            raise Refused(f"object '{name}' not found")
        self.objects.remove(name)

    # What the guest does, and what becomes of it

    def release(self, name: str, now: int) -> None:
        """A device goes; the event comes later."""
        del self.devices[name]
        if not self.gone:
            self.until = now + self.rules.lag
        self.gone.append(name)

    def reset(self, now: int) -> None:
        """Nobody holds on to what was to go; what the balloon has taken stays."""
        for name in self.pending:
            self.release(name, now)

    def owes(self, now: int) -> bool:
        """Whether the events DEVICE_DELETED are due."""
        return bool(self.gone) and self.until <= now

    def tell(self) -> list[str]:
        """The data of the events DEVICE_DELETED, which are due."""
        told = []
        for name in self.gone:
            path = f"/machine/peripheral/{name}"
            told.append(f'{{"path": "{path}/virtio-backend"}}')
            told.append(f'{{"device": "{name}", "path": "{path}"}}')
            self.taken.discard(name)
        self.gone.clear()
        return told
