"""The interfaces of virtio devices on PCI: the legacy one, the modern one, and none, as query-pci tells."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.objects.support import PC, Ended, InProcess, OptionError, Real, human
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
DEVICES = ("virtio-net-pci", "virtio-rng-pci", "virtio-scsi-pci", "virtio-serial-pci", "virtio-balloon-pci")
MODES = ("", ",disable-modern=on", ",disable-legacy=on", ",disable-legacy=off")
PORT = ("-machine", "q35", "-nodefaults", "-display", "none", "-S", "-device", "pcie-root-port,id=rp")
BRIDGES = (
    *PORT, "-device", "e1000,bus=rp,id=n", "-device", "qemu-xhci", "-device", "pci-bridge,chassis_nr=1,id=b",
    "-device", "virtio-gpu-pci,bus=b,addr=3", "-device", "cirrus-vga",
)  # fmt: skip


def told(machine: InProcess | Real) -> list[Any]:
    (reply,) = machine.say(b'{"execute": "query-pci"}')
    found = orjson.loads(reply)["return"][0]["devices"]
    below = [each for one in found for each in one.get("pci_bridge", {}).get("devices", ())]
    return [(each["id"], each["regions"], each["class_info"]) for each in [*found, *below]]


@pytest.mark.parametrize("release", RELEASES)
def test_beside_the_real_program(release: str) -> None:
    if release not in programs():
        pytest.skip(f"there is no QEMU {release}")
    for mode in MODES:
        line = [word for each in DEVICES for word in ("-device", each + mode)]
        with Real(release, [*PC, *line]) as real:
            assert told(InProcess(release, [*PC, *line])) == told(real), mode
    with Real(release, BRIDGES) as real:
        assert human(InProcess(release, BRIDGES), "info pci") == human(real, "info pci")
    for device in ("virtio-gpu-pci", "virtio-keyboard-pci"):
        for mode in MODES:
            line = [*PC, "-device", device + mode]
            with Real(release, line) as real:
                assert human(InProcess(release, line), "info qtree") == human(real, "info qtree"), line
    for mode in MODES:
        line = [*PORT, "-device", f"virtio-rng-pci,bus=rp{mode}"]
        try:
            with Real(release, line) as real:
                assert told(InProcess(release, line)) == told(real), mode
        except Ended:
            with pytest.raises(OptionError):
                InProcess(release, line)


@pytest.mark.parametrize(("mode", "number", "bars"), [
    ("disable-modern=off", 0x1005, [0, 1, 4]), ("disable-modern=on", 0x1005, [0, 1]),
    ("disable-legacy=on", 0x1044, [1, 4]), ("disable-legacy=on,vectors=0", 0x1044, [4]),
])  # fmt: skip
def test_each_has_its_region(mode: str, number: int, bars: list[int]) -> None:
    called, regions, _ = told(InProcess("7.2", [*PC, "-device", f"virtio-rng-pci,{mode}"]))[-1]
    assert called["device"] == number
    assert [each["bar"] for each in regions] == bars


@pytest.mark.parametrize(("release", "where"), [("7.2", "at 0xffffffffffffffff [0x001e]."), ("10.0", "(not mapped)")])
def test_the_human_monitor_shows_the_regions(release: str, where: str) -> None:
    text = human(InProcess(release, [*PC, "-device", "virtio-rng-pci,id=r"]), "info pci")
    device = text[text.index("  Bus  0, device   2") :].splitlines()
    assert device[:5] == [
        "  Bus  0, device   2, function 0:", "    Class 0255: PCI device 1af4:1005", "      PCI subsystem 1af4:0004",
        "      IRQ 0, pin A", f"      BAR0: I/O {where}",
    ]  # fmt: skip
    assert device[-1] == '      id "r"'


def test_one_without_any_is_refused() -> None:
    with pytest.raises(OptionError) as refused:
        InProcess("7.2", [*PORT, "-device", "virtio-rng-pci,bus=rp,disable-modern=on"])
    assert refused.value.hint == ("Set either disable-modern or disable-legacy to off",)
    machine = InProcess("7.2", PC)
    arguments = {"driver": "virtio-rng-pci", "disable-modern": True, "disable-legacy": "on"}
    (reply,) = machine.said("device_add", arguments)
    assert orjson.loads(reply)["error"]["desc"] == "device cannot work as neither modern nor legacy mode is enabled"
