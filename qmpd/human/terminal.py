"""The human monitor on a terminal of its own: what is typed, what is echoed, and the prompt.

A key is handled when it comes, as QEMU's readline does: the line is drawn anew after each, and a finished line is
executed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.human.editor import LineEditor
from qmpd.human.monitor import completions, execute_line
from qmpd.monitor.defects import UNEXPECTED, reported, said
from qmpd.monitor.session import Session

if TYPE_CHECKING:
    from qmpd.monitor.session import SessionDispatcher
    from qmpd.system.system import System

PROMPT = "(qemu) "


class Terminal(Session):
    """A session with a person in it."""

    __slots__ = ("_editor", "_system")
    # A line can print much, or take long.
    slices = (1 << 5, 1 << 8)

    def __init__(self, system: System, dispatcher: SessionDispatcher, label: str) -> None:
        super().__init__(dispatcher, label=label)
        self._system = system
        self._editor = LineEditor(PROMPT, self._complete)
        version = ".".join(map(str, system.release.version))
        self._print(f"QEMU {version} monitor - type 'help' for more information\n")
        self._print(self._editor.start())

    def receive(self, data: bytes) -> None:
        """Take keys; the lines that they finish are executed."""
        for key in data:
            line = self._editor.key(key)
            self._print(self._editor.take_output())
            if line is not None and self._system.exit_status is None:
                self._execute(line)

    def receive_plain(self, data: bytes) -> bool:
        """Nothing here is JSON."""
        return False

    def fail(self, text: str) -> None:
        """Say what went wrong with what was typed."""
        self._print(f"\nError: {text}\n")

    def _execute(self, line: str) -> None:
        system = self._system
        try:
            self._print(execute_line(system, line, own_words=True))
        except UNEXPECTED as error:
            self._system.report_defect(reported(error))
            self._print(f"Error: {said(error)}\n")
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
