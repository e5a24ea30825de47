"""What devices refuse that qmpd does not model: properties that they do not have, and values that they do not take."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.common.refusals import Refusal
from qmpd.hardware.loaders import check_guest_loader, check_loader
from qmpd.machine.errors import MachineError
from qmpd.qom.node import Property
from qmpd.qom.reader import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from qmpd.common.computer import Computer
    from qmpd.qom.reader import Reader

ASIDE = ("driver", "bus", "id")
"""Options that are no properties."""

_PROXY, _PART = "-pci", "-device"
_OWN_PART = "virtio-device"
_LEAST_CONTEXT, _SOCKETS = 3, "/dev/vhost-vsock"
# Domain, bus, slot and function of a PCI device of the host's, and the most that each can be.
_HOST_PLACE = re.compile(r"(?:([0-9a-fA-F]{1,4}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-9a-fA-F])")
_HOST_LIMITS = (0xFFFF, 0xFF, 0x1F, 7)


class Surroundings(NamedTuple):
    """What the devices are to fit into.

    `objects` are the ids of the objects that the user gave the machine, those among them that are not modelled, too;
    `cpus` is how many CPUs there are, and `memory` how many bytes.
    """

    computer: Computer
    objects: Collection[object]
    cpus: int
    memory: int


class Types(Protocol):
    """The types that there are (`qmpd.qom.tree.Types`)."""

    def is_a(self, name: str) -> frozenset[str]:
        """Everything that a type is."""


def check(
    driver: str,
    declared: Mapping[str, str],
    given: Mapping[str, object],
    around: Surroundings,
    types: Types,
    reader: Reader,
    *,
    text: bool,
) -> None:
    """Refuse what a device does not take; `declared` are the types of its properties, none where they are not known.

    :raise Refusal: there is no such property, or it does not take its value.
    """
    if not declared:
        return
    part = f"{driver.removesuffix(_PROXY)}{_PART}"
    owner = part if driver.endswith(_PROXY) and _OWN_PART in types.is_a(part) else driver
    whole: dict[str, Any] = {}
    for name, value in given.items():
        if name in ASIDE:
            continue
        if name not in declared:
            raise MachineError(f"Property '{driver}.{name}' not found")
        kind = declared[name]
        if kind.startswith("child<") or not isinstance(value, (str, int)):
            continue
        if kind.startswith("link<") and value in around.objects:
            continue
        read = reader.read(Target(Property(name, kind), name, owner), value, text=text)
        whole[name] = read
        rule = _RULES.get((driver, name))
        if rule is not None:
            rule(read, around)
    if driver == "loader":
        check_loader(whole, around.computer, around.cpus, around.memory)
    elif driver == "guest-loader":
        check_guest_loader(whole)
    elif driver == "vhost-vsock-pci":
        _check_sockets(whole, around)


def _event_device(value: object, around: Surroundings) -> None:
    try:
        around.computer.check_access(str(value))
    except OSError as error:
        raise Refusal("open-failed", path=value, reason=error.strerror) from None


def _context(value: object, around: Surroundings) -> None:
    del around
    if isinstance(value, int) and value < _LEAST_CONTEXT:
        raise Refusal("vsock-context", least=_LEAST_CONTEXT - 1)


def _host_place(value: object, around: Surroundings) -> None:
    match = _HOST_PLACE.fullmatch(str(value))
    limits = zip(match.groups(default="0"), _HOST_LIMITS, strict=True) if match is not None else [("1", 0)]
    if any(int(part, 16) > most for part, most in limits):
        raise Refusal("property-value", type="vfio-pci", name="host", value=value)
    assert match is not None
    domain, bus, slot, function = (int(part or "0", 16) for part in match.groups())
    _host_folder(f"/sys/bus/pci/devices/{domain:04x}:{bus:02x}:{slot:02x}.{function:x}", around)


def _host_folder(value: object, around: Surroundings) -> None:
    try:
        around.computer.check_access(str(value))
    except OSError as error:
        raise Refusal("vfio-host-none", path=value, reason=error.strerror) from None
    try:
        around.computer.check_access(f"{value}/iommu_group")
    except OSError as error:
        name = str(value).rstrip("/").rpartition("/")[2]
        raise Refusal("vfio-group-none", name=name, reason=error.strerror) from None


def _check_sockets(given: Mapping[str, Any], around: Surroundings) -> None:
    """The kernel's part of a device of sockets is opened where it is not given."""
    if not given.get("guest-cid") or given.get("vhostfd"):
        return
    try:
        around.computer.check_access(_SOCKETS)
    except OSError as error:
        raise Refusal("vsock-unopened", reason=error.strerror) from None


_RULES: dict[tuple[str, str], Callable[[object, Surroundings], None]] = {
    ("virtio-input-host-pci", "evdev"): _event_device,
    ("vfio-pci", "host"): _host_place,
    ("vfio-pci", "sysfsdev"): _host_folder,
    ("vhost-vsock-pci", "guest-cid"): _context,
}
"""What a device looks at beside the type of a property."""
