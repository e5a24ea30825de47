"""Differences are data: code compares no releases and no boards, and reads no text back to decide something."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from qmpd.qapi import load_release, release_names
from qmpd.qapi.behaviour import Behaviour
from tests.house import decisions
from tests.house.imports import modules, room

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[ast.AST], list[int]]

OF_FORMAT = frozenset({
    "qmpd.block.description", "qmpd.block.drivers.foreign",
    *(name for name in modules() if name.startswith("qmpd.block.images.")),
})  # fmt: skip
"""They know the version of a disk format."""

SPELLING = frozenset({
    "qmpd.control.dispatcher", "qmpd.control.fleet", "qmpd.control.own_commands", "qmpd.human.monitor",
    "qmpd.human.terminal", "qmpd.monitor.results", "qmpd.server.fleet",
})  # fmt: skip
"""They tell clients the number of the release."""

BOARDS = "qmpd.machine.boards"
"""The table of boards."""

NAMING = frozenset({
    BOARDS,
    # The usual one.
    "qmpd.machine.blueprint", "qmpd.testing.asynchronous", "qmpd.testing.factory", "qmpd.testing.starting",
    "qmpd.testing.unittest",
    # The program counter of a CPU.
    "qmpd.monitor.commands.machine",
    # What is asked of a program, and kept by that name; and what a release calls it in full.
    "qmpd.qapi.command_line", "qmpd.qapi.behaviour",
})  # fmt: skip
"""The modules in which the name of a board may stand."""


def found(check: Check, allowed: frozenset[str]) -> dict[str, list[int]]:
    """Where the check finds something, by modules; what captures is there to read texts and numbers."""
    seen = {}
    for name, path in modules().items():
        if name not in allowed and room(name) != "capture":
            lines = check(ast.parse(path.read_text(encoding="utf-8")))
            if lines:
                seen[name] = lines
    return seen


@pytest.mark.parametrize(
    ("check", "allowed"),
    [
        (decisions.reads_number, OF_FORMAT | SPELLING),
        (decisions.decides_by_number, OF_FORMAT),
        (decisions.names_board, NAMING),
        (decisions.decides_by_board, frozenset({BOARDS})),
        (decisions.decides_by_words, frozenset()),
    ],
)
def test_differences_are_data(check: Check, allowed: frozenset[str]) -> None:
    assert found(check, allowed) == {}


@pytest.mark.parametrize(
    "code",
    [
        "release.version >= (8, 0)",
        "if self._release.version < (9, 0): pass",
        "options.since(8, 0)",
        "options.since(8)",
        "at_least(release, 8, 0) or is_newer_than('8.0')",
        "newer_than((8, 0))",
        "(8, 1) <= number",
        "release.name == '7.2'",
        "release.name in NAMES",
        "release.name.startswith('7.')",
        "int(release.name.split('.')[0]) > 7",
        "major, minor, _ = release.version\nif major > 7: pass",
        "TEXTS = {'5.2': 'old', '7.2': 'new'}",
        "TEXTS[release.name]",
        "match release.name:\n    case '5.2': pass",
        "match x:\n    case '5.2': pass",
        "x == '10.0'",
        "TEXTS.get(release.name)",
        "release_names().index(release.name)",
    ],
)
def test_numbers_are_found(code: str) -> None:
    assert decisions.decides_by_number(ast.parse(code))


@pytest.mark.parametrize(
    "code", ["number = release.version", "v = self.options.release.version", "v = getattr(release, 'version')"]
)
def test_reading_a_number_is_found(code: str) -> None:
    assert decisions.reads_number(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "settings.machine_type == 'none'",
        "machine_type != NONE",
        "self._family in ('none', OTHER)",
        "family_of(name) == other",
        "machine_name.startswith('pc-')",
        "'q35' in settings.machine_name",
        "match settings.machine_type:\n    case 'none': pass",
        "LIMITS[machine_type]",
        "settings.board.family == 'none'",
        "re.match('pc-.*', machine_name)",
        "settings.board is PC",
        "board_of(name) == MICROVM",
    ],
)
def test_boards_are_found(code: str) -> None:
    assert decisions.decides_by_board(ast.parse(code))


@pytest.mark.parametrize("code", ["x == 'q35'", "x in {'isapc', 'microvm'}", "NAMES = ('pc', 'x')", "'q35' in name"])
def test_names_of_boards_are_found(code: str) -> None:
    assert decisions.names_board(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept OptionError as error:\n    if 'not found' in error.message: pass",
        "try: f()\nexcept OptionError as e:\n    if str(e).startswith('x'): pass",
        "try: f()\nexcept OptionError as e:\n    text = str(e)\n    if text == 'x': pass",
        "try: f()\nexcept OptionError as e:\n    if 'x' in e.args[0]: pass",
        "try: f()\nexcept OptionError as e:\n    if f'{e}' == 'x': pass",
        "try: f()\nexcept OptionError as problem:\n    if PATTERN.search(problem.message): pass",
        "def f(error):\n    return error.description.endswith('x')",
        "if captured['refusal'].startswith('x'): pass",
        "if 'x' in captured.get('hot', ''): pass",
        "if words.message(refusal) == 'x': pass",
        "message, *rest = words.message(refusal).split('\\n')\nif message == 'x': pass",
        "if texts('code').endswith('x'): pass",
        "kinds = self.lists.text('-netdev', 'help').split()",
        "if 'spice' in options.lists.text('-display', 'help'): pass",
        "match error.message:\n    case 'x': pass",
    ],
)
def test_reading_back_is_found(code: str) -> None:
    assert decisions.decides_by_words(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "try: f()\nexcept OptionError as error:\n    raise Other(error.message) from None",
        "try: f()\nexcept OptionError as error:\n    if error.code == 'x': pass",
        "for line in words.message(error).split('\\n'): print(line)",
        "if error is None: pass",
    ],
)
def test_telling_is_no_deciding(code: str) -> None:
    assert not decisions.decides_by_words(ast.parse(code))


def test_no_behaviour_is_a_release() -> None:
    for name, kind in Behaviour.__annotations__.items():
        assert kind in ("bool", "int", "str"), f"{name} is a value of its own"
        assert not {"since", "until", "version"} & set(name.split("_")), f"{name} tells of a release"
    for release in release_names():
        for name in Behaviour.__annotations__:
            value = getattr(load_release(release).behaviour, name)
            assert not (isinstance(value, str) and decisions.is_number(value)), f"{name} is a release"
