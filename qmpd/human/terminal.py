"""The human monitor on a terminal of its own: what is typed, what is echoed, and the prompt.

A key is handled when it comes, as QEMU's readline does: the line is drawn anew after each, and a finished line is
executed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.human.editor import LineEditor
from qmpd.human.monitor import completions, execute_line
from qmpd.monitor.defects import UNEXPECTED, reported, said
from qmpd.monitor.session import Session
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.session import SessionDispatcher
    from qmpd.qapi.release import Release
    from qmpd.system.system import System

PROMPT = "(qemu) "


def banner(release: Release) -> str:
    """What is said first of all."""
    version = ".".join(map(str, release.version))
    return f"QEMU {version} monitor - type 'help' for more information\n"


class Terminal(Session):
    """A session with a person in it."""

    __slots__ = ("_editor", "_system", "_typed")
    # A line can print much, or take long.
    slices = (1 << 5, 1 << 8)

    def __init__(self, system: System, dispatcher: SessionDispatcher, label: str) -> None:
        super().__init__(dispatcher, label=label, pretty=False)
        self._system = system
        # What was typed while a line is still at work; None where none is.
        self._typed: bytes | None = None
        self._editor = LineEditor(PROMPT, self._complete)
        self._print(banner(system.release))
        self._print(self._editor.start())

    def receive(self, data: bytes) -> None:
        """Take keys; the lines that they finish are executed."""
        if self._typed is not None:
            self._typed += data
            return
        for place, key in enumerate(data, 1):
            line = self._editor.key(key)
            self._print(self._editor.take_output())
            if line is not None and self._system.exit_status is None:
                self._execute(line)
                if self._is_waiting:
                    self.receive(data[place:])
                    return

    @property
    def _is_waiting(self) -> bool:
        """Whether a line is still at work."""
        return self._typed is not None

    @property
    def drained(self) -> bool:
        """Whether nothing that was typed is still to be executed."""
        return not self._is_waiting and super().drained

    def receive_plain(self, data: bytes) -> bool:
        """Nothing here is JSON."""
        return False

    def begin_anew(self) -> None:
        """Somebody looks at it again, who has typed elsewhere meanwhile: there is a new line."""
        if not self._is_waiting:
            self._print(self._editor.start())

    def fail(self, text: str) -> None:
        """Say what went wrong with what was typed."""
        self._print(f"\nError: {text}\n")

    def _execute(self, line: str) -> None:
        system = self._system
        try:
            choices = system.monitor_choices.setdefault(self.label, {})
            result = execute_line(system, line, own_words=True, choices=choices)
            if isinstance(result, Deferred):
                # What is typed meanwhile comes after it.
                self._typed = b""
                result.bind(system.activities, self, line, self._finish, lambda: self.ended)
                return
            self._print(result)
        except UNEXPECTED as error:
            self._fail_at(error)
        self._go_on()

    def _fail_at(self, error: BaseException) -> None:
        self._system.report_defect(reported(error))
        self._print(f"Error: {said(error)}\n")

    def _finish(self, compute: Callable[[], object]) -> None:
        """What a line has waited for has come."""
        try:
            self._print(str(compute()))
        except Refusal as error:
            self._print(f"Error: {self._system.release.refusals.message(error)}\n")
        except UNEXPECTED as error:
            self._fail_at(error)
        typed, self._typed = self._typed, None
        self._go_on()
        if typed:
            self.receive(typed)

    def _go_on(self) -> None:
        system = self._system
        if system.machine.pending:
            system.turn()
        if system.exit_status is None:
            self._print(self._editor.start())

    def _complete(self, text: str) -> list[str]:
        try:
            return completions(self._system, text)
        except UNEXPECTED as error:
            self._system.report_defect(reported(error))
            return []

    def _print(self, text: str) -> None:
        if text:
            self.send(text.replace("\n", "\r\n").encode("latin-1", "replace"))


def open_terminal(system: System, dispatcher: SessionDispatcher, label: str) -> Session:
    """A new person at a terminal, who is greeted at once.  Events are not told there."""
    session = Terminal(system, dispatcher, label)
    dispatcher.add(session)
    return session
