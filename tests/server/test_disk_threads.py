"""The threads that read and write disks: what they have done they let go of."""

from __future__ import annotations

import gc
import time
import weakref

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
