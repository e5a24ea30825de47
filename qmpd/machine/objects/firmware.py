"""Firmware of devices: the files that QEMU brings along are taken for there, others have to be."""

from __future__ import annotations

import os
import re

# The names of those that QEMU brings along.
_OWN = re.compile(r"(efi|pxe)-[a-z0-9-]+\.rom|(vgabios|kvmvapic|linuxboot|multiboot|pvh|sgabios)[a-z_-]*\.bin")


def exists(path: str) -> bool:
    """Whether there is such a file: at that path, or among those that QEMU brings along."""
    return os.path.isfile(path) or _OWN.fullmatch(path) is not None
