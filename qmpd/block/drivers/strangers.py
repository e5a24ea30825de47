"""What drivers refuse that are not modelled, before they would open anything (QEMU's block/vvfat.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.values import is_on, number
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.computer import Computer

    Options = Mapping[str, Any]

_LONGEST_LABEL = 11
_FAT_TYPES = (12, 16, 32)


def check(driver: str, options: Options, computer: Computer) -> None:
    """Refuse what such a driver does not take.

    :raise Refusal: it does not.
    """
    rule = _RULES.get(driver)
    if rule is not None:
        rule(options, computer)


def _encrypted(options: Options, computer: Computer) -> None:
    if "key-secret" not in options:
        raise Refusal("luks-key")


def _folder(options: Options, computer: Computer) -> None:
    if not isinstance(options.get("dir"), (str, int, float)):
        raise MachineError("vvfat block driver requires a 'dir' option")
    if len(str(options.get("label", ""))) > _LONGEST_LABEL:
        raise Refusal("fat-label")
    if "fat-type" in options and number(options["fat-type"]) not in (0, *_FAT_TYPES):
        raise Refusal("fat-type")
    if not any(is_on(options.get(name, False)) for name in ("rw", "read-only", "auto-read-only")):
        raise Refusal("image-read-only")
    check_folder(str(options.get("dir", "")), computer)


def check_folder(path: str, computer: Computer) -> None:
    """Refuse a folder that is none.

    :raise Refusal: it is none.
    """
    if not computer.is_folder(path):
        raise Refusal("folder-unreadable", path=path)


_RULES: dict[str, Callable[[Options, Computer], None]] = {
    "luks": _encrypted,
    "vvfat": _folder,
}
