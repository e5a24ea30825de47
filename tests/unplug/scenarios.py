"""Devices that leave machines whose guests have run: what is asked, and the boot sectors that stand for guests.

A step is a QMP command, as a dictionary; SETTLE, in which nothing is asked and all that comes is kept; or `wait(S)`,
the same for so many seconds.  A scenario's guest is one of `GUESTS`, or None: the machine was started with -S.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SETTLE = "settle"
PC = ("-machine", "pc", "-m", "64", "-usb")
Q35 = ("-machine", "q35", "-m", "64")
NO_LAG = ("11.1",)
"""Releases in which what leaves is gone so soon that it is chance whether the next command comes before that."""
NATIVE = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"


class Scenario(NamedTuple):
    """One scenario; `but` are releases in which it is left out."""

    name: str
    guest: str | None
    options: tuple[str, ...]
    steps: tuple[Any, ...]
    but: tuple[str, ...] = ()


def wait(seconds: int) -> str:
    """Nothing is asked for so long."""
    return f"wait {seconds}"


def ask(command: str, **arguments: Any) -> dict[str, Any]:
    """A command; an underscore in a name stands for `-`, but for those of `device_add`."""
    if command != "device_add":
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
    return {"execute": command, **({"arguments": arguments} if arguments else {})}


def add(driver: str, identifier: str, **properties: Any) -> dict[str, Any]:
    """`device_add`."""
    return ask("device_add", driver=driver, id=identifier, **properties)


def leave(identifier: str) -> dict[str, Any]:
    """`device_del`."""
    return ask("device_del", id=identifier)


# Boot sectors


def _out(port: int, value: int, size: int) -> bytes:
    load = {1: b"\xb0" + bytes([value & 0xFF]), 4: b"\x66\xb8" + value.to_bytes(4, "little")}[size]
    return b"\xba" + port.to_bytes(2, "little") + load + {1: b"\xee", 4: b"\x66\xef"}[size]


def _if_bit(port: int, bit: int, then: bytes) -> bytes:
    """Do something if a bit of a byte port is set."""
    return b"\xba" + port.to_bytes(2, "little") + b"\xec\xa8" + bytes([1 << bit]) + b"\x74" + bytes([len(then)]) + then


def _eject_pci() -> bytes:
    """Let go of the devices of bus 0 that ACPI asks for."""
    asked = b"\xba\x04\xae\x66\xed\x66\x85\xc0\x74\x05"
    return _out(0xAE10, 0, 4) + asked + b"\xba\x08\xae\x66\xef"


def _memory(slot: int, answer: bytes) -> bytes:
    """Answer where ACPI asks for the memory in a slot."""
    return _out(0x0A00, slot, 4) + _if_bit(0x0A14, 2, answer)


def _processor(answer: bytes) -> bytes:
    """Answer where ACPI asks for a CPU: the interface is switched over, and finds the next one that something is of."""
    return _out(0xAF00, 0, 1) + _out(0xAF00, 0, 4) + _out(0xAF05, 0, 1) + _if_bit(0xAF04, 2, answer)


def _reported(command: int, value: int) -> bytes:
    return _out(0xAF05, command, 1) + _out(0xAF08, value, 4)


def _loop(*parts: bytes) -> bytes:
    """Do all of that whenever the clock ticks."""
    body = b"".join(parts)
    start = b"\xfb\xf4"  # sti; hlt
    jump = -(len(start) + len(body) + 3)
    return start + body + b"\xe9" + jump.to_bytes(2, "little", signed=True)


_EJECT_MEMORY = _out(0x0A14, 1 << 2, 1) + _out(0x0A14, 1 << 3, 1)
_REFUSE_MEMORY = _out(0x0A14, 1 << 2, 1) + _out(0x0A04, 3, 4) + _out(0x0A08, 1, 4)
_EJECT_PROCESSOR = _out(0xAF04, 1 << 3, 1)
_REFUSE_PROCESSOR = _out(0xAF04, 1 << 2, 1) + _reported(1, 3) + _reported(2, 1)

GUESTS = {
    "halt": b"\xf4\xeb\xfd",
    "eject": _loop(_eject_pci(), _memory(0, _EJECT_MEMORY), _memory(1, _EJECT_MEMORY), _processor(_EJECT_PROCESSOR)),
    "refuse": _loop(_memory(0, _REFUSE_MEMORY), _memory(1, _REFUSE_MEMORY), _processor(_REFUSE_PROCESSOR)),
}
"""They halt for good; let go of what ACPI asks for; or tell it that they will not."""


def sector(code: bytes) -> bytes:
    """A disk that starts with this code."""
    assert len(code) <= 510
    return code.ljust(510, b"\0") + b"\x55\xaa" + bytes(512 * 2047)


# What is asked

_SCSI = ("-device", "virtio-scsi-pci,id=vs,addr=6")
_SERIAL = ("-device", "virtio-serial-pci,id=vser,addr=7", "-chardev", "null,id=ch0")
_PORT = (*_SERIAL, "-device", "virtserialport,bus=vser.0,chardev=ch0,id=port0")
_NODE = ask("blockdev-add", driver="null-co", node_name="d1")
_DISK = add("scsi-hd", "disk", bus="vs.0", drive="d1")
_STICK = add("usb-storage", "stick", drive="d1")
_TABLET = add("usb-tablet", "u")
_FREE = ask("blockdev-del", node_name="d1")
_PERIPHERAL = ask("qom-list", path="/machine/peripheral")
_STOPPED = (ask("stop"),)

_IN_USE: dict[str, tuple[Any, ...]] = {
    "a disk's node is in use": (_NODE, _DISK, SETTLE, leave("disk"), _FREE, _PERIPHERAL, SETTLE, _FREE),
    "a disk that has gone is not found": (_NODE, _DISK, SETTLE, leave("disk"), leave("disk"), SETTLE, leave("disk")),
    "a disk's node for another disk": (
        _NODE, _DISK, SETTLE, leave("disk"), add("scsi-hd", "other", bus="vs.0", drive="d1"), SETTLE,
        add("scsi-hd", "other", bus="vs.0", drive="d1"),
    ),
    "a stick's node is in use": (_NODE, _STICK, SETTLE, leave("stick"), _FREE, SETTLE, _FREE),
    "a port's character device is in use": (leave("port0"), ask("chardev-remove", id="ch0"), SETTLE,
                                            ask("chardev-remove", id="ch0")),
    "a port's character device for another port": (
        leave("port0"), add("virtserialport", "port1", bus="vser.0", chardev="ch0"), SETTLE,
    ),
    "an id is taken again": (_TABLET, SETTLE, leave("u"), add("usb-kbd", "u"), SETTLE, leave("u"), SETTLE),
    "what is refused ends the others": (_TABLET, SETTLE, leave("u"), add("nonesuch", "k"), SETTLE),
    "what is refused late ends the others": (
        _TABLET, SETTLE, leave("u"), add("scsi-hd", "k", bus="vs.0", drive="none"), SETTLE,
    ),
    "what is no id ends the others or not": (_TABLET, SETTLE, leave("u"), add("usb-kbd", "1k"), SETTLE),
    "what is added does not": (_TABLET, SETTLE, leave("u"), add("usb-kbd", "k"), SETTLE),
    "two go together": (_TABLET, add("usb-kbd", "k"), SETTLE, leave("u"), leave("k"), SETTLE),
    "a drive of its own": (
        ask("human-monitor-command", command_line="drive_add 0 if=none,id=dr,driver=null-co"), SETTLE,
        add("scsi-hd", "disk", bus="vs.0", drive="dr"), SETTLE, leave("disk"), SETTLE,
        ask("human-monitor-command", command_line="info block -n dr"),
    ),
}  # fmt: skip

# Those in which nothing is asked of what is just leaving.
_UNHURRIED = ("a drive of its own",)

_CONTROLLERS: dict[str, tuple[Any, ...]] = {
    "a card": (add("e1000", "c"), SETTLE, leave("c"), SETTLE, _PERIPHERAL),
    "a card of virtio": (
        ask("netdev_add", type="user", id="n0"), add("virtio-net-pci", "c", netdev="n0"), SETTLE, leave("c"), SETTLE,
        ask("netdev_del", id="n0"),
    ),
    "a disk of virtio": (_NODE, add("virtio-blk-pci", "c", drive="d1"), SETTLE, leave("c"), SETTLE, _FREE),
    "a controller and its disk": (_NODE, _DISK, SETTLE, leave("vs"), SETTLE, _FREE),
    "a controller and its port": (leave("vser"), SETTLE, ask("chardev-remove", id="ch0")),
    "a controller of USB": (
        add("qemu-xhci", "x"), add("usb-tablet", "u", bus="x.0"), SETTLE, leave("x"), SETTLE, _PERIPHERAL,
    ),
    "a balloon": (add("virtio-balloon-pci", "b"), SETTLE, leave("b"), SETTLE, add("virtio-balloon-pci", "b"), SETTLE),
    "two cards": (add("e1000", "c"), add("e1000", "d"), SETTLE, leave("c"), leave("d"), SETTLE),
}
_ASKED_AGAIN = (add("e1000", "c"), SETTLE, leave("c"), leave("c"), SETTLE, wait(1), leave("c"), wait(6), leave("c"))

_MEMORY = ("-machine", "pc", "-m", "64,slots=2,maxmem=1G", "-object", "memory-backend-ram,id=m0,size=128M",
           "-device", "pc-dimm,id=dimm0,memdev=m0")  # fmt: skip
_PROCESSORS = ("-machine", "pc", "-m", "64", "-smp", "1,maxcpus=2,sockets=2,cores=1,threads=1")
PROCESSOR = add("qemu64-x86_64-cpu", "cpu1", socket_id=1, core_id=0, thread_id=0)
PROCESSOR["arguments"] = {name.replace("_", "-"): value for name, value in PROCESSOR["arguments"].items()}
_HOT = (ask("object-add", qom_type="memory-backend-ram", id="m1", size=128 << 20), add("pc-dimm", "dimm1", memdev="m1"))
_STATUS = ask("query-acpi-ospm-status")


_CARDS = (
    "pci-serial", "pci-serial-2x", "pci-testdev", "edu", "sdhci-pci", "nec-usb-xhci", "qemu-xhci", "usb-ehci",
    "ich9-usb-ehci1", "piix3-usb-uhci", "pci-ohci", "AC97", "ES1370", "intel-hda", "lsi53c895a", "mptsas1068",
    "megasas", "am53c974", "pvscsi", "ich9-ahci", "e1000", "e1000e", "vmxnet3", "rtl8139", "ne2k_pci",
    "pcnet", "i82550", "tulip", "i6300esb", "virtio-rng-pci", "virtio-keyboard-pci", "virtio-gpu-pci",
    "virtio-sound-pci", "virtio-scsi-pci", "virtio-serial-pci", "virtio-net-pci", "virtio-balloon-pci",
    "secondary-vga", "bochs-display", "pci-bridge", "i82801b11-bridge", "vmcoreinfo", "ati-vga", "cirrus-vga",
)  # fmt: skip
_SMALL = (
    "usb-hub", "usb-audio", "usb-serial", "usb-braille", "usb-ccid", "usb-uas", "usb-net", "usb-mouse",
    "usb-wacom-tablet", "usb-bot", "usb-mtp", "scsi-cd", "virtconsole", "virtserialport", "usb-storage",
)  # fmt: skip


def _parades() -> list[Scenario]:
    """One device after another, of every type that goes with nothing else."""
    found = []
    for number, drivers in enumerate((_CARDS[0::3], _CARDS[1::3], _CARDS[2::3])):
        steps = [each for driver in drivers for each in (add(driver, driver, **_needs(driver)), leave(driver), SETTLE)]
        found.append(Scenario(f"one card after another, {number}", "eject", PC, tuple(steps)))
    steps = [each for driver in _SMALL for each in (add(driver, driver), leave(driver), SETTLE)]
    options = (*PC, *_SCSI, "-device", "virtio-serial-pci,id=vser,addr=7", "-device", "qemu-xhci,id=xh,addr=8")
    found.append(Scenario("one small device after another", "halt", options, tuple(steps), NO_LAG))
    return found


def _needs(driver: str) -> dict[str, Any]:
    return {"chassis_nr": 3} if driver == "pci-bridge" else {}


def _made() -> list[Scenario]:
    found = []
    for name, steps in _IN_USE.items():
        options = (*PC, *_SCSI, *(_PORT if "port" in name else ()))
        but = NO_LAG if name not in _UNHURRIED else ()
        found.append(Scenario(name, "halt", options, steps, but))
        found.append(Scenario(f"stopped: {name}", "halt", options, _STOPPED + steps, but))
        found.append(Scenario(f"not started: {name}", None, options, steps, but))
    for name, steps in _CONTROLLERS.items():
        options = (*PC, *_SCSI, *(_PORT if "port" in name else ()))
        found.append(Scenario(name, "eject", options, steps))
        halted = (*steps, ask("system_reset"), SETTLE)
        found.append(Scenario(f"unheard: {name}", "halt", options, halted))
        found.append(Scenario(f"stopped: {name}", "eject", options, (*_STOPPED, *steps, ask("cont"), SETTLE, SETTLE)))
    found.append(Scenario("a card, asked again", "halt", PC, _ASKED_AGAIN))
    found.append(Scenario("stopped: a card, asked again", "halt", PC, _STOPPED + _ASKED_AGAIN))
    found.append(Scenario("not started: a card, asked again", None, PC, _ASKED_AGAIN))
    found.append(Scenario("asked before it started", None, PC, (
        add("e1000", "c"), leave("c"), leave("c"), ask("cont"), wait(1), leave("c"), ask("system_reset"), SETTLE,
    )))  # fmt: skip
    found += _express()
    found += _memory_and_processors()
    found += _parades()
    return found


def _express() -> list[Scenario]:
    found = []
    native = (*Q35, "-global", NATIVE)
    root = ("-device", "pcie-root-port,id=rp,chassis=1,slot=1")
    cold = (*root, "-device", "e1000e,id=c,bus=rp")
    asked = (leave("c"), leave("c"), wait(6), leave("c"), leave("c"), ask("system_reset"), SETTLE, leave("c"), SETTLE)
    plugged = (add("virtio-rng-pci", "c", bus="rp"), SETTLE)
    for name, options in (("native", native), ("by ACPI", Q35)):
        but = ("5.2",) if options is native else ()
        for guest in ("halt", None):
            kind = f"express, {name}, {guest or 'not started'}"
            found.append(Scenario(f"{kind}: cold", guest, (*options, *cold), (*asked, _PERIPHERAL), but))
            steps = (*plugged, *asked, _PERIPHERAL)
            found.append(Scenario(f"{kind}: hot", guest, (*options, *root), steps, (*but, *NO_LAG)))
    return found


def _memory_and_processors() -> list[Scenario]:
    found = []
    for guest in ("eject", "refuse", "halt", None):
        kind = guest or "not started"
        found.append(Scenario(f"memory, {kind}", guest, _MEMORY, (
            _STATUS, leave("dimm0"), SETTLE, SETTLE, _STATUS, *_HOT, leave("dimm1"), SETTLE, leave("dimm1"), SETTLE,
            _STATUS, add("pc-dimm", "dimm1", memdev="m1"), leave("dimm1"), SETTLE, ask("object-del", id="m0"),
            ask("object-del", id="m1"), ask("query-memory-devices"),
        )))  # fmt: skip
        found.append(Scenario(f"a CPU, {kind}", guest, _PROCESSORS, (
            _STATUS, PROCESSOR, SETTLE, leave("cpu1"), SETTLE, SETTLE, _STATUS, leave("cpu1"), SETTLE, SETTLE,
            ask("query-hotpluggable-cpus"),
        )))  # fmt: skip
    return found


SCENARIOS = _made()
