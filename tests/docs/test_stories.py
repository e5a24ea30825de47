"""The examples of README.md and of the documentation are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.pages import PAGES, README
from tests.testing.inner import run_inside
from tests.testing.test_plugin import plugins

if TYPE_CHECKING:
    import pytest

BLOCK = re.compile(r"<!-- story:(\S+) -->\s*```python\n(.*?)```", re.DOTALL)
PASSED = {
    "test_first.py": 1,
    "test_power_button.py": 2,
    "test_second_reset.py": 2,
    "test_reset_while_starting.py": 3,
    "test_end_before_reply.py": 4,
    "test_event_before_greeting.py": 2,
    "test_one_client_monitor.py": 3,
}
"""How many tests each example has."""


def stories() -> dict[str, str]:
    """The examples, by the name of the file that each is to be written to."""
    return dict(block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8")))


def test_the_examples(modules_stay: None, pytester: pytest.Pytester) -> None:
    blocks = stories()
    assert blocks.keys() - PASSED.keys() == {"monitor.py"}
    for name, code in blocks.items():
        Path(pytester.path, name).write_text(code, encoding="utf-8")
    options = ["-p", "no:trio", "-p", "no:cacheprovider", "-W", "error", "--strict-markers"]
    outcome = run_inside(pytester, *options, *plugins())
    outcome.assert_outcomes(passed=sum(PASSED.values()))


def test_the_first_test_is_in_the_readme() -> None:
    assert "test_first.py" in dict(BLOCK.findall(README.read_text(encoding="utf-8")))


def test_the_five_lines_are_five() -> None:
    example = stories()["test_power_button.py"].split("\n\n")[1]
    assert len(example.splitlines()) == 5
