"""The programs that are measured, and the load generator that they are measured with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

HERE = Path(__file__).resolve().parent
QMPD = "qmpd"
QEMU = "QEMU"
TRIO = "trio"
BLOCKING = "blocking"


def environment() -> dict[str, str]:
    """The caller's environment without what changes how Python starts, such as having to compile every module."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def qmpd_command() -> list[str]:
    """How qmpd is started: by the program that its installation made, with the Python that runs this."""
    program = Path(sys.executable).parent / "qmpd"
    if program.is_file():
        return [sys.executable, str(program)]
    return [sys.executable, "-c", "import sys; from qmpd.cli.main import main; sys.exit(main())"]


def find_qemu(program: str) -> str | None:
    """The path of real QEMU; None where it is not installed."""
    return shutil.which(program)


class Programs:
    """The command lines of what is measured.  `qemu` is None where there is no QEMU."""

    def __init__(self, qemu: str | None) -> None:
        self.qemu = qemu

    @property
    def subjects(self) -> list[str]:
        """Everything that answers QMP here."""
        return [QMPD] if self.qemu is None else [QMPD, QEMU]

    def qmp(self, subject: str, paths: list[str]) -> list[str]:
        """A QMP server of machine type `none` with a monitor at each path, qmpd with one for all."""
        if subject == QMPD:
            sockets = [word for path in paths for word in ("-qmp", f"unix:{path},server=on,wait=off")]
            return [*qmpd_command(), "serve", "-machine", "none", *sockets]
        assert self.qemu is not None
        sockets = [word for path in paths for word in ("-qmp", f"unix:{path},server=on,wait=off")]
        return [self.qemu, "-machine", "none", "-nodefaults", "-display", "none", *sockets]

    def fleet(self, folder: str, count: int, *options: str) -> list[str]:
        """A fleet of qmpd's, its machines those that `qmpd serve` has by default."""
        return [*qmpd_command(), "fleet", "--count", str(count), "--dir", folder, *options]

    def crowd(self, path: str, kind: str) -> list[str]:
        """Clients of this socket that are not polite, of a kind that `benchmark.crowd` knows."""
        return [sys.executable, str(HERE / "crowd.py"), path, kind]

    def floor(self, name: str, path: str) -> list[str]:
        """One of the floors: `echo_blocking`, `echo_trio`, `greet_trio`."""
        return [sys.executable, str(HERE / "floors" / f"{name}.py"), path]


class LoadError(Exception):
    """The load generator could not do what it was asked for."""


class Server:
    """A program that runs; leaving the context ends it."""

    def __init__(self, command: list[str], announced: bool = False) -> None:
        """Start it and, where it is `announced`, wait for the first line that it prints.

        :raise LoadError: it ended before that.
        """
        begin = time.perf_counter()
        output = subprocess.PIPE if announced else subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, env=environment())
        if self.process.stdout is not None and not self.process.stdout.readline():
            raise LoadError(f"{command[0]} has ended with status {self.process.wait()}")
        self.started_in = time.perf_counter() - begin
        """Seconds."""

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    def resident(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def settled_resident(self, calm: float = 0.1) -> int:
        """Resident memory in bytes, once it has been the same for `calm` seconds."""
        before = -1
        while (size := self.resident()) != before:
            before = size
            time.sleep(calm)
        return size


class Load:
    """The load generator's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(HERE / "load.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def _order(self, do: str, **arguments: object) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("the load generator has ended")
        answer = json.loads(line)
        if "error" in answer:
            raise LoadError(str(answer["error"]))
        return answer["result"]

    def open(self, name: str, paths: list[str], greeting: bool = True, negotiate: bool = True) -> None:
        """Connect to each path, wait for its greeting where there is one, and negotiate."""
        self._order("open", name=name, paths=paths, greeting=greeting, negotiate=negotiate)

    def close(self, name: str) -> None:
        """Close the clients."""
        self._order("close", name=name)

    def round_trips(self, name: str, kind: str, count: int, size: int = 0) -> list[int]:
        """Nanoseconds of each of `count` round trips."""
        result = self._order("round-trips", name=name, kind=kind, count=count, size=size)
        assert isinstance(result, list)
        return result

    def rate(self, name: str, kind: str, depth: int, seconds: float) -> float:
        """Commands a second at a pipeline depth."""
        result = self._order("rate", name=name, kind=kind, depth=depth, seconds=seconds)
        assert isinstance(result, float)
        return result

    def fan_out(self, name: str, rounds: int) -> list[int]:
        """Nanoseconds until the last client has an event, in each round."""
        result = self._order("fan-out", name=name, rounds=rounds)
        assert isinstance(result, list)
        return result

    def closed_loop(self, name: str, seconds: float) -> dict[str, float]:
        """All clients at once: `rate` in commands a second, `p50` and `p99` in nanoseconds."""
        result = self._order("closed-loop", name=name, seconds=seconds)
        assert isinstance(result, dict)
        return result

    def create(self, name: str, folder: str, machines: list[str]) -> list[int]:
        """Nanoseconds from asking for a machine until its greeting, for each machine of a fleet."""
        result = self._order("create", name=name, folder=folder, machines=machines)
        assert isinstance(result, list)
        return result

    def start(self, command: list[str], path: str) -> int:
        """Nanoseconds from exec to greeting."""
        result = self._order("start", command=command, path=path)
        assert isinstance(result, int)
        return result
