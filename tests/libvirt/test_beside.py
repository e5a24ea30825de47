"""A few rows with libvirt, qmpd and real QEMU; `python -m tests.libvirt.beside` plays them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.libvirt.beside import RELEASE, Side, differences, lacking
from tests.libvirt.rows import QUICK
from tests.libvirt.support import Libvirt
from tests.real_qemu import PROGRAM

REASON = lacking()


@pytest.mark.skipif(REASON is not None, reason=f"libvirt beside QEMU: {REASON}")
def test_disks_are_as_with_qemu(tmp_path: Path) -> None:
    with Libvirt(tmp_path / "qmpd", RELEASE) as ours, Libvirt(tmp_path / "real", RELEASE, programs=[PROGRAM]) as real:
        assert list(differences(QUICK, [Side(ours), Side(real)])) == []
