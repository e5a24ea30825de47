"""What the firmware of a machine finds to boot from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.guest.firmware_text import BootDevices
from qmpd.guest.option_rom import Rom, Roms, RomWords
from qmpd.hardware import pci
from qmpd.machine.blueprint import Firmware
from qmpd.qapi.folders import rom_words
from qmpd.system.boot_media import media

if TYPE_CHECKING:
    from qmpd.guest.course import Guest
    from qmpd.guest.firmware_text import Media
    from qmpd.hardware.buses import Device
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine.machine import Machine
    from qmpd.qapi import Release

    Function = tuple[str, Device]


_IPXE = {
    "e1000": "82540em", "e1000-82544gc": "82544gc", "e1000-82545em": "82545em", "e1000e": "82574l", "i82551": "82559er",
    "i82559er": "82559er", "i82801": "82562em", "ne2k_pci": "rtl8029", "pcnet": "pcnet32", "rtl8139": "rtl8139",
    "virtio-net-pci": "virtio-net", "virtio-net-pci-transitional": "virtio-net",
    "virtio-net-pci-non-transitional": "virtio-net", "vmxnet3": "vmxnet3",
}  # fmt: skip
"""Network cards that have a ROM, and what iPXE calls them."""

_FIRST = 0xC000
_VGA = ("VGA", "cirrus-vga", "vmware-svga", "qxl-vga", "virtio-vga")
_SCREENS = {**dict.fromkeys(_VGA, 0xCA00), "bochs-display": 0xC700}
"""Where the first ROM is behind the one of a screen: the segment."""

# What SeaBIOS keeps of memory for each PCI function, and for what has a number among what is booted from.
_EACH, _NUMBERED, _EACH_NUMBERED = 0x50, 0x80, 0x20
# A frame of memory that is a screen has a ROM without being a PCI function.
_FRAME, _FRAME_END, _FRAME_OWN = "ramfb", 0xC780, 0x1A0
_USER = "user"
_OTHER_ADDRESSES = frozenset({
    "net", "host", "dhcpstart", "ipv4", "ipv6", "ipv6-prefix", "restrict", "bootfile", "tftp",
})  # fmt: skip


class Home(Protocol):
    """The machine that boots (`qmpd.system.system.System`)."""

    release: Release
    machine: Machine
    guest: Guest | None

    @property
    def inventory(self) -> Inventory:
        """What it is made of."""


def boot_devices(system: Home, seen: Media | None = None) -> BootDevices | None:
    """What it can start from now, or could when its drives were those that were `seen`.

    None where its firmware looks for nothing.
    """
    settings, guest = system.machine.settings, system.guest
    has_seabios = settings.has_seabios(system.release.behaviour)
    if guest is None or guest.settings.firmware is Firmware.NONE or not has_seabios:
        return None
    seen = media(system.inventory) if seen is None else seen
    numbered = [(number, letter) for letter, _, number in seen]
    named = settings.boot_once if settings.boot_once and guest.starts == 1 else settings.boot_order
    order = named or settings.board.boots_first
    kernel = "kernel" in settings.machine_options
    functions = list(pci.functions(system.inventory.devices))
    cards = [(place, each) for place, each in functions if _has_rom(each) and each.driver in _IPXE]
    numbered += [(int(card.node.value("bootindex")), "n") for _, card in cards]
    first = "".join(dict.fromkeys(letter for number, letter in sorted(numbered) if number >= 0))
    roms = _roms(system, functions, cards, sum(number >= 0 for number, _ in numbered) + kernel)
    with_medium = frozenset(letter for letter, has_medium, _ in seen if has_medium)
    drives, strict = frozenset(letter for letter, _, _ in seen), bool(settings.boot.get("strict"))
    menu, uuid = settings.boot_menu, (settings.uuid or "") if settings.board.tells_uuid else ""
    return BootDevices(order, with_medium, drives, kernel, menu, uuid, first, strict, roms)


def _has_rom(device: Device) -> bool:
    return bool(device.node.value("romfile") and device.node.value("rombar"))


def _roms(system: Home, functions: list[Function], with_rom: list[Function], numbered: int) -> Roms:
    """The ROMs of the network cards; `numbered` is how many devices are, for what is booted from."""
    inventory, behaviour = system.inventory, system.release.behaviour
    if not with_rom:
        return Roms("")
    cards = tuple(
        Rom(place, each.node.value("mac"), _IPXE[each.driver], each.node.value("romfile"), _answers(system, each))
        for place, each in with_rom
    )
    own, image, for_kernel = (int(each, 16) for each in behaviour.option_rom_memory.split())
    own += system.machine.settings.board.firmware_memory + _EACH * len(functions)
    own += _NUMBERED + _EACH_NUMBERED * numbered if numbered else 0
    own += for_kernel if "kernel" in system.machine.settings.machine_options else 0
    screens = [_SCREENS[each.driver] for _, each in functions if each.driver in _SCREENS and _has_rom(each)]
    if any(each.driver == _FRAME for each in inventory.devices.buses.devices.values()):
        own += _FRAME_OWN
        screens.append(_FRAME_END)
    memory = inventory.layout.below - own
    build = behaviour.ipxe_build
    return Roms(build, cards, max(screens, default=_FIRST), memory, memory - image, RomWords(**rom_words(build)))


def _answers(system: Home, device: Device) -> bool:
    """Whether a card has QEMU's own network, with the addresses that it has where nothing is said of them."""
    network = system.inventory.backends.network
    netdev = next((card.netdev for card in network.cards if card.device is device), None)
    reached = [] if netdev is None else network.reached(netdev)
    return any(each.type == _USER and not _OTHER_ADDRESSES & each.options.keys() for each in reached)
