"""Ids of requests: all that JSON allows, each as it is sent and as the reply tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

NUMBERS = (0, -1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1)
"""Integers that a float, or a word of 32 or 64 bits, may not hold."""

SPELLED = (
    ("null", "null"),
    ("true", "true"),
    ("false", "false"),
    ("1.5", "1.5"),
    ("-0.25", "-0.25"),
    ('""', '""'),
    ("[]", "[]"),
    ("{}", "{}"),
    ('"\\u00e9"', '"\\u00E9"'),
    ('"\u00e9\U0001f600"', '"\\u00E9\\uD83D\\uDE00"'),
    ('"a\\/b\\"\\\\\\b\\f\\n\\r\\t"', '"a/b\\"\\\\\\b\\f\\n\\r\\t"'),
    ('"\\u0001\x7f\'"', '"\\u0001\\u007F\'"'),
    ("'single \\' quotes'", '"single \' quotes"'),
    ('{"deep":[[{"n":9007199254740993}],null]}', '{"deep": [[{"n": 9007199254740993}], null]}'),
    ("[1,[2,[3]],18446744073709551615]", "[1, [2, [3]], 18446744073709551615]"),
)
"""As sent, and as told."""


def numbered(number: int) -> tuple[str, str]:
    """An id that no other request has."""
    return f'"n{number}"', f'"n{number}"'


def any_id(random: Random, number: int) -> tuple[str, str]:
    """An id of any kind; many of them tell which request it was."""
    chance = random.random()
    if chance < 0.4:
        return numbered(number)
    if chance < 0.6:
        # Beyond what a float holds, and no two alike.
        return (str(2**53 + 2 * number + 1),) * 2
    if chance < 0.7:
        return f'{{"n":[{number},"\u00e9"]}}', f'{{"n": [{number}, "\\u00E9"]}}'
    if chance < 0.85:
        return (str(random.choice(NUMBERS)),) * 2
    return random.choice(SPELLED)
