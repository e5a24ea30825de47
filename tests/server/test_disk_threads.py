"""The threads that read and write disks: what they have done they let go of."""

from __future__ import annotations

import gc
import threading
import time
import weakref

from qmpd.block.executor import Outcome
from qmpd.server.disk_threads import DiskThreads


class Asker:
    """Somebody who waits for work to be done."""

    def told(self, outcome: object) -> None:
        """It is done."""


def test_a_thread_that_waits_for_work_keeps_nobody() -> None:
    threads = DiskThreads(lambda do: do(), lambda: True)
    asker = Asker()
    gone = weakref.ref(asker)
    threads.do(lambda: None, asker.told)
    assert threads.settle()
    del asker
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None


def test_threads_end_with_their_machine() -> None:
    before = set(threading.enumerate())
    threads = DiskThreads(lambda do: do(), lambda: True)
    for each in (threads, threads.beside()):
        each.do(lambda: None, lambda outcome: None)
    assert len(set(threading.enumerate()) - before) == 2
    threads.close()
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, "a thread of a machine that has ended is still there"
        time.sleep(0.01)
    # What is asked for later is done all the same: an image is closed last.
    done: list[Outcome] = []
    threads.do(lambda: "closed", done.append)
    assert threads.settle()
    assert [outcome.value for outcome in done] == ["closed"]
