"""Ask the real programs what becomes of devices that leave: `python -m tests.unplug [-w] [-a] [-r RELEASE]...`.

Each scenario is played to a process of its own, and what comes is compared with what is recorded; with `-w` it is
recorded, where it is new (`tests/golden/RELEASE/unplug.jsonl.gz`): what comes now and then only is kept beside the
rest, unless all of it is recorded anew (`-a`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.golden import RELEASES
from tests.real_qemu import programs
from tests.unplug import file_of, plain, recorded
from tests.unplug.scenarios import GUESTS, SCENARIOS, SETTLE, Scenario, sector

QUIET = 0.4
BOOT = 3.0
PATIENCE = 20.0
AT_ONCE = 3


class Ended(Exception):  # noqa: N818 - an answer, not a mistake
    """The program has ended."""


class Program:
    """A real program that plays a scenario."""

    def __init__(self, command: list[str], scenario: Scenario) -> None:
        root = command[1] if command[0] == "chroot" else ""
        self._folder = tempfile.TemporaryDirectory(prefix="qmpd-", dir=f"{root}/tmp")
        inside = self._folder.name.removeprefix(root)
        argv = [*command, "-display", "none", "-nodefaults", *scenario.options]
        if scenario.guest is None:
            argv.append("-S")
        else:
            Path(self._folder.name, "boot").write_bytes(sector(GUESTS[scenario.guest]))
            argv += ["-drive", f"file={inside}/boot,format=raw,if=ide,index=0,snapshot=on"]
        argv += ["-qmp", f"unix:{inside}/qmp,server=on,wait=off"]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._client = socket.socket(socket.AF_UNIX)
        self._received = b""
        end = time.monotonic() + PATIENCE
        while self._client.connect_ex(f"{self._folder.name}/qmp"):
            assert time.monotonic() < end
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        self._line(PATIENCE)
        self.step({"execute": "qmp_capabilities"})
        time.sleep(0 if scenario.guest is None else BOOT)

    def _line(self, seconds: float) -> str | None:
        end = time.monotonic() + seconds
        while b"\n" not in self._received:
            self._client.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._client.recv(1 << 16)
            except TimeoutError:
                return None
            except ConnectionResetError:
                data = b""
            if not data:
                raise Ended
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode().rstrip("\r")

    def step(self, step: Any) -> list[str]:
        """What comes until the reply, or, where nothing is asked, for a while."""
        lines: list[str] = []
        if isinstance(step, str):
            end = time.monotonic() + (QUIET if step == SETTLE else float(step.partition(" ")[2]))
            while (left := end - time.monotonic()) > 0 and (line := self._line(left)) is not None:
                lines.append(plain(line))
            return lines
        try:
            self._client.sendall(json.dumps(step).encode() + b"\n")
        except BrokenPipeError:
            raise Ended from None
        while (line := self._line(PATIENCE)) is not None:
            lines.append(plain(line))
            if '"event"' not in line:
                return lines
        raise AssertionError(f"no answer to {step}")

    def end(self) -> None:
        """End it."""
        self._client.close()
        self.process.kill()
        self.process.communicate()
        self._folder.cleanup()


def asked(release: str, scenario: Scenario) -> list[list[str]]:
    """What a real program makes of a scenario."""
    program = Program(programs()[release], scenario)
    came: list[list[str]] = []
    try:
        came.extend(program.step(step) for step in scenario.steps)
    except Ended:
        print(f"{release} {scenario.name}: it ended at step {len(came)}")
    finally:
        program.end()
    return came


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.unplug", description="Ask real QEMU how devices leave.")
    parser.add_argument("-r", "--release", action="append", help="a release (all that there are)")
    parser.add_argument("-k", metavar="TEXT", default="", help="the scenarios whose names have this in them")
    parser.add_argument("-w", "--write", action="store_true", help="record what is new")
    parser.add_argument("-a", "--anew", action="store_true", help="forget what is recorded of them")
    arguments = parser.parse_args()
    for release in arguments.release or [each for each in RELEASES if each in programs()]:
        known = recorded(release)
        chosen = [each for each in SCENARIOS if arguments.k in each.name and release not in each.but]
        for scenario in chosen if arguments.anew else ():
            known.pop(scenario.name, None)
        print(f"{release}: {len(chosen)} scenarios", flush=True)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for scenario, came in zip(chosen, threads.map(partial(asked, release), chosen), strict=True):
                entry = known.setdefault(scenario.name, [])
                if came not in entry:
                    print(f"{release} {scenario.name}: {'new' if entry else 'first'}")
                    entry.append(came)
        if arguments.write:
            with gzip.open(file_of(release), "wt", encoding="utf-8") as file:
                for scenario in SCENARIOS:
                    if scenario.name in known and release not in scenario.but:
                        print(json.dumps({"scenario": scenario.name, "came": known[scenario.name]}), file=file)


if __name__ == "__main__":
    main()
