"""The guest agent's dialect: QMP's messages without a greeting, negotiation or events, each line ended by a line feed.

A byte 0xFF is garbage as any other, after which the parser is fresh: that is how a client that does not know what was
said before makes sure to be understood.  `guest-sync-delimited` has one before its reply, for the same end.
(QEMU's document: docs/interop/qemu-ga; recordings `agent`.)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.guest.agent.agent import Work
from qmpd.guest.agent.commands import execute
from qmpd.monitor import envelope
from qmpd.wire import Decoder, ParseError, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Executor, Outcome
    from qmpd.guest.agent.agent import Agent
    from qmpd.qapi import Release

_DELIMITED = "guest-sync-delimited"
_DELIMITER = b"\xff"


class AgentDialect:
    """What an agent hears and says.

    `executor` does what takes time; `send` is given each reply, with the name of the command.
    """

    __slots__ = ("_agent", "_busy", "_decoder", "_executor", "_queue", "_release", "_send")

    def __init__(
        self, release: Release, agent: Agent, executor: Executor, send: Callable[[bytes, str], None]
    ) -> None:
        self._release = release
        self._agent = agent
        self._executor = executor
        self._send = send
        self._decoder = Decoder(release.behaviour.json_parser)
        self._queue: deque[object] = deque()
        self._busy = False

    def receive(self, data: bytes) -> None:
        """Take bytes of a client's."""
        self._queue.extend(self._decoder.feed(data))
        self._go_on()

    def forget(self) -> None:
        """Begin anew: nothing is half received, and nothing waits."""
        self._decoder = Decoder(self._release.behaviour.json_parser)
        self._queue.clear()

    def _go_on(self) -> None:
        while self._queue and not self._busy:
            self._answer(self._queue.popleft())

    def _answer(self, message: object) -> None:
        name = ""
        try:
            if isinstance(message, ParseError):
                self._reply(name, {"error": {"class": "GenericError", "desc": message.message}}, message)
                return
            name, arguments = envelope.check(message, out_of_band_allowed=False)
            value = execute(self._agent, name, arguments)
        except Refusal as refusal:
            self._refuse(name, message, refusal)
            return
        if isinstance(value, Work):
            self._busy = True
            work = value
            self._executor.do(work.work, lambda outcome: self._done(name, message, work, outcome))
        else:
            self._finish(name, message, value)

    def _done(self, name: str, message: object, work: Work, outcome: Outcome) -> None:
        self._busy = False
        if isinstance(outcome.error, OSError):
            self._refuse(name, message, work.refusal(outcome.error))
        else:
            self._finish(name, message, work.finish(outcome.value))
        self._go_on()

    def _finish(self, name: str, message: object, value: object) -> None:
        if name not in self._agent.face.silent:
            self._reply(name, {"return": value}, message)

    def _refuse(self, name: str, message: object, refusal: Refusal) -> None:
        words = self._release.refusals
        error = {"class": words.error_class(refusal), "desc": words.message(refusal)}
        self._reply(name, {"error": error}, message)

    def _reply(self, name: str, reply: dict[str, Any], message: object) -> None:
        if isinstance(message, dict) and "id" in message:
            reply["id"] = message["id"]
        line = encode(reply, self._release.behaviour.float_format) + b"\n"
        self._send(_DELIMITER + line if name == _DELIMITED and "return" in reply else line, name)

    # Another process

    def snapshot(self) -> dict[str, object]:
        """What is half received, as plain data."""
        return {"decoder": self._decoder.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `snapshot` made this of."""
        self._decoder = Decoder.restore(state["decoder"])

