"""Firmware of devices: the files that QEMU brings along are taken for there, others have to be."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.qom.node import Node

# The names of those that QEMU brings along.
_OWN = re.compile(r"(efi|pxe)-[a-z0-9-]+\.rom|(vgabios|kvmvapic|linuxboot|multiboot|pvh|sgabios)[a-z_-]*\.bin")


def refusal(node: Node, given: str | None, *, cold: bool) -> str | None:
    """Why a PCI device cannot have its firmware (hw/pci/pci.c); None where it can.

    `given` is a file that was named.
    """
    if not node.value("romfile"):
        return None
    if node.value("rombar") == 0:
        return None if cold else "Hot-plugged device without ROM bar can't have an option ROM"
    if given and not (os.path.isfile(given) or _OWN.fullmatch(given) is not None):
        return f'failed to find romfile "{given}"'
    return None
