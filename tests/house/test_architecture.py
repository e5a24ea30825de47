"""What the house promises of its walls: see docs/architecture.md."""

from __future__ import annotations

from tests.house.architecture import PAGE, drawn
from tests.house.imports import circles, imports, modules, room

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
    "qmpd.block.images.errors", "qmpd.block.images.qcow2.reading", "qmpd.block.filenames", "qmpd.block.files",
    "qmpd.hardware.firmware",
    # Numbers of open files that clients hand over, and of the process.
    "qmpd.monitor.commands.descriptors", "qmpd.system.descriptors",
    "qmpd.system.system", "qmpd.hardware.inventory",
    # Standard output that may be closed.
    "qmpd.common.output",
}  # fmt: skip
"""The modules of these rooms that reach outside by themselves all the same; no other may begin to."""

KNOTS = {
    "qmpd.emulator",
}  # fmt: skip
"""The packages in which modules import each other in a circle; no other may begin to."""

LONGEST = 500
"""Lines that a file may have."""

LONG = {
    "qmpd.emulator.phases.start",
    "qmpd.emulator.reading.singles",
}  # fmt: skip
"""The modules that are longer all the same; no other may become so."""


def test_the_drawing_is_true() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == drawn(page), "python -m tests.house.architecture draws it anew"


def test_nothing_imports_in_a_circle() -> None:
    knots = set()
    for circle in circles():
        package = next((each for each in KNOTS if all(name.startswith(f"{each}.") for name in circle)), None)
        assert package is not None, f"a circle of imports: {' '.join(circle)}"
        knots.add(package)
    assert knots <= KNOTS


def test_no_file_is_long() -> None:
    long = {name for name, path in modules().items() if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST}
    assert long <= LONG


def test_only_the_server_reaches_outside() -> None:
    found = set()
    for module, imported in imports().items():
        if room(module) in WITHOUT and {name.partition(".")[0] for name in imported} & OUTSIDE:
            found.add(module)
    assert found == REACHING


def test_no_file_is_opened_where_none_may_be() -> None:
    import ast

    for module, path in modules().items():
        if room(module) in WITHOUT - {"block", "qtest"}:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                opens = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
                assert not opens, f"{module} opens a file in line {getattr(node, 'lineno', 0)}"
