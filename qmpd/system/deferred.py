"""Replies that come later: what a command gives that takes time, in place of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Compute = Callable[[], object]


class Deferred:
    """A reply that comes later.  The client that asked waits for it; the main loop, and all others, go on.

    The command that gives it has done nothing yet that a process which takes the machine over would have to know: there
    the command is executed again.
    """

    __slots__ = ("_deliver", "message", "session")

    def __init__(self) -> None:
        self._deliver: Callable[[Compute], None] | None = None
        # Who is owed the reply, and the request, once `bind` was called.
        self.session: object = None
        self.message: object = None

    def bind(self, session: object, message: object, deliver: Callable[[Compute], None]) -> None:
        """Whoever executes commands takes it; `deliver` sends the reply to the request `message`."""
        self.session, self.message = session, message
        self._deliver = deliver

    def finish(self, compute: Compute) -> None:
        """Reply with what `compute` gives, or with its refusal; to be called in the machine's main loop, and once."""
        deliver, self._deliver = self._deliver, None
        if deliver is not None:
            deliver(compute)
