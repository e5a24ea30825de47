"""One command of one release, as the dispatcher has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.client import Client
    from qmpd.system.system import System

    Arguments = dict[str, object]
    Handler = Callable[[System, Client, Arguments], object]
    Check = Callable[[Arguments], None]


class Entry:
    """One command of one release: what executes it and what may be asked of it."""

    __slots__ = ("allow_oob", "allow_preconfig", "check", "handler", "name")

    def __init__(self, name: str, handler: Handler, check: Check, *, allow_oob: bool, allow_preconfig: bool) -> None:
        self.name = name
        self.handler = handler
        self.check = check
        self.allow_oob = allow_oob
        self.allow_preconfig = allow_preconfig
