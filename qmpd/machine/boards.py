"""The boards: what each kind of machine type has, lacks and refuses.

Code asks these fields and knows no board by its name.  Where nothing else is said, a field was measured on QEMU 7.2 and
is the same in the other captured releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_PCI_SCREENS = {
    "std": "VGA", "cirrus": "cirrus-vga", "vmware": "vmware-svga", "qxl": "qxl-vga", "virtio": "virtio-vga",
}  # fmt: skip


class Board(NamedTuple):
    """One kind of board.

    Whose captures fit it:

    - `family`: the machine type among those whose objects are captured (`qmpd.qapi.hardware`) that is most like it.
    - `reference`: the reference machine whose answers to queries are its own, `none` or `pc`.
    - `lacking`: the queries to which it answers as a machine without any board, for it lacks what they are about.

    CPUs and memory:

    - `has_cpus`: it makes CPUs, so there is a guest, firmware with its configuration, and memory nodes can be had.
    - `cpu_model`: their model where none is asked for.
    - `levels`: the levels of CPU topology that it can have more than one of, outermost first.
    - `most_cpus`: how many CPUs it can have where the release does not tell.
    - `reads_topology`: it reads `-smp` by rules of its own, where a release has such (5.2: its refusal says so).
    - `lists_cpus`: query-hotpluggable-cpus lists its CPUs.
    - `memory`: its bytes of memory where none is asked for.
    - `memory_split`: what is doubted of `max-ram-below-4g`: that it is whole gibibytes (`gibibytes`), that it is less
      than half of the memory (`halves`), or nothing (empty).
    - `most_slots`: how many slots for memory it can have; None where it does not count.
    - `takes_slots`: there may be slots for memory, as far as the command line cares.

    Power:

    - `has_acpi`: it has an ACPI device, `keeps_acpi` whatever `acpi=off` says.
    - `power_device`: the type of that device, where it can be told that a guest does not sleep; else empty.
    - `power_place`: the slot and the function that it has on the first PCI bus; None where it has none of its own.
    - `wakes`: with it, a suspended guest can be woken.
    - `resets_twice`: SeaBIOS adds a reset of its own once it has run: boards without PCI put all of the firmware back,
      the note with it.

    Firmware:

    - `has_seabios`: it is SeaBIOS by default; `may_have_seabios`: in some releases; `tells_uuid`: that prints the
      machine's UUID where it has been given one; `boots_first` are the letters of the devices that it tries first where
      nobody says more; `firmware_memory` is what it keeps of memory for itself beside what it does on `pc`, in bytes.

    Buses and devices:

    - `has_pci`: a PCI bus, whose bridge can make memory of the firmware's, and a USB controller where it is asked for.
    - `boots_from`: the letters of the devices that its firmware can be told to start from.
    - `takes_vga`: `-vga` makes a card.
    - `hotplugs_freely`: devices that need no bus can be added to a machine that runs.
    - `takes_system_devices`: devices of the system bus can be named at all.
    - `takes_remapping`: there is a place for an IOMMU that remaps interrupts; what it is made of was not captured.
    - `cards`: network cards that it can have beside those for PCI.

    Its own devices, which options ask for or which are there by default:

    - `screens`: the types of device that `-vga` makes; `default_screen`, what it makes by default.
    - `screen_behind`: the type of those of its devices that the screen comes behind; empty: behind all.
    - `serial_ports`, `parallel_ports`: how many it can have.
    - `ports_before`: the types of those of its devices that the ports come before; none: behind all.
    - `default_card`: the network card that it has where no model is asked for; empty: none.
    - `cards_behind`: the type of those of its devices that network cards come behind; empty: behind all.

    Drives:

    - `interface`: the interface of drives that name none.
    - `ide_buses`, and `ide_units` of each; `floppies`; `flashes`: how many there are.
    - `has_floppy`: there is a floppy drive by default.
    """

    family: str
    reference: str
    lacking: frozenset[str] = frozenset()
    has_cpus: bool = True
    cpu_model: str = "qemu64"
    levels: tuple[str, ...] = ("sockets", "dies", "modules", "cores", "threads")
    most_cpus: int = 255
    reads_topology: bool = True
    lists_cpus: bool = True
    memory: int = 128 << 20
    memory_split: str = "gibibytes"
    most_slots: int | None = 256
    takes_slots: bool = True
    has_acpi: bool = True
    keeps_acpi: bool = False
    power_device: str = ""
    power_place: tuple[int, int] | None = None
    wakes: bool = True
    resets_twice: bool = True
    has_seabios: bool = True
    may_have_seabios: bool = False
    tells_uuid: bool = True
    boots_first: str = "cad"
    firmware_memory: int = 0
    has_pci: bool = True
    takes_vga: bool = True
    boots_from: str = "abcdn"
    hotplugs_freely: bool = True
    takes_system_devices: bool = True
    takes_remapping: bool = False
    cards: tuple[str, ...] = ("ne2k_isa", "virtio-net-pci")
    screens: Mapping[str, str] = _PCI_SCREENS
    default_screen: str = "std"
    screen_behind: str = "isa-i8259"
    serial_ports: int = 4
    parallel_ports: int = 3
    ports_before: tuple[str, ...] = ("isa-fdc", "i8042")
    default_card: str = "e1000"
    cards_behind: str = "port92"
    interface: str = "ide"
    ide_buses: int = 2
    ide_units: int = 2
    floppies: int = 2
    has_floppy: bool = True
    flashes: int = 2


_PC = Board(family="pc", reference="pc", power_device="PIIX4_PM", power_place=(1, 3))
_WITHOUT_INPUT = frozenset({"query-mice", "query-sgx"})

USUAL = "pc"
"""The machine type where none is asked for; each release has one that it stands for (`Behaviour.usual_machine`)."""

ALWAYS = frozenset({"none", USUAL})
"""The machine types that every release has."""

# By the whole name of the machine type.
_NAMED = {
    "none": Board(
        family="none", reference="none",
        has_cpus=False, has_seabios=False,
        levels=("sockets", "cores", "threads"), most_cpus=1, reads_topology=False, lists_cpus=False,
        memory=0, most_slots=None, has_acpi=False, wakes=False, resets_twice=False, has_pci=False, takes_vga=False,
        boots_from="", hotplugs_freely=False, takes_system_devices=False, cards=(), interface="none", ide_buses=0,
        floppies=0,
        has_floppy=False, flashes=0, screens={}, serial_ports=0, parallel_ports=0, default_card="",
    ),
    "isapc": _PC._replace(
        family="isapc", memory_split="", takes_slots=False, has_acpi=False, wakes=False, resets_twice=False,
        has_pci=False, boots_first="", screens={"std": "isa-vga", "cirrus": "isa-cirrus-vga"}, default_screen="cirrus",
        default_card="ne2k_isa", cpu_model="486",
    ),
    "microvm": _PC._replace(
        family="microvm", lacking=_WITHOUT_INPUT, levels=("sockets", "cores", "threads"), reads_topology=False,
        lists_cpus=False, wakes=False, resets_twice=False, has_seabios=False, may_have_seabios=True, tells_uuid=False,
        boots_from="",
        has_pci=False, takes_vga=False, interface="none", ide_buses=0, floppies=0, has_floppy=False,
        screens={}, serial_ports=1, parallel_ports=0, ports_before=(), default_card="",
    ),
    "x-remote": _PC._replace(
        lacking=_WITHOUT_INPUT, lists_cpus=False, has_acpi=False, wakes=False, resets_twice=False,
    ),
}  # fmt: skip

# By a part of it; what has none of these is a PC with PCI.
_ALIKE = {
    "q35": _PC._replace(
        family="q35", memory_split="halves", keeps_acpi=True, takes_remapping=True, ide_buses=6, ide_units=1,
        has_floppy=False, screen_behind="", default_card="e1000e", cards_behind="", firmware_memory=0x270,
    ),
}


def board_of(machine_type: str) -> Board:
    """The board of the machine type of this name: `none`, `pc`, `pc-q35-7.2`, ..."""
    found = _NAMED.get(machine_type)
    if found is not None:
        return found
    return next((board for part, board in _ALIKE.items() if part in machine_type), _PC)


def full_name(name: str, usual: str) -> str:
    """The whole name of a machine type, in a release in which the usual one is called so."""
    return {USUAL: usual}.get(name, name)
