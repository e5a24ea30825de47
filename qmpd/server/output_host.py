"""What a machine writes and prints beside what its monitors say (a part of `qmpd.system.ports.Host`)."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from qmpd.server import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.system.dumps.plan import Output

_MOMENT = 0.5


class OutputHost:
    """Whoever serves a machine, as far as files and standard output go."""

    __slots__ = ()

    def write_file(self, path: str | int, content: Callable[[], bytes]) -> tuple[int, Callable[[], None]]:
        """Write a file in a thread (`qmpd.system.ports.Host`)."""
        from qmpd.server.slow_file import write_file

        return write_file(path, content)

    def open_output(self, path: str, mode: int) -> Output:
        """Open a file for writing (`qmpd.system.ports.Host`)."""
        from qmpd.server.output_file import open_output

        return open_output(path, mode)

    def output_to(self, number: int) -> Output:
        """Write to an open file (`qmpd.system.ports.Host`)."""
        from qmpd.server.output_file import FileOutput

        return FileOutput(number)

    def open_log(self, path: str | None) -> Callable[[str], None]:
        """What writes lines to a file, or to standard error (`qmpd.system.ports.Host`)."""
        if path is None:
            return log.raw
        from qmpd.server.slow_file import appender

        append = appender(path)
        return lambda text: append(os.fsencode(text))

    def print(self, text: str) -> None:
        """Print something to standard output (`qmpd.system.ports.Host`)."""
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.write(text)
            sys.stdout.flush()

    def is_output_out(self) -> bool:
        """Whether what monitors have said is written (`qmpd.system.ports.Host`)."""
        from qmpd.server.chardevs.copying import is_out

        return is_out()

    def report(self, line: str) -> None:
        """Print a line to standard error, from a thread (`qmpd.system.ports.Host`)."""
        log.raw(f"{line}\n")
        log.settle(_MOMENT)
