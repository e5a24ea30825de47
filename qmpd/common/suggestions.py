"""What somebody may have meant who has typed a name that there is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FEW = 12
"""As many names are listed where none is like the one that was typed."""


def suggestion(name: str, known: Iterable[str], *, few: int = FEW) -> str:
    """What follows a complaint about a name: the one that was meant, what there is, or nothing.

    `; did you mean 'stop'?`, or `; there are 'on' and 'off'` where nothing is alike and there are no more than
    `few`.
    """
    # Of use only where something is wrong, which is rare.
    import difflib

    names = sorted(set(known))
    folded = {each.lower().replace("_", "-"): each for each in names}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{folded[close[0]]}'?"
    if names and len(names) <= few:
        return "; there " + ("is " if len(names) == 1 else "are ") + listed(names)
    return ""


def listed(names: Iterable[str]) -> str:
    """The names in a sentence: `'a', 'b' and 'c'`."""
    quoted = [f"'{name}'" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
