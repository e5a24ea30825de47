"""The interface of a machine's control socket: all that there is."""

from __future__ import annotations

from functools import cache

from qmpd.control.interface import Interface
from qmpd.control.own_commands import SESSION_GROUPS
from qmpd.control.puppeteer import EVENTS, GROUPS


@cache
def interface() -> Interface:
    """The interface of every control socket."""
    return Interface({**SESSION_GROUPS, **GROUPS}, EVENTS)
