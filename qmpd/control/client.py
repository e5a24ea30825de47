"""What is kept about a client of a machine that is played."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.control.recorder import Recorder


class Client:
    """What is kept about a client.

    `number` is its in the transcript.
    `resumed`: the request at the head of the queue has been through a fault that hung the main loop.
    `stalled_by`: the fault (its id) that keeps everything from the client; what is owed waits in `kept`.
    `gone`: the client has left.
    """

    __slots__ = ("gone", "kept", "number", "recorder", "resumed", "stalled_by")

    def __init__(self, number: int, recorder: Recorder) -> None:
        self.number = number
        self.recorder = recorder
        self.resumed = False
        self.stalled_by: int | None = None
        self.kept: deque[bytes] = deque()
        self.gone = False
