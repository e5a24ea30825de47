"""Threads that do nothing, where QEMU has those of its CPUs and iothreads.

libvirt and others ask the kernel about them, and pin them to processors, by the numbers that the monitor tells.
"""

from __future__ import annotations

import _thread
from typing import NamedTuple

_STACK = 64 << 10
"""Bytes of stack for each; Python needs 32 KiB."""


class _Idle(NamedTuple):
    number: int
    until: _thread.LockType


class IdleThreads:
    """The threads of one process, made as they are asked for; `named`: the kernel shows their names, too.

    They end with the process, or by `end`.
    """

    __slots__ = ("_named", "_threads")

    def __init__(self, *, named: bool = False) -> None:
        self._named = named
        self._threads: dict[str, _Idle] = {}

    def number(self, name: str) -> int:
        """The kernel's number of the thread of this name; it is started where it is not there yet."""
        thread = self._threads.get(name)
        if thread is None:
            thread = self._threads[name] = self._start(name)
        return thread.number

    def end(self, name: str) -> None:
        """Let the thread of this name end, if there is one."""
        thread = self._threads.pop(name, None)
        if thread is not None:
            thread.until.release()

    def _start(self, name: str) -> _Idle:
        until, known = _thread.allocate_lock(), _thread.allocate_lock()
        until.acquire()
        known.acquire()
        number = 0

        def idle() -> None:
            nonlocal number
            number = _thread.get_native_id()
            if self._named:
                _call(number, name)
            known.release()
            until.acquire()

        before = _thread.stack_size(_STACK)
        try:
            _thread.start_new_thread(idle, ())
        finally:
            _thread.stack_size(before)
        known.acquire()
        return _Idle(number, until)


def _call(number: int, name: str) -> None:
    try:
        with open(f"/proc/self/task/{number}/comm", "w", encoding="utf-8") as comm:
            comm.write(name[:15])
    except OSError:
        pass  # only its looks suffer
