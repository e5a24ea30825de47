"""Random sequences of devices that come and leave, beside real QEMU whose guest has run.

`python -m tests.unplug.sequences [-r RELEASE]... [-n COUNT] [-s SEED]` asks the real programs, and tells where qmpd
says something else; a sequence is the same for the same seed.
"""

from __future__ import annotations

import argparse
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import trio

from tests.real_qemu import programs
from tests.unplug import scenarios
from tests.unplug.__main__ import Ended, asked
from tests.unplug.player import differences, played
from tests.unplug.scenarios import NATIVE, SETTLE, Scenario, add, ask, leave

AT_ONCE = 4
LENGTH = 14
_COMMON = (
    "-m", "64,slots=2,maxmem=1G", "-smp", "1,maxcpus=2,sockets=2,cores=1,threads=1", "-chardev", "null,id=ch0",
    "-netdev", "user,id=n0", "-object", "memory-backend-ram,id=m0,size=128M",
)  # fmt: skip
PC = (
    "-machine", "pc", *_COMMON, "-usb", "-device", "virtio-scsi-pci,id=vs,addr=6", "-device",
    "virtio-serial-pci,id=vser,addr=7", "-device", "virtserialport,bus=vser.0,chardev=ch0,id=port0", "-device",
    "e1000,id=cold,netdev=n0,addr=8", "-device", "pc-dimm,id=dimm0,memdev=m0",
)  # fmt: skip
Q35 = (
    "-machine", "q35", *_COMMON, "-device", "pcie-root-port,id=rp1,chassis=1,slot=1,addr=5", "-device",
    "pcie-root-port,id=rp2,chassis=2,slot=2,addr=6", "-device", "virtio-scsi-pci,id=vs,bus=rp1", "-device",
    "qemu-xhci,id=xh,addr=9",
)  # fmt: skip
_SMALL = ("u", "k", "disk", "stick", "dimm0", "dimm1", "cpu1", "port0", "port1", "nonesuch")
_CARDS = ("c", "d", "rng", "vs", "cold", "vser", "xh", "rp1")


def sequence(seed: int, release: str) -> Scenario:
    """The one of this seed, without what boot sectors have no part in: none refuses cards, or ejects behind ports."""
    dice = random.Random(seed)
    express = dice.random() < 0.45
    options, guests = (Q35, ("halt", "halt", None)) if express else (PC, ("halt", "eject", "eject", "refuse", None))
    guest = dice.choice(guests)
    if express and release != "5.2" and dice.random() < 0.4:
        options = (*options, "-global", NATIVE)
    names = _SMALL if guest == "refuse" else (*_SMALL, *_CARDS)
    steps: list[Any] = [ask("blockdev-add", driver="null-co", node_name="d1")]
    for _ in range(LENGTH):
        steps += _step(dice, names, express=express)
        steps.append(SETTLE)
    return Scenario(f"sequence {seed}", guest, options, tuple(steps))


def _step(dice: random.Random, names: tuple[str, ...], *, express: bool) -> list[Any]:
    number = dice.random()
    if number < 0.34:
        return [leave(dice.choice(names))]
    if number < 0.62:
        return [_come(dice, express=express)]
    if number < 0.66:
        return [ask("system_reset"), SETTLE]
    others: tuple[dict[str, Any], ...] = (
        ask("stop"), ask("cont"), ask("cont"), ask("query-memory-devices"), ask("object-del", id="m0"),
        ask("object-del", id="m1"), ask("chardev-remove", id="ch0"), ask("netdev_del", id="n0"),
        ask("blockdev-del", node_name="d1"), ask("blockdev-add", driver="null-co", node_name="d1"),
        ask("object-add", qom_type="memory-backend-ram", id="m1", size=128 << 20),
    )  # fmt: skip
    return [dice.choice(others)]


def _come(dice: random.Random, *, express: bool) -> dict[str, Any]:
    usb = {"bus": "xh.0"} if express else {}
    card = {"bus": dice.choice(("rp1", "rp2"))} if express else {}
    devices = [
        add("usb-tablet", "u", **usb), add("usb-kbd", "k", **usb), add("usb-storage", "stick", drive="d1", **usb),
        add("scsi-hd", "disk", bus="vs.0", drive="d1"), add("e1000", dice.choice(("c", "d")), **card),
        add("virtio-rng-pci", "rng", **card), add("pc-dimm", "dimm0", memdev="m0"),
        add("pc-dimm", "dimm1", memdev="m1"), scenarios.PROCESSOR,
    ]  # fmt: skip
    if not express:
        devices.append(add("virtserialport", "port1", bus="vser.0", chardev="ch0"))
        devices.append(add("virtio-balloon-pci", "d"))
    return dice.choice(devices)


def compared(release: str, chosen: Scenario) -> list[str]:
    """Where qmpd says something else than the real program, which is asked again where it might be chance."""
    ours = trio.run(played, release, chosen)
    known: list[list[list[str]]] = []
    for _ in range(2):
        known.append(asked(release, chosen))
        found = differences(chosen, ours, known)
        if not found:
            break
    return found


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.unplug.sequences", description="Compare random sequences.")
    parser.add_argument("-r", "--release", action="append", help="a release (all that there are)")
    parser.add_argument("-n", "--number", type=int, default=50, help="how many")
    parser.add_argument("-s", "--seed", type=int, default=random.randrange(1 << 30), help="the first one's")
    arguments = parser.parse_args()
    for release in arguments.release or sorted(programs()):
        chosen = [sequence(arguments.seed + number, release) for number in range(arguments.number)]

        def tried(each: Scenario, release: str = release) -> list[str] | None:
            try:
                return compared(release, each)
            except (Ended, AssertionError):
                return None

        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = list(threads.map(tried, chosen))
        for each, lines in zip(chosen, found, strict=True):
            if lines is None or lines:
                print(f"{release} {each.name}: {'the real program gave up' if lines is None else lines[0]}")
        same = sum(lines == [] for lines in found)
        print(f"{release}: {same} of {len(found)} from seed {arguments.seed} on are the same", flush=True)


if __name__ == "__main__":
    main()
