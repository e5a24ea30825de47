"""CPUs that are alone in their package say so; what is expected is what real QEMU 7.2 and 10.0 say."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.block.support import Monitor

if TYPE_CHECKING:
    from qmpd.testing import VMFactory


@pytest.mark.parametrize(
    ("release", "arranged", "shared"),
    [
        ("7.2", "2", False),
        ("10.0", "1", False),
        ("10.0", "2", True),
        ("10.0", "2,sockets=2", False),
        ("10.0", "4,threads=4", True),
        ("10.0", "1,maxcpus=4", True),
        ("10.0", "1,maxcpus=2,sockets=2", False),
    ],
)
def test_features_of_a_package(qmpd: VMFactory, release: str, arranged: str, shared: bool) -> None:
    vm = qmpd(release=release, command_line=["-machine", "pc", "-smp", arranged], guest="")
    with closing(Monitor(vm.qmp_path)) as monitor:
        for cpu in monitor("query-cpus-fast")["return"]:
            for name in ("ht", "cmp-legacy"):
                assert monitor("qom-get", path=cpu["qom-path"], property_=name)["return"] is shared, (cpu, name)
