"""Every refusal has words, every release has them for the same values, and no words are left that nobody uses."""

from __future__ import annotations

import ast
import json
import string
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.qapi import load_release
from qmpd.qapi.refusals import FILE
from tests.golden import RELEASES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "schemas"
RAISES = frozenset({"ArgumentError", "Refusal"})
"""What takes a refusal's code and its values."""
Table = dict[str, Any]


@cache
def words(folder: Path) -> Table:
    path = folder / FILE
    found: Table = json.loads(path.read_bytes()) if path.is_file() else {}
    return found


def values_of(told: Any) -> set[str]:
    """The values that words tell of."""
    texts = [told] if isinstance(told, str) else [told["text"], *told.get("hint", ())]
    return {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@cache
def raised() -> dict[str, list[tuple[str, set[str] | None]]]:
    """Where each code stands in the sources, with the values that it is given there; None where these are dynamic."""
    found: dict[str, list[tuple[str, set[str] | None]]] = {}
    for path in sorted((ROOT / "qmpd").rglob("*.py")):
        for call in _calls(ast.parse(path.read_text())):
            code = call.args[0]
            assert isinstance(code, ast.Constant)
            names = {keyword.arg for keyword in call.keywords}
            given = None if None in names else {name for name in names if name is not None}
            found.setdefault(str(code.value), []).append((f"{path.relative_to(ROOT)}:{call.lineno}", given))
    return found


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in RAISES and isinstance(node.args[0].value, str):
                yield node


def test_every_code_has_words() -> None:
    known = words(SCHEMAS)
    missing = [f"{places[0][0]}: {code}" for code, places in raised().items() if code not in known]
    assert not missing, "schemas/refusals.json has no words for\n" + "\n".join(missing)


def test_words_tell_of_what_they_are_given() -> None:
    for code, places in raised().items():
        told = values_of(words(SCHEMAS).get(code, ""))
        for place, given in places:
            assert given is None or told <= given, f"{place}: {code} is not given {told - given}"


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_says_the_same_otherwise(release: str) -> None:
    common, own = words(SCHEMAS), words(SCHEMAS / f"qemu-{release}")
    assert own.keys() <= common.keys()
    for code, told in own.items():
        assert told != common[code], f"{code} has no words of its own"
        for place, given in raised().get(code, ()):
            assert given is None or values_of(told) <= given, f"{release}: {code}, raised in {place}"


def test_no_words_are_left_over() -> None:
    # A code may be handed on before it is raised.
    named = {
        node.value
        for path in (ROOT / "qmpd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert words(SCHEMAS).keys() - named == set()


def test_the_files_are_sorted() -> None:
    for path in SCHEMAS.glob(f"**/{FILE}"):
        table = json.loads(path.read_bytes())
        assert list(table) == sorted(table), path
        assert path.read_text() == json.dumps(table, indent=2, ensure_ascii=False) + "\n", f"{path} is spelled oddly"


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_loads(release: str) -> None:
    load_release(release).refusals  # noqa: B018 - it is read here
