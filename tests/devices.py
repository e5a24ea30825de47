"""What of a computer's devices some tests need: without it they are skipped, and say why."""

from __future__ import annotations

import os

import pytest


def _without_pseudo_terminals() -> str:
    """Why there are none, or nothing where there are."""
    try:
        numbers = os.openpty()
    except OSError as error:
        return f"there are no pseudo-terminals: {error.strerror}"
    try:
        os.ttyname(numbers[1])
    except OSError as error:
        return f"pseudo-terminals have no names (is /dev/pts there?): {error.strerror}"
    finally:
        for number in numbers:
            os.close(number)
    return ""


WITHOUT_PSEUDO_TERMINALS = _without_pseudo_terminals()
"""Why there are none; empty where there are."""

needs_pseudo_terminals = pytest.mark.skipif(bool(WITHOUT_PSEUDO_TERMINALS), reason=WITHOUT_PSEUDO_TERMINALS)
