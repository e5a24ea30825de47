"""What values of their properties devices refuse, when a property is set or when they are put into the machine.

A property's type refuses a value first (`qmpd.qom.reader`); these are the limits that each device has of
its own, as real QEMU 7.2 has them: every value of a long list was tried with every property.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Set

    from qmpd.qom.node import Node

_UNSET = 0xFFFFFFFF
_GIBIBYTES_4 = 4 << 30
_UNLIMITED = (1 << 64) - 1


class _Powers:
    """The powers of two between two numbers."""

    __slots__ = ("_high", "_low")

    def __init__(self, low: int, high: int) -> None:
        self._low = low
        self._high = high

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self._low <= value <= self._high and value & value - 1 == 0


class _Either:
    """What is in any of several."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: Container[Any]) -> None:
        self._parts = parts

    def __contains__(self, value: object) -> bool:
        return any(value in part for part in self._parts)


class Limit(NamedTuple):
    """The values that a property is `allowed` to have, and the text that refuses all others.

    The text may have `{value}`, the same as `{signed}` number of 32 bits or in `{hexadecimal}`, and the device's
    `{type}`.
    """

    property: str
    allowed: Container[Any]
    text: str


def _irq(name: str) -> Limit:
    return Limit(name, range(16), f'Maximum value for "{name}" is: 15')


def _sectors(name: str) -> Limit:
    allowed = range(1, (1 << 31) // 512)
    return Limit(name, allowed, f"invalid {name} property ({{value}}), must be between 1 and {len(allowed)}")


def _reserved(name: str, shown: str) -> Limit:
    allowed = _Either(range(_GIBIBYTES_4), (_UNLIMITED,))
    return Limit(name, allowed, f"PCI resource reserve cap: {shown} must be less than 4G")


def _queue(name: str, most: int, end: str = "") -> Limit:
    text = f"Invalid {name} (= {{value}}), must be a power of 2 between 256 and {most}{end}"
    return Limit(name, _Powers(256, most), text)


_ERRORS = Limit("aer_log_max", range(129), "Invalid aer_log_max {value}. The max number of aer log is 128")
_RESERVED = (_reserved("mem-reserve", "mem-reserve"), _reserved("pref32-reserve", "pref32-reserve "))
_CIRRUS = Limit("vgamem_mb", (4, 8, 16), "Invalid cirrus_vga ram size '{value}'")
_OUTPUTS = Limit("max_outputs", range(17), "invalid max_outputs > 16")
_QXL = Limit("revision", range(1, 6), "Invalid revision {signed} for qxl device (max 5)")

REALIZED: dict[str, tuple[Limit, ...]] = {
    "acpi-erst": (Limit("record_size", _Powers(4096, 1 << 31), "ERST record_size {value} is invalid"),),
    "cirrus-vga": (_CIRRUS,),
    "hda-codec": (Limit("cad", _Either(range(15), (_UNSET,)), "HDA audio codec address is full"),),
    "i8042": (_irq("kbd-irq"), _irq("mouse-irq")),
    "intel-iommu": (Limit("aw-bits", (39, 48), "Supported values for aw-bits are: 39, 48"),),
    "ipoctal232": (Limit("slot", range(-1 << 31, 4), "Only 4 slots available."),),
    "isa-cirrus-vga": (_CIRRUS,),
    "isa-parallel": (
        Limit("index", _Either(range(3), (_UNSET,)), "Max. supported number of parallel ports is 3."),
    ),
    "isa-serial": (Limit("index", _Either(range(4), (_UNSET,)), "Max. supported number of ISA serial ports is 4."),),
    "mc146818rtc": (_irq("irq"),),
    "nvme": (
        Limit("max_ioqpairs", range(1, 65536), "max_ioqpairs must be between 1 and 65535"),
        Limit("msix_qsize", range(1, 2049), "msix_qsize must be between 1 and 2048"),
        Limit(
            "zoned.zasl", range(8),
            "zoned.zasl (Zone Append Size Limit) must be less than or equal to mdts (Maximum Data Transfer Size)",
        ),
        Limit("vsl", range(1, 256), "vsl must be non-zero"),
        Limit("sriov_max_vfs", (0,), "subsystem is required for the use of SR-IOV"),
    ),
    "pci-bridge": (
        Limit(
            "chassis_nr", range(1, 256),
            "Bridge chassis not specified. Each bridge is required to be assigned a unique chassis id > 0.",
        ),
        *_RESERVED,
    ),
    "pci-device": (
        Limit("romsize", _Either(_Powers(1, 1 << 31), (_UNSET,)), "ROM size {value} is not a power of two"),
        Limit("acpi-index", range(1 << 14), "acpi-index should be less or equal to 16383"),
    ),
    "pci-ohci": (Limit("num-ports", range(16), "OHCI num-ports={value} is too big (limit is 15 ports)"),),
    "pci-qxl": (_QXL,),
    "pcie-port": (_ERRORS,),
    "pcie-root-port": _RESERVED,
    "rocker": (Limit("world", ("of-dpa",), "invalid argument requested world {value} does not exist"),),
    "sd-card": (Limit("spec_version", (1, 2, 3), "Invalid SD card Spec version: {value}"),),
    "sdhci-pci": (Limit("sd-spec-version", (2, 3), "Only Spec v2/v3 are supported"),),
    "usb-hid": (Limit("usb_version", (1, 2), "Invalid usb version {signed} for usb hid device"),),
    "usb-hub": (Limit("ports", range(1, 9), "num_ports ({signed}) out of range (1..8)"),),
    "virtio-blk-pci-base": (
        Limit("num-queues", range(1, 65536), "num-queues property must be larger than 0"),
        Limit("queue-size", range(3, 65536), "invalid queue-size property ({value}), must be > 2"),
        Limit(
            "queue-size", _Powers(4, 1024), "invalid queue-size property ({value}), must be a power of 2 (max 1024)"
        ),
        _sectors("max-discard-sectors"),
        _sectors("max-write-zeroes-sectors"),
    ),
    "virtio-gpu-pci-base": (_OUTPUTS,),
    "virtio-net-pci-base": (
        Limit("duplex", ("half", "full"), "'duplex' must be 'half' or 'full'"),
        Limit("speed", range(-1, 1 << 31), "'speed' must be between 0 and INT_MAX"),
        _queue("rx_queue_size", 1024, "."),
    ),
    "virtio-rng-pci-base": (
        Limit("period", range(1, 1 << 32), "'period' parameter expects a positive integer"),
    ),
    "virtio-scsi-pci-base": (
        Limit(
            "num_queues", _Either(range(1, 1023), (_UNSET,)),
            "Invalid number of queues (= {value}), must be a positive integer less than 1022.",
        ),
        Limit("virtqueue_size", range(3, 1 << 32), "invalid virtqueue_size property (= {value}), must be > 2"),
    ),
    "virtio-serial-pci-base": (
        Limit("max_ports", range(1, 1 << 32), "Maximum number of serial ports not specified"),
        Limit("max_ports", range(512), "maximum ports supported: 511"),
    ),
    "virtio-vga-base": (_OUTPUTS,),
}  # fmt: skip
"""What is looked at when a device has its place, by its type or one that it is derived from."""

_POLLING = (
    Limit("guest-stats-polling-interval", range(1 << 63), "timer value must be greater than zero"),
    Limit("guest-stats-polling-interval", range(1 << 32), "timer value is too big"),
)
_BLOCK = (
    Limit("block-size", range(1 << 20, 1 << 64), "'block-size' property has to be at least 0x100000"),
    Limit("block-size", _Powers(1 << 20, 1 << 63), "'block-size' property has to be a power of two"),
)
SET: dict[str, tuple[Limit, ...]] = {
    "nvdimm": (
        Limit(
            "label-size", range(0x20000, 1 << 64),
            "Property 'nvdimm.label-size' ({hexadecimal}) is required at least 0x20000",
        ),
    ),
    "nvme": (Limit("smart_critical_warning", range(32), "unsupported smart critical warning bits: {hexadecimal}"),),
    "virtio-balloon-pci-base": _POLLING,
    "virtio-balloon-device": _POLLING,
    "virtio-mem-pci-base": _BLOCK,
}  # fmt: skip
"""What is looked at when a property is set."""

_SIZES = ("min_io_size", "opt_io_size", "discard_granularity")
_SECTOR = 512
_MOST_BLOCKS = 65535

NEEDED = {
    "ctucan_pci": "canbus0", "isa-ipmi-bt": "bmc", "isa-ipmi-kcs": "bmc", "ivshmem-doorbell": "chardev",
    "kvaser_pci": "canbus", "mioe3680_pci": "canbus0", "pci-ipmi-bt": "bmc", "pci-ipmi-kcs": "bmc",
    "pcm3680_pci": "canbus0", "scsi-block": "drive", "scsi-generic": "drive", "smbus-ipmi": "bmc",
    "tpm-crb": "tpmdev", "tpm-tis": "tpmdev", "usb-mtp": "rootdir", "usb-serial": "chardev",
    "virtio-9p-pci": "fsdev", "virtio-input-host-pci": "evdev",
}  # fmt: skip
"""What a device that cannot do without is refused for, where that is not given."""


def check_set(kinds: Set[str], name: str, value: Any) -> None:
    """Refuse a value of a property that is set; `kinds` are what the device is.

    :raise MachineError: the device does not take it.
    """
    _check(_limits(SET, kinds), {name: value})


class LimitRules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def send_queue_limit(self) -> int:
        """The most entries of the queue in which a virtio network card sends."""

    @property
    def rng_without_bytes(self) -> bool:
        """Whether a virtio random number generator may be limited to no bytes at all."""


def _varying(rules: LimitRules) -> dict[str, tuple[Limit, ...]]:
    least, kind = (0, "non-negative") if rules.rng_without_bytes else (1, "positive")
    text = f"'max-bytes' parameter must be {kind}, and less than 2^63"
    return {
        "virtio-net-pci-base": (_queue("tx_queue_size", rules.send_queue_limit),),
        "virtio-rng-pci-base": (Limit("max-bytes", range(least, 1 << 63), text),),
    }


def check(kinds: Set[str], node: Node, given: Mapping[str, Any], rules: LimitRules) -> None:
    """Refuse values that a device does not start with; `kinds` are what it is, `given` is what was set.

    :raise MachineError: there is one.
    """
    if not given:
        return
    _check(_limits(REALIZED, kinds), given)
    _check(_limits(_varying(rules), kinds), given)
    # The drive of an NVMe controller belongs to a namespace.
    if node.property("logical_block_size") is not None and (node.type != "nvme" or given.get("drive")):
        _check_blocks(node, given)


def _limits(table: Mapping[str, tuple[Limit, ...]], kinds: Set[str]) -> Iterator[Limit]:
    for kind in sorted(table.keys() & kinds):
        yield from table[kind]


def _check(limits: Iterable[Limit], given: Mapping[str, Any]) -> None:
    for limit in limits:
        value = given.get(limit.property)
        if value is not None and value not in limit.allowed:
            parts = {"value": value}
            if isinstance(value, int):
                shown = value
                if limit.property == "smart_critical_warning":
                    shown = value & ~31
                parts |= {"signed": signed(value), "hexadecimal": f"0x{shown:x}"}
            raise MachineError(limit.text.format(**parts))


def signed(number: int) -> int:
    """A number of 32 bits as QEMU takes it where it may be negative."""
    return number - (1 << 32) if number >= 1 << 31 else number


def _check_blocks(node: Node, given: Mapping[str, Any]) -> None:
    """Refuse sizes of blocks that do not go together (`blkconf_blocksizes` in hw/block/block.c)."""
    if node.type.startswith("ide-") and given.get("discard_granularity", _UNSET) not in (0, _SECTOR, _UNSET):
        raise MachineError("discard_granularity must be 512 for ide")
    logical = given.get("logical_block_size") or _SECTOR
    physical = given.get("physical_block_size") or _SECTOR
    if logical > physical:
        raise MachineError("logical_block_size > physical_block_size not supported")
    for name in _SIZES:
        size = given.get(name)
        if size is None or (name == "discard_granularity" and size == _UNSET):
            continue
        if size % logical:
            raise MachineError(f"{name} must be a multiple of logical_block_size")
        if name == "min_io_size" and size // logical > _MOST_BLOCKS:
            raise MachineError(f"min_io_size must not exceed {_MOST_BLOCKS} logical blocks")
    if node.type == "floppy" and (physical, logical) != (_SECTOR, _SECTOR):
        raise MachineError("Physical and logical block size must be 512 for floppy")
