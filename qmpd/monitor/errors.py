"""What a command ends with instead of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Worded

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.session import Session


class CommandError(Worded):
    """A command's refusal, in its own words: `message` and `error_class` are the reply's `desc` and `class`.

    The classes are QAPI's `QapiErrorClass` (docs/interop/qmp-spec): GenericError, CommandNotFound,
    DeviceNotActive, DeviceNotFound, KVMMissingCap.
    """

    def __init__(self, message: str, error_class: str = "GenericError") -> None:
        super().__init__(message)
        self.error_class = error_class

    @property
    def description(self) -> str:
        """The message, by another name."""
        return self.message


class HandOver(Exception):  # noqa: N818 - not an error: the main loop is left for it
    """`live-update-commit` was asked for: it leaves the execution of requests on its way to the main loop.

    `session` and `message` say who is owed the reply, `timeout` is how many seconds the child is given.
    """

    def __init__(self, session: Session, timeout: float) -> None:
        super().__init__()
        self.session = session
        self.timeout = timeout
        self.message: object = None


class Waiting(Exception):  # noqa: N818 - not an error: the main loop waits
    """A command cannot go on before a file can be read: it leaves `run_requests` on its way to the main loop.

    `descriptor` is the open file, `finish` gives the command's value once it can be read; `session` and `message` say
    who is owed the reply.
    """

    def __init__(self, session: Session, descriptor: int, finish: Callable[[], object]) -> None:
        super().__init__()
        self.session = session
        self.descriptor = descriptor
        self.finish = finish
        self.started = False
        self.message: object = None
