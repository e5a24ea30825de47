"""The examples of README.md are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.test_plugin import plugins

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"<!-- story:(\S+) -->\s*```python\n(.*?)```", re.DOTALL)
NAMES = {
    "monitor.py",
    "test_power_button.py",
    "test_second_reset.py",
    "test_reset_while_starting.py",
    "test_end_before_reply.py",
    "test_event_before_greeting.py",
    "test_one_client_monitor.py",
}


def test_the_examples(pytester: pytest.Pytester) -> None:
    blocks = dict(BLOCK.findall(README.read_text(encoding="utf-8")))
    assert set(blocks) == NAMES
    for name, code in blocks.items():
        Path(pytester.path, name).write_text(code, encoding="utf-8")
    options = ["-p", "no:trio", "-p", "no:cacheprovider", "-W", "error", "--strict-markers"]
    outcome = pytester.runpytest_inprocess(*plugins(), *options)
    outcome.assert_outcomes(passed=16)


def test_the_five_lines_are_five() -> None:
    blocks = dict(BLOCK.findall(README.read_text(encoding="utf-8")))
    example = blocks["test_power_button.py"].split("\n\n")[1]
    assert len(example.splitlines()) == 5
