"""Waiting for a future of another thread under asyncio or trio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

import sniffio
import trio

if TYPE_CHECKING:
    import concurrent.futures

T = TypeVar("T")


async def result_of(future: concurrent.futures.Future[T], timeout: float) -> T:
    """A future's result, once it has one.

    :param timeout: seconds of the computer's time.
    :raise TimeoutError: it has none by then.
    """
    if sniffio.current_async_library() == "asyncio":
        return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def tell(_: object = None) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    # trio's own clock may be one that a test moves.
    timer = threading.Timer(timeout, tell)
    timer.daemon = True
    timer.start()
    try:
        future.add_done_callback(tell)
        await done.wait()
    finally:
        timer.cancel()
        timer.join()
    if not future.done():
        raise TimeoutError
    return future.result()
