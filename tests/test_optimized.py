"""Asserts are no checks: qmpd's only tell a type, and all tests can be run without them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

import qmpd.testing
from tests.server import support

ROOT = Path(__file__).parent.parent
OPTIMIZED = ("-p", "tests.optimized", "-W", "ignore:assertions not in test modules")


def tells_a_type(node: ast.expr) -> bool:
    """Whether this is `X is not None` or `isinstance(X, T)`."""
    match node:
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
    return False


def checks(source: str) -> list[int]:
    """The lines of the asserts that check something."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assert) and not tells_a_type(node.test)
    ]


def test_asserts_tell_types_alone() -> None:
    assert checks("assert x is not None\nassert isinstance(x, int)\nassert x\nassert x > 3, 'why'\n") == [3, 4]
    files = sorted((ROOT / "qmpd").rglob("*.py"))
    assert len(files) > 100
    assert {str(path): lines for path in files if (lines := checks(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.skipif(not __debug__, reason="this is the optimized run")
def test_the_optimized_run() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIMIZED, "-q", "-n0", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "PYTHONOPTIMIZE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed, 1 skipped" in ended.stdout


@pytest.mark.skipif(__debug__, reason="for the optimized run (scripts/test --optimized)")
def test_what_is_checked_in_the_optimized_run() -> None:
    # The asserts of the tests, and of what they share.
    with pytest.raises(AssertionError):
        assert ROOT.name == ""
    assert support.__loader__ is not None
    assert "assertion.rewrite" in type(support.__loader__).__module__
    # Not those of qmpd, as Python loads it.
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "qmpd"]
    assert qmpd.testing in modules
    assert {type(module.__loader__) for module in modules} == {SourceFileLoader}
    # Nor those of other processes.
    told = subprocess.run([sys.executable, "-c", "print(__debug__)"], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
