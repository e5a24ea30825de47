"""What QEMU takes for an id."""

from __future__ import annotations

import re

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")


def is_identifier(text: str) -> bool:
    """Whether QEMU takes this for an id (util/id.c)."""
    return _IDENTIFIER.fullmatch(text) is not None
