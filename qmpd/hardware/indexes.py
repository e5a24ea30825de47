"""What only one device of a machine may have or be: numbers in the boot order and in ACPI's names of cards, types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from qmpd.hardware.buses import Device

BOOT_ORDER, ACPI = "bootindex", "acpi-index"
_NONE = -1
_SINGLE = frozenset(("vmcoreinfo", "vmgenid"))
# The file that such a device gives the firmware, which there may be once.
_FIRMWARE = {"ramfb": "vgaroms/vgabios-ramfb.bin"}


def check_set(name: str, value: Any, devices: Iterable[Device]) -> None:
    """See whether a device may have this value for a property, as it is set (system/bootdevice.c).

    :raise Refusal: another one has it.
    """
    if name == BOOT_ORDER and value != _NONE and _is_taken(name, value, devices):
        raise Refusal("bootindex-taken", index=value)


def check(device: Device, devices: Collection[Device]) -> None:
    """See whether a device may be put into the machine (hw/acpi/pcihp.c).

    :raise Refusal: another one has its index, or is what only one may be.
    """
    if any(each is not device and each.driver == device.driver for each in devices):
        if device.driver in _SINGLE:
            raise Refusal("device-single", type=device.driver)
        if device.driver in _FIRMWARE:
            raise Refusal("firmware-file-twice", path=_FIRMWARE[device.driver])
    index = device.node.value(ACPI)
    if index and _is_taken(ACPI, index, (each for each in devices if each is not device)):
        raise Refusal("acpi-index-taken", index=index)


def _is_taken(name: str, value: Any, devices: Iterable[Device]) -> bool:
    return any(each.node.value(name) == value for each in devices)
