"""Failover pairs: a virtio network card that stands in (`failover=on`) for another one, its primary, in a migration.

A primary names its standby (`failover_pair_id`).  It is hidden, and nowhere, until the guest's driver of the standby
takes the pair (VIRTIO_NET_F_STANDBY); then it is plugged in.  (QEMU's hw/net/virtio-net.c, and hw/pci/pci.c; measured
on the four releases by negotiating over I/O ports.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qmpd.common.texts import Texts
    from qmpd.hardware.buses import Bus, Buses, Device
    from qmpd.hardware.home import Home

PAIR = "failover_pair_id"
_ON = "failover"
_CARD = "virtio-net"
NOT_FOUND = (
    "Primary device not found\nVirtio-net failover will not work. Make sure primary device has parameter {pair}={id}"
)


class PairRules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def failover_pairs(self) -> str:
        """How primaries are looked at before they are hidden: `loose`, `checked` or `strict`."""


class Adding(Protocol):
    """Who adds devices (`qmpd.hardware.devices.Devices`)."""

    def add_hidden(self, options: Mapping[str, object], *, text: bool) -> object:
        """Add a device that was hidden."""


class FailoverPairs:
    """The pairs of one machine, its `home`.

    `given` has the primary of each standby, by ids: its options, and whether they are text.  `shown` are the standbys
    whose primaries are not hidden, `negotiated` those whose drivers have taken the pair since the last reset.
    """

    __slots__ = ("_buses", "_home", "_rules", "_texts", "given", "negotiated", "shown")

    def __init__(self, buses: Buses, rules: PairRules, texts: Texts, home: Home) -> None:
        self._buses = buses
        self._rules = rules
        self._texts = texts
        self._home = home
        self.given: dict[str, tuple[dict[str, object], bool]] = {}
        self.negotiated: set[str] = set()
        self.shown: set[str] = set()

    def is_standby(self, device: Device) -> bool:
        """Whether a device stands in for another one."""
        named = device.identifier is not None and device.driver.startswith(_CARD)
        return named and bool(device.node.value(_ON))

    def standbys(self) -> Iterator[Device]:
        """The cards that stand in for others."""
        return (each for each in list(self._buses.devices.values()) if self.is_standby(each))

    def primary(self, standby: str) -> Device | None:
        """The primary of a standby where it is there."""
        return next((each for each in self._buses.devices.values() if each.node.value(PAIR) == standby), None)

    # Hiding

    def is_hidden(self, identifier: str | None) -> bool:
        """Whether the device of this id is hidden."""
        return any(options["id"] == identifier for pair, (options, _) in self.given.items() if pair not in self.shown)

    def hides(
        self, options: Mapping[str, object], check_bus: Callable[[], None], *, cold: bool, text: bool
    ) -> bool:
        """Whether a device that is to be added is hidden instead.

        `check_bus` refuses a bus that takes no device while the machine exists.

        :raise MachineError: it cannot be the primary that it says it is.
        """
        pair = options.get(PAIR)
        if not isinstance(pair, str) or not any(each.identifier == pair for each in self.standbys()):
            return False
        is_loose = self._rules.failover_pairs == "loose"
        if is_loose:
            check_bus()
        identifier = options.get("id")
        primary = self.primary(pair)
        if not isinstance(identifier, str):
            if not is_loose:
                raise MachineError("Device with failover_pair_id needs to have id")
            return pair not in self.shown
        self._check_alone(pair, identifier, primary, is_loose=is_loose)
        if not is_loose:
            self.given.setdefault(pair, (dict(options), text))
        elif cold:
            self.given[pair] = (dict(options), text)
        if pair in self.shown:
            return False
        if self._rules.failover_pairs == "strict" or not cold:
            check_bus()
        return True

    def _check_alone(self, pair: str, identifier: str, primary: Device | None, *, is_loose: bool) -> None:
        """:raise MachineError: the standby has another primary.  (5.2 ends by itself where that one is there.)"""
        if is_loose:
            other = None if primary is None else primary.identifier
        else:
            other = str(self.given[pair][0]["id"]) if pair in self.given else None
        if other is not None and identifier != other:
            raise MachineError(f"Cannot attach more than one primary device to '{pair}': '{other}' and '{identifier}'")

    # Negotiating

    def drive(self, path: str, adding: Adding) -> None:
        """The driver of the card at this path takes its pair, where it is a standby's."""
        standby = next((each for each in self.standbys() if each.path == path), None)
        if standby is not None:
            self.negotiate(standby, adding)

    def negotiate(self, standby: Device, adding: Adding) -> None:
        """The driver of a standby takes the pair: FAILOVER_NEGOTIATED, and the primary is plugged in."""
        pair = str(standby.identifier)
        self.negotiated.add(pair)
        self.shown.add(pair)
        self._home.emit("FAILOVER_NEGOTIATED", {"device-id": pair})
        if self.primary(pair) is not None:
            return
        if pair not in self.given:
            named = "<virtio-net-id>" if self._rules.failover_pairs == "loose" else pair
            self._home.report(f"warning: {NOT_FOUND.format(pair=PAIR, id=named)}")
            return
        options, text = self.given[pair]
        try:
            adding.add_hidden(options, text=text)
        except Refusal as refusal:
            del self.given[pair]
            self._home.report(f"warning: {self._texts.message(refusal)}")

    def reset(self) -> None:
        """The machine has been reset: its drivers have to take the pairs once more."""
        self.negotiated.clear()


def misfit(device: Device, bus: Bus | None, given: Mapping[str, Any]) -> str | None:
    """Why a device that says that it is a primary cannot be one; None where it can, or says nothing."""
    if not isinstance(given.get(PAIR), str) or bus is None or device.node.property(PAIR) is None:
        return None
    if "PCIE" not in bus.types:
        return "failover primary device must be on PCIExpress bus"
    if device.node.property("mac") is None or device.node.property("netdev") is None:
        return "failover primary device is not an Ethernet device"
    function = device.slot % 8 if isinstance(device.slot, int) else 0
    if given.get("multifunction") or function:
        return "failover: primary device must be in its own PCI slot"
    return None
