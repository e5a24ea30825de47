"""Where a device goes on its bus: what is free, what is taken, and how each bus refuses (each bus's own realize)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.hardware.limits import signed
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.texts import Texts
    from qmpd.hardware.buses import Bus, Device

    Options = Mapping[str, Any]

_SLOTS, _FUNCTIONS = 32, 8
_FLOPPIES = 2
# What else there is to know, beside what a device was given.
_CHECK, _TEXTS = "«check»", "«texts»"
HUB, _CONSOLE = "usb-hub", "virtconsole"
# How many ports a USB controller has, where not said otherwise.
_USB_PORTS = {
    "usb-ehci": 6, "ich9-usb-ehci1": 6, "ich9-usb-ehci2": 6, "pci-ohci": 3, "nec-usb-xhci": 4, "qemu-xhci": 4,
}  # fmt: skip


def place(bus: Bus, device: Device, options: Options, texts: Texts, *, always_check: bool = False) -> None:
    """Give a device its place on its bus, which shows in its properties.

    `options` are those that it was given, already read.  `always_check`: that the guest would see a function is checked
    even where its place was not asked for.

    :raise MachineError: there is none, or that one is taken.
    """
    for kind, find in _BUSES.items():
        if kind in bus.types:
            find(bus, device, {**options, _CHECK: always_check, _TEXTS: texts})
            return


def is_checked_first(bus: Bus) -> bool:
    """Whether the place is looked for before the device is put on the bus; else that has happened by then."""
    return "SCSI" in bus.types


def restore(device: Device) -> None:
    """Learn from its properties where a device is that was there from the start."""
    address = device.node.value("addr")
    if device.bus is not None and "PCI" in device.bus.types:
        device.slot = _devfn(address, device.node.value("legacy-addr"))


def _devfn(address: object, legacy: object) -> int:
    text = address if isinstance(address, str) else legacy
    if isinstance(text, str) and "." in text:
        slot, _, function = text.partition(".")
        return int(slot, 16) << 3 | int(function, 16)
    return address if isinstance(address, int) else 0


def _named(device: Device) -> str:
    return device.identifier or "(null)"


# PCI


def _pci(bus: Bus, device: Device, options: Options) -> None:
    taken = {each.slot: each for each in bus.children if each is not device}
    wanted = options.get("addr", -1)
    checked = wanted >= 0 or options[_CHECK]
    if wanted < 0:
        wanted = next((slot << 3 for slot in range(_SLOTS) if slot << 3 not in taken), -1)
        if wanted < 0:
            raise MachineError(f"PCI: no slot/function available for {device.driver}, all in use or reserved")
    slot, function = divmod(wanted, _FUNCTIONS)
    if wanted in taken:
        there = taken[wanted]
        parts = {"slot": slot, "function": function, "driver": device.driver}
        raise MachineError(options[_TEXTS]("slot-in-use", there=there.driver, id=_named(there), **parts))
    first = taken.get(slot << 3)
    # Behind a port there is one slot.
    known = taken.get(0) if bus.type == "PCIE" and bus.device is not None else first
    if options.get("addr", -1) < 0 and known is first:
        # No address stands for the last one there, since it is -1 that is looked at.
        known = taken.get(_SLOTS - 1 << 3)
    if not device.cold and known is not None and checked and wanted != known.slot:
        assert isinstance(known.slot, int)
        raise MachineError(
            f"PCI: slot {known.slot // _FUNCTIONS} function 0 already occupied by {known.driver}, "
            f"new func {device.driver} cannot be exposed to guest."
        )
    many = bool(options.get("multifunction", device.node.value("multifunction")))
    if function and first is not None and not first.node.value("multifunction"):
        raise MachineError(f"PCI: single function device can't be populated in function {slot:x}.{function:x}")
    if not function and not many:
        for other in range(1, _FUNCTIONS):
            if slot << 3 | other in taken:
                raise MachineError(
                    f"PCI: {slot:x}.0 indicates single function, but {slot:x}.{other:x} is already populated."
                )
    device.slot = wanted
    text = f"{slot:02x}.{function}"
    captured = device.node.value("addr")
    device.node.set_value("addr", text if isinstance(captured, str) else wanted)
    if device.node.property("legacy-addr") is not None:
        device.node.set_value("legacy-addr", text)


# SCSI


def _scsi(bus: Bus, device: Device, options: Options) -> None:
    node = device.node
    taken = {each.slot: each for each in bus.children if each is not device}
    channel, identifier, lun = (
        signed(options.get(name, default)) for name, default in (("channel", 0), ("scsi-id", -1), ("lun", -1))
    )
    if channel != 0:
        raise MachineError(f"bad scsi channel id: {channel}")
    if identifier != -1 and not 0 <= identifier <= 255:
        raise MachineError(f"bad scsi device id: {identifier}")
    if lun != -1 and not 0 <= lun <= 16383:
        raise MachineError(f"bad scsi device lun: {lun}")
    if identifier == -1:
        lun = max(lun, 0)
        identifier = next((each for each in range(256) if (each, lun) not in taken), -1)
        if identifier < 0:
            raise MachineError("no free target")
    elif lun == -1:
        lun = next((each for each in range(16384) if (identifier, each) not in taken), -1)
        if lun < 0:
            raise MachineError("no free lun")
    elif (identifier, lun) in taken:
        there = taken[identifier, lun]
        name = "(null)" if there.identifier is None else there.identifier
        raise MachineError(f"lun already used by '{name}'")
    device.slot = identifier, lun
    for name, value in (("channel", channel), ("scsi-id", identifier), ("lun", lun)):
        if node.property(name) is not None:
            node.set_value(name, value)


# Ports of virtio-serial


def _serial_port(bus: Bus, device: Device, options: Options) -> None:
    there = [each for each in bus.children if each is not device]
    taken = {each.slot for each in there}
    name = options.get("name")
    if name and any(each.node.value("name") == name for each in there):
        raise MachineError(f"virtio-serial-bus: A port already exists by name {name}")
    limit = bus.device.node.value("max_ports") if bus.device is not None else 31
    number = options.get("nr", -1)
    number = -1 if number == 0xFFFFFFFF else number
    if number == -1:
        # Port 0 is kept for the first console.
        first = 0 if device.driver == _CONSOLE else 1
        number = next((each for each in range(first, limit) if each not in taken), -1)
        if number < 0:
            raise MachineError("virtio-serial-bus: Maximum port limit for this device reached")
    if number in taken:
        raise MachineError(f"virtio-serial-bus: A port already exists at id {number}")
    if number >= limit:
        raise MachineError(f"virtio-serial-bus: Out-of-range port id specified, max. allowed: {limit - 1}")
    if number == 0 and device.driver != _CONSOLE:
        raise MachineError(
            "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility."
        )
    device.slot = number
    device.node.set_value("nr", number)


# USB


def _usb(bus: Bus, device: Device, options: Options) -> None:
    free = free_ports(bus)
    wanted = options.get("port")
    if wanted is not None:
        if wanted not in free:
            raise MachineError(f"usb port {wanted} (bus {bus.name}) not found (in use?)")
    elif not free:
        raise MachineError(f"tried to attach usb device {device.driver} to a bus with no free ports")
    else:
        wanted = free[0]
    free.remove(wanted)
    device.slot = wanted
    if device.driver == HUB:
        ports = device.node.value("ports")
        free += [f"{wanted}.{number}" for number in range(1, min(ports if isinstance(ports, int) else 8, 8) + 1)]


def free_ports(bus: Bus) -> list[str]:
    """The ports of a USB bus that nothing is in, in the order in which they are given out.

    What is given back comes last.
    """
    if bus.free is None:
        count = 2
        controller = bus.device
        if controller is not None:
            count = _USB_PORTS.get(controller.driver, count)
            own = controller.node.value("p2")
            count = own if type(own) is int else count
        taken = {each.slot for each in bus.children}
        bus.free = [port for port in map(str, range(1, count + 1)) if port not in taken]
    return bus.free


def needs_hub(bus: Bus, driver: str, options: Options) -> bool:
    """Whether a hub is put into the last free port, so that there are more."""
    chained = "usb-bus" in bus.types and driver != HUB and options.get("port") is None
    return chained and len(free_ports(bus)) == 1


def give_back(bus: Bus, device: Device) -> None:
    """A device leaves its bus."""
    if bus.free is not None and isinstance(device.slot, str):
        bus.free[:] = [port for port in bus.free if not port.startswith(f"{device.slot}.")]
        bus.free.append(device.slot)


# IDE


def _ide(bus: Bus, device: Device, options: Options) -> None:
    taken = {each.slot for each in bus.children if each is not device}
    units = 1 if bus.device is not None and "ahci" in bus.device.driver else 2
    unit = signed(options.get("unit", -1))
    if unit == -1:
        unit = 0 if 0 not in taken else 1
    if not 0 <= unit < units:
        raise MachineError(f"Can't create IDE unit {unit}, bus supports only {units} units")
    if unit in taken:
        raise MachineError(f"IDE unit {unit} is in use")
    device.slot = unit
    device.node.set_value("unit", unit)


# Floppy disks


def _floppy(bus: Bus, device: Device, options: Options) -> None:
    taken = {each.slot for each in bus.children if each is not device}
    unit = signed(options.get("unit", -1))
    if unit == -1:
        unit = next((each for each in range(_FLOPPIES) if each not in taken), _FLOPPIES)
    if not 0 <= unit < _FLOPPIES:
        raise MachineError(f"Can't create floppy unit {unit}, bus supports only {_FLOPPIES} units")
    if unit in taken:
        raise MachineError(f"Floppy unit {unit} is in use")
    device.slot = unit
    device.node.set_value("unit", unit)


_BUSES: dict[str, Callable[[Bus, Device, Options], None]] = {
    "PCI": _pci,
    "SCSI": _scsi,
    "virtio-serial-bus": _serial_port,
    "usb-bus": _usb,
    "IDE": _ide,
    "floppy-bus": _floppy,
}
