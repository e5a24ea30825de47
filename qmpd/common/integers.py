"""The integers that QEMU's visitors take."""

from __future__ import annotations

# Unsigned 64-bit ones take negative numbers too; the narrower ones don't.
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint8": (0, (1 << 8) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (-(1 << 63), (1 << 64) - 1),
}
"""The least and the largest of each type."""
