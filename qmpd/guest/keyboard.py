"""The keys that a guest heeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

CTRL_ALT_DELETE = frozenset({"ctrl", "alt", "delete"})
_PLAIN = {"ctrl_r": "ctrl", "alt_r": "alt", "kp_decimal": "delete"}


def reboots(keys: Collection[str]) -> bool:
    """Whether these keys, which are held down together, are the three that have an operating system reboot."""
    return {_PLAIN.get(key, key) for key in keys} >= CTRL_ALT_DELETE
