"""What a test run inside of another one leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_INNER = """
import pytest
from tests.testing.inner import modules_stay, run_inside

pytest_plugins = ["pytester"]

def test_run(modules_stay, pytester):
    pytester.makepyfile("import qmpd.common.suggestions\\n\\ndef test_it(): pass")
    run_inside(pytester, "-p", "no:cacheprovider").assert_outcomes(passed=1)

def test_afterwards():
    import sys
    from qmpd import common

    assert sys.modules["qmpd.common.suggestions"] is common.suggestions
"""


def test_what_a_run_has_loaded_stays_loaded(tmp_path: Path) -> None:
    path = tmp_path / "test_of_two.py"
    path.write_text(_INNER, encoding="utf-8")
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
