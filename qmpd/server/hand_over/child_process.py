"""A child as its parent has it: the process, and this end of the socket pair."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from qmpd.server.hand_over import frames

if TYPE_CHECKING:
    from qmpd.control.recorder import Recorder

# The same program: this interpreter, with the module path of this process.
_ENTRY = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from qmpd.server.hand_over.child import main; sys.exit(main(sys.argv[1:2]))"
)

ENTRIES = 500
"""Entries of the transcript that are sent in one piece; the clients are served between two of them."""

UNDER_WAY = 4
"""Pieces that a child may not have taken in yet."""

NEWS = 0.05
"""Seconds between two looks at whether there are further entries for a child that is ready."""

LAST_WORDS = 0.2
"""Seconds that a child which has closed its socket is given to end by itself, so that its status can be told."""

LONGEST_REASON = 1000
"""Characters of a child's reason that are told."""


class Refused(Exception):  # noqa: N818 - it says what the child did
    """The child cannot do what it is asked to; the text is its own."""


class Child:
    """One child: its process, this end of the socket pair, and the scope of the task that is with it."""

    __slots__ = ("_answers", "_entries", "_left", "_owed", "_resets", "channel", "complete", "process", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.process: trio.Process | None = None
        self.channel: socket.socket | None = None
        # Whether it has the clone, and so is ready to take over.
        self.complete = False
        self._answers = frames.Incoming(frames.LARGEST_ANSWER)
        # How far it has the transcript, and of which of its beginnings.
        self._entries = 0
        self._resets = 0
        # What is left of a piece that is being sent, and of how many the child has still to say that it has them.
        self._left = memoryview(b"")
        self._owed = 0

    async def start(self, program: str | None) -> None:
        """Start the process.

        :raise OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        self.channel = ours
        ours.setblocking(False)
        with theirs:
            number = theirs.fileno()
            if program is None:
                command = [sys.executable, "-c", _ENTRY, str(number), *sys.path]
            else:
                command = [program, "take-over", str(number)]
            try:
                self.process = await trio.lowlevel.open_process(command, pass_fds=[number])
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise OSError(f"{command[0]} cannot be started: {reason}") from None

    async def send(self, message: frames.Message) -> None:
        """Tell it something; a hand-over that comes in between sends the rest (`begin_hand_over`).

        :raise OSError: it cannot be sent.
        :raise TooLarge: it is larger than a message may be.
        """
        channel = self.channel
        assert channel is not None
        self._left = frames.spelled(message)
        while self._left:
            await trio.lowlevel.wait_writable(channel)
            try:
                self._left = self._left[channel.send(self._left[: frames.CHUNK]) :]
            except BlockingIOError:
                continue

    async def answers(self, kind: str) -> None:
        """Wait until it says `kind`.

        :raise Refused: it says something else.
        :raise OSError, Disconnected, BadFrame: it says nothing that can be understood.
        """
        assert self.channel is not None
        require(await self._answers.message(self.channel), kind)

    async def send_transcript(self, recorder: Recorder) -> int:
        """Send what it has not of the transcript yet, piece by piece; how many entries these were.

        The clients are served in between.  Only so many pieces are under way at once, so that the child never has much
        left to do.

        :raise Refused: it does not take one.
        :raise OSError, Disconnected, BadFrame: it cannot be talked to.
        :raise TooLarge: a piece is larger than a message may be.
        """
        from qmpd.control.snapshot import take_entries

        if not self._entries:
            self._resets = recorder.resets
        if self._resets != recorder.resets:
            return 0  # it has begun anew, which the hand-over tells
        entries = recorder.entries(self._entries)
        for start in range(0, len(entries), ENTRIES):
            piece = entries[start : start + ENTRIES]
            self._entries = piece[-1][0]
            self._owed += 1
            await self.send({"kind": "entries", "entries": take_entries(piece)})
            while self._owed >= UNDER_WAY:
                await self.answers("taken")
                self._owed -= 1
        return len(entries)

    async def catch_up(self, recorder: Recorder, until: float) -> None:
        """Send the transcript until the child has about all of it, but no longer than `until` (trio's clock).

        :raise Refused, OSError, Disconnected, BadFrame, TooLarge: it does not take it.
        """
        while await self.send_transcript(recorder) >= ENTRIES and trio.current_time() < until:
            continue

    async def accompany(self, recorder: Recorder | None) -> NoReturn:
        """Be with a child that is ready, until it is gone; the transcript is sent as it grows.

        :raise Disconnected: it is gone.
        :raise Refused, OSError, BadFrame, TooLarge: it does not take what is sent, or says what it was not asked.
        """
        while True:
            with trio.move_on_after(NEWS if recorder is not None else float("inf")):
                await self.answers("taken")
                if not self._owed:
                    raise Refused("it speaks without being asked")
                self._owed -= 1
                continue
            if recorder is not None:
                await self.send_transcript(recorder)

    def begin_hand_over(self, deadline: float) -> frames.Channel:
        """Talk to it without a pause from now on, until `deadline` (`time.monotonic`).

        :raise TimeoutError, OSError, Disconnected, BadFrame, Refused: a piece that was being sent is not taken.
        """
        assert self.channel is not None
        channel = frames.Channel(self.channel, deadline, self._answers.received)
        channel.send_rest(self._left)
        for _ in range(self._owed):
            require(channel.receive(frames.LARGEST_ANSWER)[0], "taken")
        return channel

    def rest_of_transcript(self, recorder: Recorder) -> dict[str, object]:
        """What it has not of the transcript yet; whether that goes on behind what it has."""
        from qmpd.control.snapshot import take_entries

        goes_on = bool(self._entries) and self._resets == recorder.resets
        return {"goes_on": goes_on, "entries": take_entries(recorder.entries(self._entries if goes_on else 0))}

    async def epitaph(self) -> str:
        """What there is to say of a child that has closed its end."""
        assert self.process is not None
        with trio.move_on_after(LAST_WORDS):
            await self.process.wait()
        status = self.process.returncode
        when = "while it was ready" if self.complete else "before it was ready"
        if status is None:
            return f"the child turned away {when}"
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"the child {how} {when}"

    def kill(self) -> None:
        """Have it do nothing more."""
        if self.process is not None:
            self.process.kill()

    async def bury(self) -> None:
        """Kill it, and wait until nothing is left of it."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.kill()
        if self.process is not None:
            with trio.CancelScope(shield=True):
                await self.process.wait()


def require(answer: dict[str, Any], kind: str) -> None:
    """:raise Refused: the child's answer is another one."""
    if answer["kind"] != kind:
        reason = answer.get("reason")
        raise Refused(reason[:LONGEST_REASON] if isinstance(reason, str) else "it does not say why")
