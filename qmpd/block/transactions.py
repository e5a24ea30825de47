"""Changes that happen together or not at all: QAPI's `transaction`, and each of its actions as a command of its own.

An action is the rule of one command in three parts.  All are prepared in the order in which they are listed, each with
what those before it have prepared; then all are committed.  Where one cannot be prepared, those that were are undone,
and its refusal is the answer.  (QEMU's blockdev.c.)

What an action reads and writes is done by the executor: a part that has such work yields it, piece by piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from qmpd.block.content import text_of
from qmpd.block.images.errors import ImageError
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from qmpd.block.executor import Executor, Outcome

    Steps = Generator[Callable[[], Any], Any, None]
    """Yields pieces of work for the executor, and is sent what each has given; or its OSError or ImageError."""
    End = Callable[[Refusal | None], None]
    """Told once all is done, or why nothing was."""


class Action(Protocol):
    """One change.  Each part is done when it returns, or when the steps that it returns are at their end."""

    def prepare(self) -> Steps | None:
        """See that it can be done, and do all of it that can fail; what fails here leaves nothing behind.

        :raise Refusal: it cannot be done.
        """

    def commit(self) -> Steps | None:
        """Do the rest."""

    def abort(self) -> Steps | None:
        """Undo what was prepared."""


@runtime_checkable
class Cleaned(Protocol):
    """An action that has something left to do once all have been committed or undone, as it was prepared."""

    def clean(self) -> None:
        """Let go of what was needed meanwhile; done for those alone that were prepared."""


class Alone:
    """What an action has in common that is one step: all is done when it is prepared (the base of such)."""

    def commit(self) -> Steps | None:
        """Nothing is left to do."""
        return None

    def abort(self) -> Steps | None:
        """Nothing is to be undone."""
        return None


class Abort(Alone):
    """The action that fails."""

    def prepare(self) -> Steps | None:
        """:raise MachineError: always."""
        raise MachineError("Transaction aborted using Abort action")


def run(actions: Sequence[Action], executor: Executor, then: End, *, backwards: bool = False) -> None:
    """Do all of these, or none; `backwards`: the last that was prepared is committed, or undone, first."""
    _Run(executor, then, backwards=backwards).start(actions)


class _Run:
    """One transaction under way."""

    def __init__(self, executor: Executor, then: End, *, backwards: bool) -> None:
        self._executor = executor
        self._then = then
        self._backwards = backwards
        self._prepared: list[Action] = []
        self._refusal: Refusal | None = None

    def start(self, actions: Sequence[Action]) -> None:
        self._go_on(self._all(actions))

    def _all(self, actions: Sequence[Action]) -> Steps:
        try:
            for action in actions:
                yield from action.prepare() or ()
                self._prepared.append(action)
        except (Refusal, OSError, ImageError) as error:
            self._refusal = refusal_of(error)
        for action in self._ordered():
            part = action.commit if self._refusal is None else action.abort
            try:
                yield from part() or ()
            except (Refusal, OSError, ImageError) as error:
                # It was seen beforehand that it could be done; the others are done all the same.
                self._refusal = self._refusal or refusal_of(error)
        for action in self._ordered():
            if isinstance(action, Cleaned):
                action.clean()

    def _ordered(self) -> Iterator[Action]:
        return reversed(self._prepared) if self._backwards else iter(list(self._prepared))

    def _go_on(self, steps: Steps, outcome: Outcome | None = None) -> None:
        """Take the next piece of work, with what came of the last one."""
        try:
            if outcome is None:
                work = next(steps)
            elif outcome.error is not None:
                work = steps.throw(outcome.error)
            else:
                work = steps.send(outcome.value)
        except StopIteration:
            self._then(self._refusal)
            return
        self._executor.do(work, lambda came: self._go_on(steps, came))


def refusal_of(error: Refusal | OSError | ImageError) -> Refusal:
    """What refuses where something could not be read or written."""
    if isinstance(error, Refusal):
        return error
    return MachineError(error.message if isinstance(error, ImageError) else text_of(error))
