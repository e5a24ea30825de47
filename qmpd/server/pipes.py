"""Named pipes that somebody is to write."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


async def until_written(
    descriptor: int, later: Callable[[Callable[[], None]], None], then: Callable[[], None]
) -> None:
    """Have `then` done in the main loop (`later`) once all has been written to a pipe, which is closed after that.

    It stays in the pipe as long as that is open here, for whoever reads it.
    """
    closed, done = select.poll(), trio.Event()
    closed.register(descriptor, 0)

    def do() -> None:
        then()
        later(done.set)

    try:
        await trio.lowlevel.wait_readable(descriptor)
        while not closed.poll(0):  # noqa: ASYNC110 - only a pipe's end tells, and reading would take what is there
            await trio.sleep(0.01)
        later(do)
        await done.wait()
    finally:
        os.close(descriptor)
