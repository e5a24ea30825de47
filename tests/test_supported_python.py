"""Nothing uses a construct that some supported Python gets wrong."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent

# Possessive quantifiers and atomic groups, once escapes and sets of characters are out of the way. (Before 3.11.5 a
# possessive quantifier on a group can match what it must not, and an optional group around one is taken for matched.)
_NO_SYNTAX = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_FAULTY = re.compile(r"[*+?}]\+|\(\?>")


def faulty(source: str) -> list[tuple[int, str]]:
    """The strings of a program's text that would be faulty as patterns, by line. Docstrings are none."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if _FAULTY.search(_NO_SYNTAX.sub("x", text)):
                found.append((node.lineno, text))
    return found


def found_by(check: Callable[[str], object]) -> dict[str, object]:
    files = [path for folder in ("qmpd", "scripts", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    return {
        str(path.relative_to(ROOT)): found
        for path in files
        if path != Path(__file__) and (found := check(path.read_text(encoding="utf-8")))
    }


def test_patterns_use_no_construct_that_a_supported_python_gets_wrong() -> None:
    assert found_by(faulty) == {}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ('r"[0-9]*+"', True),
        ('rb"(?:a|b)?+c"', True),
        ('r"a{1,3}+"', True),
        ('f"{PREFIX}a++"', True),
        ('r"(?>a|b)c"', True),
        (r'r"[+*]+\++(?:\?)+"', False),
        (r'r"[^]*+]"', False),
        ('"a" "b*" + "+"', False),
    ],
)
def test_the_check_itself(pattern: str, found: bool) -> None:
    assert bool(faulty(f'"""C++"""\nPATTERN = {pattern}\n')) is found


def raises_in_groups(source: str) -> list[int]:
    """The lines of what is raised where `except*` handles: before 3.11.4 it comes out in a group, later as it is."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.TryStar):
            inner = (each for handler in node.handlers for each in ast.walk(handler))
            found += [each.lineno for each in inner if isinstance(each, ast.Raise)]
    return found


def test_nothing_is_raised_where_except_star_handles() -> None:
    assert raises_in_groups("try:\n    f()\nexcept* OSError:\n    raise ValueError from None\n") == [4]
    assert found_by(raises_in_groups) == {}
