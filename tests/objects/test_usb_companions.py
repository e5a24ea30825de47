"""USB controllers that share the ports of another: they have no bus, as measured on 5.2, 7.2, 10.0 and 11.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden import RELEASES
from tests.objects.test_presets import ask, made

if TYPE_CHECKING:
    from qmpd.testing import VMFactory

# As libvirt gives them.
COMPANIONS = (
    "-device ich9-usb-ehci1,id=usb,bus=pci.0,addr=7.7"
    " -device ich9-usb-uhci1,masterbus=usb.0,firstport=0,bus=pci.0,multifunction=on,addr=7,id=u1"
)


@pytest.mark.parametrize("release", RELEASES)
def test_a_companion_has_no_bus(qmpd: VMFactory, release: str) -> None:
    vm = made(qmpd, release, f"{COMPANIONS} -device usb-tablet,id=t0 -device piix3-usb-uhci,id=u2 -S")
    listed = [ask(vm, "qom-list", path=f"/machine/peripheral/{name}") for name in ("usb", "u1", "u2")]
    buses = [[each["name"] for each in names if each["type"] == "child<usb-bus>"] for names in listed]
    assert buses == [["usb.0"], [], ["u2.0"]]
    assert ask(vm, "qom-get", path="/machine/peripheral/t0", property="parent_bus") == "/machine/peripheral/usb/usb.0"


@pytest.mark.parametrize("release", RELEASES)
def test_the_controllers_of_q35_share_one_bus(qmpd: VMFactory, release: str) -> None:
    vm = made(qmpd, release, "-machine q35,usb=on -device usb-tablet,id=t0 -device qemu-xhci -S")
    own = [each["type"][6:-1] for each in ask(vm, "qom-list", path="/machine/unattached") if "usb" in each["type"]]
    assert sorted(own) == ["ich9-usb-ehci1", "ich9-usb-uhci1", "ich9-usb-uhci2", "ich9-usb-uhci3"]
    assert ask(vm, "qom-get", path="/machine/peripheral/t0", property="parent_bus").endswith("/usb-bus.0")
    anonymous = ask(vm, "qom-list", path="/machine/peripheral-anon/device[0]")
    assert "usb-bus.1" in [each["name"] for each in anonymous]
