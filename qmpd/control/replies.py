"""The commands about replies and events that are made up."""

from __future__ import annotations

from typing import Any

from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.overrides import ERROR_CLASSES, ReplyOverride, event_data
from qmpd.control.values import MISSING


class ReplyControl(Group):
    """Overrides of replies, and events out of nowhere."""

    __slots__ = ()

    @command("override-reply")
    def override(
        self,
        command: str,
        return_: Any = MISSING,
        error: str | None = None,
        error_class: str | None = None,
        arguments: Any = MISSING,
        count: int | None = None,
        check: bool = True,
        execute: bool = False,
    ) -> ReplyOverride:
        """Answer the next `count` requests for `command` with this value or this error, instead of executing them.

        Without `count` it holds until it is cleared; of several overrides the first that matches is used.

        :param return_: the value of the reply's `return`; either this or `error`, the error's text.
        :param arguments: members that the request's arguments have to have.
        :param check: whether the release has to have the command, and the value to fit its declaration.
        :param execute: carry the command out all the same, and drop its own reply.
        :raise ControlError: the value does not fit, or the arguments say nothing sensible.
        """
        if (return_ is MISSING) == (error is None):
            raise ControlError("either 'return' or 'error' is what the reply is to be")
        if error_class is not None and error is None:
            raise ControlError("'error-class' belongs to 'error'")
        if error_class is not None and error_class not in ERROR_CLASSES:
            raise ControlError(f"'error-class' is one of {', '.join(ERROR_CLASSES)}")
        if arguments is not MISSING and not isinstance(arguments, dict):
            raise ControlError("'arguments' is an object")
        if count is not None and count < 1:
            raise ControlError("'count' is a positive number")
        if check:
            self._check(command, return_)
        made = ReplyOverride(
            id=self._stage.overrides.next(),
            command=command,
            arguments=arguments,
            return_=return_,
            error=error,
            error_class=(error_class or ERROR_CLASSES[0]) if error is not None else None,
            count=count,
            execute=execute,
        )
        self._stage.overrides.add(made)
        return made

    @command("query-overrides")
    def query(self) -> list[ReplyOverride]:
        """List the overrides that hold."""
        return list(self._stage.overrides)

    @command("override-clear")
    def clear(self, id_: int | None = None) -> None:
        """Forget one override, or all.

        :raise ControlError: there is none of that id.
        """
        overrides = self._stage.overrides
        if id_ is not None and all(each.id != id_ for each in overrides):
            raise ControlError(f"there is no override {id_}")
        for each in list(overrides):
            if id_ in (None, each.id):
                overrides.remove(each)

    @command("emit-event")
    def emit(self, event: str, data: Any = MISSING, check: bool = True) -> None:
        """Emit an event, as the machine does: rate limits hold it back like its own.

        :param check: whether the release has to have the event, and the data to fit its declaration.
        :raise ControlError: it does not fit.
        """
        self._stage.machine.emit(event, event_data(self._stage.release, event, data, check))

    def _check(self, command: str, value: Any) -> None:
        release = self._stage.release
        if command not in release.commands:
            raise ControlError(f"release {release.name} has no command {command}")
        if value is not MISSING:
            from qmpd.qapi.validation import NotValid, validate_reply

            try:
                validate_reply(release, command, value)
            except NotValid as error:
                raise ControlError(str(error)) from None
