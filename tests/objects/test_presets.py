"""`-global`: what the properties of devices begin with, the board's own among them, and what comes of it.

What is expected was measured on the real programs of 5.2, 7.2, 10.0 and 11.1, in a machine that has not run.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.testing import ControlError
from qmpd.testing.settings import StartError
from tests.block.support import Monitor
from tests.golden import RELEASES

if TYPE_CHECKING:
    from qmpd.testing import VM, VMFactory

N0 = "/machine/peripheral/n0"
PORT = "-machine q35 -device pcie-root-port,id=rp,chassis=1,slot=1 -device e1000e,id=n0,bus=rp"
NATIVE = "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"


def made(qmpd: VMFactory, release: str, line: str, **options: Any) -> VM:
    return qmpd(release=release, command_line=["-nodefaults", "-display", "none", *shlex.split(line)], **options)


def ask(vm: VM, command: str, **arguments: str) -> Any:
    """What the command returns, or the text that refuses it."""
    monitor = Monitor(vm.qmp_path)
    try:
        reply = monitor(command, **arguments)
    finally:
        monitor.close()
    return reply["return"] if "return" in reply else reply["error"]["desc"]


def path_of(vm: VM, kind: str) -> str:
    listed = ask(vm, "qom-list", path="/machine/unattached")
    return next(f"/machine/unattached/{each['name']}" for each in listed if each["type"] == f"child<{kind}>")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("line", "where", "expected"),
    [
        ("-global ICH9-LPC.disable_s3=1 -machine q35", "ICH9-LPC", {"disable_s3": 1, "disable_s4": 0}),
        ("-global mc146818rtc.lost_tick_policy=slew", "mc146818rtc", {"lost_tick_policy": "slew"}),
        ("-global driver=isa-fdc,property=fallback,value=144", "isa-fdc", {"fallback": "144"}),
        # The last one counts, and a type stands for those derived from it.
        ("-global isa-fdc.fallback=120 -global isa-fdc.fallback=auto", "isa-fdc",
         {"fallback": "auto"}),
        ("-global e1000.mac=52:54:00:11:22:33 -device e1000,id=n0", N0, {"mac": "52:54:00:11:22:33"}),
        ("-global e1000.mac=52:54:00:11:22:33 -device e1000,id=n0,mac=52:54:00:11:22:34", N0,
         {"mac": "52:54:00:11:22:34"}),
        ("-global virtio-net-device.x-txtimer=7 -global virtio-net-pci.vectors=9 -device virtio-net-pci,id=n0", N0,
         {"x-txtimer": 7, "vectors": 9}),
        ("-global pci-device.multifunction=on -device e1000,id=n0", N0, {"multifunction": True}),
    ],
)  # fmt: skip
def test_properties_begin_with_what_is_preset(
    qmpd: VMFactory, release: str, line: str, where: str, expected: dict[str, object]
) -> None:
    vm = made(qmpd, release, f"{line} -S")
    if where == "mc146818rtc" and release in ("10.0", "11.1"):
        # A part of the bridge there.
        where = next(
            f"/machine/unattached/{each['name']}/rtc"
            for each in ask(vm, "qom-list", path="/machine/unattached")
            if each["type"].startswith("child<PIIX3")
        )
    path = where if where.startswith("/") else path_of(vm, where)
    assert {name: ask(vm, "qom-get", path=path, property=name) for name in expected} == expected


@pytest.mark.parametrize("release", RELEASES)
def test_a_device_that_is_plugged_in_later_has_it_too(qmpd: VMFactory, release: str) -> None:
    vm = made(qmpd, release, "-global e1000.mac=52:54:00:11:22:33 -S")
    ask(vm, "device_add", driver="e1000", id="n0")
    assert ask(vm, "qom-get", path=N0, property="mac") == "52:54:00:11:22:33"


@pytest.mark.parametrize("release", ["7.2", "10.0", "11.1"])
def test_a_port_plugs_by_itself_where_acpi_is_not_to(qmpd: VMFactory, release: str) -> None:
    by_acpi, by_itself = made(qmpd, release, f"{PORT} -S"), made(qmpd, release, f"{PORT} {NATIVE} -S")
    bus = {"path": "/machine/peripheral/rp/rp", "property": "hotplug-handler"}
    assert ask(by_acpi, "qom-get", **bus) == path_of(by_acpi, "ICH9-LPC")
    assert ask(by_itself, "qom-get", **bus) == "/machine/peripheral/rp"


@pytest.mark.parametrize("release", ["7.2", "10.0", "11.1"])
def test_a_guest_that_does_not_answer_is_not_asked_twice_by_a_port(qmpd: VMFactory, release: str) -> None:
    vm = made(qmpd, release, f"{PORT} {NATIVE}", guest="boot-time=0,on-unplug=ignore", clock="virtual")
    vm.clock.advance(60)
    ask(vm, "device_del", id="n0")
    assert "already in the process of unplug" in ask(vm, "device_del", id="n0")


@pytest.mark.parametrize("release", RELEASES)
def test_the_first_bus_takes_nothing_where_acpi_is_not_to_serve_it(qmpd: VMFactory, release: str) -> None:
    vm = made(qmpd, release, "-global PIIX4_PM.acpi-root-pci-hotplug=off -device e1000,id=n0 -S")
    assert "Bus 'pci.0' does not support hotplugging" in ask(vm, "device_add", driver="e1000", id="n1")


def test_a_guest_does_not_sleep_where_the_firmware_does_not_offer_it(qmpd: VMFactory) -> None:
    vm = made(qmpd, "10.0", "-global PIIX4_PM.disable_s3=1", guest="boot-time=0", clock="virtual")
    vm.clock.advance(60)
    with pytest.raises(ControlError, match="not offered"):
        vm.guest.suspend()
    vm.guest.hibernate()
    vm.wait_for_event("SUSPEND_DISK")


DRIVES = "-drive if=none,id=n0 -drive if=none,id=n1 -global floppy.drive=n0"
NETS = "-netdev user,id=a -netdev user,id=b -global e1000.netdev=a"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{DRIVES} -drive if=floppy,id=f0", "-global floppy.drive=... conflicts with drive=f0"),
        (f"{DRIVES} -device floppy,drive=n1", "-global floppy.drive=... conflicts with drive=n1"),
        (
            f"{DRIVES} -device floppy -device floppy",
            "can't apply global floppy.drive=n0: Drive 'n0' is already in use by another device",
        ),
        (f"{NETS} -device e1000,netdev=b", "-global e1000.netdev=... conflicts with netdev=b"),
        (
            f"{NETS} -device e1000 -device e1000",
            "can't apply global e1000.netdev=a: Property 'e1000.netdev' can't take value 'a', it's in use",
        ),
        (
            "-chardev null,id=a -chardev null,id=b -global isa-serial.chardev=a -device isa-serial,chardev=b",
            "chardev=b conflicts, and override is not implemented",
        ),
    ],
)
def test_a_back_end_is_named_once(qmpd: VMFactory, line: str, words: str) -> None:
    with pytest.raises(StartError) as caught:
        made(qmpd, "7.2", f"-machine pc {line}")
    assert str(caught.value).endswith(words)
