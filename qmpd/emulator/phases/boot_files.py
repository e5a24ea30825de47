"""The firmware and the kernel that a machine starts with (QEMU's hw/i386/x86-common.c)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.machine import boot_order
from qmpd.option_language import key_values
from qmpd.option_language.errors import NOWHERE, BareError, OptionError
from qmpd.option_language.property_values import check_member

if TYPE_CHECKING:
    from collections.abc import Container

    from qmpd.option_language.key_values import Tree

FOLDERS = ("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu")
"""Where the files are that come with QEMU."""

_BOOT = {"order": "", "once": "", "menu": "bool", "splash": "", "splash-time": "int", "reboot-timeout": "int",
         "strict": "bool"}  # fmt: skip
_FIRMWARE = ("bios.bin", "bios-256k.bin", "bios-microvm.bin", "qboot.rom")
_FLASH_UNIT = 65536
# Where a kernel says how long its first part is.
_SECTORS = 0x1F1


def check_kernel_options(given: Container[str]) -> None:
    """Refuse what belongs to a kernel where there is none.

    :raise OptionError: it is given.
    """
    if "kernel" not in given:
        for name in ("append", "initrd", "shim"):
            if name in given:
                raise OptionError(f"-{name} only allowed with -kernel option", NOWHERE)


def check_boot(value: str | Tree, sizes: str) -> None:
    """See whether `-boot` says something; `sizes` is the language of sizes.

    :raise OptionError: it does not.
    """
    if isinstance(value, str):
        raise OptionError("Invalid parameter type for 'boot', expected: object", NOWHERE)
    try:
        for key, kind in _BOOT.items():
            text = value.get(key)
            if isinstance(text, dict):
                raise Refusal("keys-unexpected", path=f"boot.{key}")
            if isinstance(text, str) and kind:
                check_member(kind, f"boot.{key}", text, sizes)
        for key in value:
            if key not in _BOOT:
                raise OptionError(f"Parameter 'boot.{key}' is unexpected", NOWHERE)
        for key in ("order", "once"):
            letters = value.get(key)
            boot_order.check(letters if isinstance(letters, str) else "")
    except Refusal as error:
        raise error.at(NOWHERE) from None


def boot_choice(given: Tree) -> dict[str, Any]:
    """What `-boot` says, which was checked, as members of `MachineSettings`."""
    orders = {f"boot_{key}": text for key in ("order", "once") if isinstance(text := given.get(key), str)}
    values: dict[str, object] = {key: _value(key, text) for key, text in given.items() if isinstance(text, str)}
    return {**orders, "boot_menu": values.get("menu", False), "boot": values}


def _value(key: str, text: str) -> object:
    if _BOOT[key] == "bool":
        return key_values.boolean(key, text)
    return key_values.signed_integer(key, text) if _BOOT[key] else text


def load_firmware(name: str | Tree | None) -> None:
    """See whether the firmware of this name can be loaded.

    :raise OptionError: it cannot.
    """
    if not isinstance(name, str):
        return
    places = (name, *(os.path.join(folder, name) for folder in FOLDERS if os.path.isfile(os.path.join(folder, name))))
    found = next((path for path in places if name and os.path.exists(path)), None)
    size = 0 if found is None else os.path.getsize(found)
    if name not in _FIRMWARE and (not size or size % _FLASH_UNIT):
        raise BareError(f"qemu: could not load PC BIOS '{name}'", NOWHERE)


def load_kernel(name: str | Tree | None) -> None:
    """See whether the kernel of this name can be loaded.

    :raise OptionError: it cannot.
    """
    if not isinstance(name, str):
        return
    try:
        if os.path.isdir(name):
            raise BareError(f"qemu: could not load kernel '{name}': Is a directory", NOWHERE)
        with open(name, "rb") as file:
            start = file.read(8192)
            size = os.path.getsize(name)
    except OSError as error:
        text = f"qemu: could not open kernel file '{name}': {error.strerror}"
        raise BareError(text, NOWHERE) from None
    if not start:
        raise BareError(f"qemu: could not load kernel '{name}': No such file or directory", NOWHERE)
    sectors = start[_SECTORS] if len(start) > _SECTORS and start[_SECTORS] else 4
    if (sectors + 1) * 512 > size:
        raise BareError("qemu: invalid kernel header", NOWHERE)
