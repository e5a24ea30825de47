"""What sequences of commands are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import random

Step = tuple[str, dict[str, Any]]


class Scenario(NamedTuple):
    """A program's options and the commands that it is sent."""

    options: list[str]
    steps: Sequence[Step]


def some(draw: random.Random, **choices: Sequence[Any]) -> dict[str, Any]:
    """Members of which each is there or not: None stands for one that is not."""
    found = {name.replace("_", "-"): draw.choice(list(values)) for name, values in choices.items()}
    return {name: value for name, value in found.items() if value is not None}
