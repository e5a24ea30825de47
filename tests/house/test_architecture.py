"""What the house promises of its walls: see docs/architecture.md."""

from __future__ import annotations

import ast

import pytest

from tests.house.architecture import PAGE, drawn
from tests.house.imports import circles, imported, imports, modules, room

OUTSIDE = frozenset(
    {"os", "io", "pathlib", "socket", "fcntl", "select", "shutil", "tempfile", "subprocess", "stat", "glob"}
)
"""Modules of Python that reach out of the process."""

WITHOUT = frozenset({
    "common", "schedule", "machine", "qom", "guest", "hardware", "block", "system", "monitor", "human", "qtest", "wire",
    "chardev", "option_language",
})  # fmt: skip
"""The rooms that ask the server for what is outside (`qmpd.system.ports`)."""

REACHING = {
    # What cannot be refused without a look at the file.
    "qmpd.block.images.errors", "qmpd.block.images.qcow2.reading", "qmpd.block.files",
    "qmpd.hardware.firmware",
    # Numbers of open files that clients hand over, and of the process.
    "qmpd.monitor.commands.descriptors", "qmpd.system.descriptors",
    "qmpd.system.system", "qmpd.hardware.inventory",
    # Standard output that may be closed.
    "qmpd.common.output",
}  # fmt: skip
"""The modules of these rooms that reach outside by themselves all the same; no other may begin to."""

LONGEST = 500
"""Lines that a file may have."""


def test_the_drawing_is_true() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == drawn(page), "python -m tests.house.architecture draws it anew"


def test_nothing_imports_in_a_circle() -> None:
    assert [" ".join(circle) for circle in circles()] == []


@pytest.mark.parametrize(
    "code",
    [
        "import qmpd.wire.errors",
        "from qmpd.wire import errors",
        "from qmpd.wire.errors import ParseError",
        "from .errors import ParseError",
        "from . import errors",
        "from ..wire import errors",
        "if TYPE_CHECKING:\n    from qmpd.wire.errors import ParseError",
        "def f():\n    from qmpd.wire.errors import ParseError",
        "importlib.import_module('qmpd.wire.errors')",
        "PLACES = {'ParseError': 'qmpd.wire.errors'}",
    ],
)
def test_an_import_is_found(code: str) -> None:
    assert "qmpd.wire.errors" in imported("qmpd.wire.other", ast.parse(code))


def test_no_file_is_long() -> None:
    long = {name for name, path in modules().items() if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST}
    assert long == set()


def test_only_the_server_reaches_outside() -> None:
    found = set()
    for module, names in imports().items():
        if room(module) in WITHOUT and {name.partition(".")[0] for name in names} & OUTSIDE:
            found.add(module)
    assert found == REACHING


def test_no_file_is_opened_where_none_may_be() -> None:
    for module, path in modules().items():
        if room(module) in WITHOUT - {"block", "qtest"}:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                opens = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
                assert not opens, f"{module} opens a file in line {getattr(node, 'lineno', 0)}"


def test_digits_are_those_of_c() -> None:
    """Python's own questions take digits of other scripts, which it cannot always turn into numbers."""
    asking = {"isdigit", "isdecimal", "isnumeric"}
    found = {
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in asking
    }
    # Here of bytes.
    assert found - {"qmpd.capture.answers"} == {"qmpd.common.integers"}
