"""The paths that stand for a file of a set, `/dev/fdset/NUMBER` (QEMU's `add-fd`)."""

from __future__ import annotations

import re

from qmpd.common.integers import from_digits

FOLDER = "/dev/fdset/"
"""What such a path begins with."""

_NUMBER = re.compile(r"[ \t\n\v\f\r]*\+?([0-9]+)\Z")
_LARGEST = 0x7FFF_FFFF


def set_number(path: str) -> int | None:
    """The number of the set that a path stands for; None where it is another path.

    :raise ValueError: no number is in its place (QEMU's `qemu_parse_fd`, which reads it as C does).
    """
    if not path.startswith(FOLDER):
        return None
    found = _NUMBER.match(path, len(FOLDER))
    number = _LARGEST + 1 if found is None else from_digits(found[1])
    if number > _LARGEST:
        raise ValueError(f"{path} has no number of a set")
    return number
