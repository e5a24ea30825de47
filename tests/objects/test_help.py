"""What the human monitor and the command line list of types, as the real programs do: `device_add e1000,help`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.emulator.support import run
from tests.objects.support import InProcess, Real, human
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterable

RELEASES = ("5.2", "7.2", "10.0", "11.1")
# A program without the modules of these ends, or says that they are missing.
MODULES = ("virtio-gpu-gl-pci", "virtio-vga-gl")
FORMS = (
    "device_add help", "device_add ?", "device_add help,id=x", "device_add nope,help", "device_add e1000,id=q,?",
    "device_add e1000,help=on", "device_add virtio-net,help", "device_add pci-device,help", "device_add driver=help",
    "object_add help", "object_add ?", "object_add nope,help", "object_add secret,id=s,help",
    "object_add secret,help=off", "netdev_add help", "netdev_add type=?", "netdev_add help,id=q",
    "netdev_add user,help", "chardev-add socket,help", "drive_add 0 format=help", "drive_add 0 if=none,format=?",
    "trace-event help", "migrate_set_capability xbzrle",
)  # fmt: skip


def asked(machine: InProcess | Real, lines: Iterable[str]) -> dict[str, str]:
    return {line: human(machine, line) for line in lines}


def types(release: str) -> list[str]:
    # Listing the devices has QEMU load its modules, which makes more types of object.
    objects = re.findall(r"^  (\S+)\r$", human(InProcess(release), "object_add help"), re.MULTILINE)
    devices = re.findall(r'^name "([^"]+)"', human(InProcess(release), "device_add help"), re.MULTILINE)
    assert len(devices) > 300
    assert len(objects) > 30 or release == "5.2"
    lines = [f"device_add {each},help" for each in devices if each not in MODULES]
    return lines + [f"object_add {each},help" for each in objects]


@pytest.mark.parametrize("release", RELEASES)
def test_every_type_has_its_list(release: str) -> None:
    for line, text in asked(InProcess(release), types(release)).items():
        name = line.split()[1].removesuffix(",help")
        assert text.startswith((f"{name} options:\r\n  ", f"There are no options for {name}.\r\n")), line


@pytest.mark.parametrize("release", RELEASES)
def test_beside_the_real_program(release: str) -> None:
    if release not in programs():
        pytest.skip(f"there is no QEMU {release}")
    for lines in (FORMS, types(release), ["chardev-add help", "object_add help", "chardev-add backend=?"]):
        with Real(release, ["-machine", "pc", "-nodefaults", "-display", "none", "-S"]) as real:
            expected = asked(real, lines)
        assert asked(InProcess(release), lines) == expected


def test_defaults_are_as_they_are_typed_or_json() -> None:
    line = "device_add virtio-rng-pci,help"
    found = {release: human(InProcess(release), line) for release in RELEASES}
    assert "event_idx=<bool>       - on/off (default: true)\r\n" in found["7.2"]
    assert "disable-legacy=<OnOffAuto> - on/off/auto (default: auto)\r\n" in found["10.0"]
    assert "event_idx=<bool>       - on/off (default: on)\r\n" in found["11.1"]
    listed = human(InProcess("11.1"), "device_add virtio-net,help")
    assert "ebpf-rss-fds=<list>    -  (default: [])\r\n" in listed


def test_the_command_line_lists_the_same_and_refuses_the_same() -> None:
    listed = run("-device", "virtio-rng-pci,help").stdout
    assert listed.replace("\n", "\r\n") == human(InProcess("7.2"), "device_add virtio-rng-pci,help")
    assert "Parameter 'typename' expects a non-abstract device type" in run("-device", "pci-device,help").stderr
    assert run("-object", "sev-guest,help").stdout.count("\n") == 5
    missing = run("-device", f"{MODULES[0]},help")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "qmpd does not model the list of options of virtio-gpu-gl-pci" in missing.stderr
