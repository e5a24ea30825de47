"""What was sent beside what was expected, and how that is shown where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qmpd.testing.patterns import Command, CommandPattern

Pairs = dict[int, int]
"""Which expected command (counted from 0) was found in which that was sent."""


def in_order(expected: Sequence[CommandPattern], sent: Sequence[Command]) -> Pairs:
    """Find each expected command after the one found before it; others may come between."""
    pairs: Pairs = {}
    position = 0
    for index, pattern in enumerate(expected):
        found = next((at for at in range(position, len(sent)) if pattern.fits(sent[at])), None)
        if found is not None:
            pairs[index] = found
            position = found + 1
    return pairs


def aligned(expected: Sequence[CommandPattern], sent: Sequence[Command]) -> Pairs:
    """Find as many expected commands as can be found in their order."""
    columns = len(sent)
    best = [[0] * (columns + 1) for _ in range(len(expected) + 1)]
    for row in range(len(expected) - 1, -1, -1):
        for column in range(columns - 1, -1, -1):
            found = 1 + best[row + 1][column + 1] if expected[row].fits(sent[column]) else 0
            best[row][column] = max(found, best[row + 1][column], best[row][column + 1])
    pairs: Pairs = {}
    row = column = 0
    while row < len(expected) and column < columns:
        if expected[row].fits(sent[column]) and best[row][column] == 1 + best[row + 1][column + 1]:
            pairs[row] = column
            row, column = row + 1, column + 1
        elif best[row + 1][column] >= best[row][column + 1]:
            row += 1
        else:
            column += 1
    return pairs


def ignoring(
    sent: Sequence[Command], ignored: Sequence[CommandPattern], expected: Sequence[CommandPattern]
) -> list[Command]:
    """The commands without those to be ignored, unless they are expected."""
    return [
        each
        for each in sent
        if any(pattern.fits(each) for pattern in expected) or not any(pattern.fits(each) for pattern in ignored)
    ]


def report(
    title: str, expected: Sequence[CommandPattern], sent: Sequence[Command], pairs: Pairs, *, exactly: bool
) -> str:
    """What a failure shows: what is expected, each with where it was found, and what was sent, beside it."""
    lines = [title, "", "expected:" if exactly else "expected, in this order, others may come between:"]
    width = max((len(str(pattern)) for pattern in expected), default=0)
    last = -1
    for index, pattern in enumerate(expected):
        if index in pairs:
            last = pairs[index]
            note = "found"
        else:
            note = "NOT SENT" + _where_else(pattern, sent, last, pairs)
        lines.append(f"  {index + 1:>3}. {pattern!s:<{width}}   {note}")
    lines += ["", "sent:" if sent else "sent: nothing"]
    places = {at: index for index, at in pairs.items()}
    missing = [index for index in range(len(expected)) if index not in pairs]
    clients = len({each.client for each in sent}) > 1
    for at, each in enumerate(sent):
        sign = f"{places[at] + 1:>3}." if at in places else "   +" if exactly else "    "
        who = f"client {each.client}  " if clients else ""
        note = "" if at in places else _near(each, missing, expected)
        lines.append(f"  {sign} {each.time:9.6f} s  {who}{each}{note}")
    return "\n".join(lines)


def _where_else(pattern: CommandPattern, sent: Sequence[Command], last: int, pairs: Pairs) -> str:
    earlier = [at for at, each in enumerate(sent) if at <= last and pattern.fits(each) and at not in pairs.values()]
    if earlier:
        return f" here, but earlier, at {sent[earlier[-1]].time:.6f} s"
    return ""


def _near(sent: Command, missing: Sequence[int], expected: Sequence[CommandPattern]) -> str:
    for index in missing:
        reason = expected[index].mismatch(sent)
        if reason:
            return f"   <- not {index + 1}: {reason}"
    return ""


def unexpected(title: str, sent: Sequence[Command], wrong: Callable[[Command], bool]) -> str:
    """What a failure shows where commands were sent that should not have been."""
    lines = [title, "", "sent:"]
    clients = len({each.client for each in sent}) > 1
    for each in sent:
        who = f"client {each.client}  " if clients else ""
        lines.append(f"  {'!!' if wrong(each) else '  '} {each.time:9.6f} s  {who}{each}")
    return "\n".join(lines)
