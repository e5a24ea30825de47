"""Values of properties that devices do not start with, hot and cold: refused as a real QEMU refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.objects.support import PC, Ended, InProcess, OptionError, Real, Request
from tests.objects.test_differential import play
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
LINE = (
    *PC, "-blockdev", "null-co,node-name=n0", "-device", "virtio-scsi-pci,id=s", "-device", "virtio-serial-pci",
    "-device", "qemu-xhci",
)  # fmt: skip


def device(driver: str, name: str, *values: Any) -> list[Request]:
    return [("device_add", {"driver": driver, name: value}) for value in values]


def block(name: str, *values: Any) -> list[Request]:
    return [("device_add", {"driver": "virtio-blk-pci", "drive": "n0", name: value}) for value in values]


HOT: list[Request] = [
    *device("scsi-cd", "scsi-id", 256, (1 << 32) - 2), *device("scsi-cd", "lun", 16384),
    *device("scsi-cd", "channel", 1),
    *device("virtserialport", "nr", 0, 31), *device("usb-hub", "ports", 0, 9, 1 << 31),
    *device("usb-kbd", "port", "", "77"),
    *device("virtio-serial-pci", "max_ports", 0, 512),
    *device("virtio-scsi-pci", "num_queues", 0, 1023),
    *device("virtio-scsi-pci", "virtqueue_size", 0, 2),
    *device("virtio-net-pci", "rx_queue_size", 255, 300, 2048),
    *device("virtio-net-pci", "tx_queue_size", 255, 2048),
    *device("virtio-net-pci", "duplex", "x"), *device("virtio-net-pci", "speed", -2),
    *device("virtio-net-pci", "romsize", 3), *device("virtio-rng-pci", "period", 0),
    *device("usb-tablet", "usb_version", 0, 3, (1 << 32) - 1),
    *device("virtio-balloon-pci", "guest-stats-polling-interval", -1, 1 << 32),
    ("device_add", {"driver": "virtio-balloon-pci", "free-page-hint": True}),
    ("device_add", {"driver": "virtio-net-pci", "iommu_platform": True}),
    *block("num-queues", 0), *block("queue-size", 2, 3, 2048), *block("max-discard-sectors", 0, 1 << 22),
    *block("logical_block_size", 3, 1023, 1024, 1 << 40), *block("min_io_size", 3, 512 * 65536),
    *block("opt_io_size", 3), *block("discard_granularity", 3), *block("serial", "x" * 20),
]  # fmt: skip
COLD = (
    "isa-serial,index=4", "isa-parallel,index=3,chardev=c0", "pcie-root-port,chassis=1,aer_log_max=129",
    "sd-card,spec_version=4", "pci-ohci,num-ports=16",
    "i8042,kbd-irq=16", "ide-cd,discard_granularity=1024", "ide-cd,unit=7",
    "nvme,serial=1,max_ioqpairs=0", "cirrus-vga,vgamem_mb=5", "isa-ipmi-kcs,irq=5", "usb-serial,serial=x",
)


@pytest.mark.parametrize("release", RELEASES)
def test_qmpd_refuses_what_qemu_refuses_while_the_machine_exists(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    for request, ours, theirs in play(release, LINE, HOT):
        assert (request, ours) == (request, theirs)


@pytest.mark.parametrize("options", COLD)
def test_qmpd_refuses_what_qemu_refuses_from_the_start(options: str) -> None:
    if "7.2" not in programs():
        pytest.skip("qemu-system-x86_64 7.2 is not installed")
    board = ("-machine", "q35", *PC[2:], "-chardev", "null,id=c0", "-device", "qemu-xhci", "-device", "sdhci-pci")
    with pytest.raises(Ended) as ended:
        Real("7.2", [*board, "-device", options])
    with pytest.raises(OptionError) as refused:
        InProcess("7.2", [*board, "-device", options])
    assert ended.value.args[0].strip().endswith(f": {refused.value.message}")
