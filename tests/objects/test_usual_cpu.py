"""The CPU of a board where none is asked for, as measured on 11.1, whose query-cpus-fast tells its type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.objects.test_presets import ask, made

if TYPE_CHECKING:
    from qmpd.testing import VMFactory


@pytest.mark.parametrize(
    ("line", "model"),
    [("-machine isapc", "486"), ("-machine pc", "qemu64"), ("-machine isapc -cpu pentium", "pentium")],
)
def test_a_board_has_its_usual_cpu(qmpd: VMFactory, line: str, model: str) -> None:
    vm = made(qmpd, "11.1", f"{line} -S")
    (cpu,) = ask(vm, "query-cpus-fast")
    assert cpu["qom-type"] == f"{model}-x86_64-cpu"
    assert ask(vm, "qom-get", path=cpu["qom-path"], property="type") == cpu["qom-type"]
