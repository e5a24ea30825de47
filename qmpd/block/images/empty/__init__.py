"""Empty images of the formats that are only made: what `blockdev-create` makes of them.

Each takes the options of its QAPI type (`BlockdevCreateOptionsVdi` and its like), refuses those that no image can have,
and gives what writes the image, in a thread of the disks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.images.empty.older import check_vdi, parallels, qcow, qed, vdi
from qmpd.block.images.empty.vhdx import vhdx
from qmpd.block.images.empty.vpc import vpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from qmpd.block.images.storage import Storage

    Write = Callable[[Storage], None]

EMPTY: Mapping[str, Callable[[Mapping[str, Any]], Write]] = {
    "qcow": qcow, "qed": qed, "parallels": parallels, "vdi": vdi, "vhdx": vhdx, "vpc": vpc,
}  # fmt: skip
"""What looks at the options of a format (`ImageError`: there is no such image), and gives what writes one."""

CHECKS: Mapping[str, Callable[[Mapping[str, Any]], object]] = {
    "qcow": qcow, "qed": qed, "parallels": parallels, "vdi": check_vdi, "vhdx": vhdx,
}  # fmt: skip
"""What looks at the options of a format before its file is opened."""
