"""The command line of `scripts/migrations`: machines that move from host to host, under load, and whose way is cut.

At every moment a machine runs on one host at most, and in the end on exactly one.  That is seen from the times of its
STOP and RESUME events on all hosts, which share the computer's clock, and from what both say in the end.  No reply is
lost or comes twice, and what has ended leaves no file and no process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endurance.process import SYSTEM
from endurance.way import Way

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which something that has to come counts as lost."""
LOOK = 0.005
DEPTH = 4
"""Questions that a client of the load has under way."""
OVER = frozenset({"completed", "failed", "cancelled"})
GUEST = "memory-used=64M,dirty-rate=20M"
LINE = ("-machine", "pc", "-m", "128", "-nodefaults", "-display", "none")
_MEASURED = 1_000_000
_UUID = "00000000-0000-0000-0000-000000000000"
QUESTIONS = (
    ("query-name", '"return": {}'),
    ("query-uuid", f'"return": {{"UUID": "{_UUID}"}}'),
    (
        "no-such-command",
        '"error": {"class": "CommandNotFound", "desc": "The command no-such-command has not been found"}',
    ),
)


class Wrong(Exception):  # noqa: N818 - it says what is wrong with the machine, not with this program
    """Something that must not be."""


class Client:
    """A client of one monitor, that has negotiated; the machine's STOP and RESUME are in `runs`, with their times."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.runs: list[tuple[int, bool]] = []
        self.states: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE)
            if not self.socket.connect_ex(path):
                break
            self.socket.close()
            if time.monotonic() > deadline:
                raise Wrong(f"nobody listens at {path}")
            time.sleep(LOOK)
        self._lines = self.socket.makefile("rb")
        self.line()
        self.ask("qmp_capabilities")

    def line(self) -> bytes:
        """The next line.

        :raise Wrong: none comes.
        """
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise Wrong(f"{self._path} says nothing") from None
        if not line:
            raise Wrong(f"{self._path} has closed the connection")
        return line

    def message(self) -> dict[str, Any]:
        """The next message; of events it is kept what they say of the machine."""
        message: dict[str, Any] = json.loads(self.line())
        event = message.get("event")
        if event in ("STOP", "RESUME"):
            at = message["timestamp"]
            self.runs.append((at["seconds"] * 1_000_000 + at["microseconds"], event == "RESUME"))
        elif event == "MIGRATION":
            self.states.append(message["data"]["status"])
        return message

    def ask(self, name: str, **arguments: object) -> Any:
        """What a command returns; what it is refused with is wrong.

        :raise Wrong: it is refused.
        """
        given = {"arguments": {key.replace("_", "-"): value for key, value in arguments.items()}} if arguments else {}
        self.socket.sendall(json.dumps({"execute": name, **given}).encode())
        while "event" in (message := self.message()):
            pass
        if "error" in message:
            raise Wrong(f"{name}: {message['error']['desc']}")
        return message["return"]

    def until(self, is_over: Callable[[Client], bool], what: str) -> None:
        """Look until something is so.

        :raise Wrong: it is not, for too long.
        """
        deadline = time.monotonic() + PATIENCE
        while not is_over(self):
            if time.monotonic() > deadline:
                raise Wrong(f"{self._path}: {what} does not come")
            time.sleep(LOOK)

    def close(self) -> None:
        """Leave."""
        self._lines.close()
        self.socket.close()


class Load(threading.Thread):
    """A client that asks without a pause, and wants every reply once, in order and to the byte."""

    def __init__(self, path: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._client = Client(path)
        self._random = random.Random(seed)
        self._stopping = False
        self.answered = 0
        self.wrong: str | None = None

    def run(self) -> None:
        """Ask until `finish` is called, and wait for all answers."""
        expected: deque[str] = deque()
        number = 0
        try:
            while not self._stopping or expected:
                while len(expected) < DEPTH and not self._stopping:
                    name, told = self._random.choice(QUESTIONS)
                    number += 1
                    expected.append(_answer(told, number))
                    self._client.socket.sendall(json.dumps({"execute": name, "id": number}).encode())
                if not expected:
                    return
                line = self._client.line().decode().rstrip("\r\n")
                if '"timestamp"' in line:
                    continue
                if line != expected[0]:
                    raise Wrong(f"{line} came instead of {expected[0]}")
                expected.popleft()
                self.answered += 1
        except (Wrong, OSError) as error:
            self.wrong = str(error)

    def finish(self) -> None:
        """Ask no more; what has been asked is still answered.

        :raise Wrong: something was not as it should be.
        """
        self._stopping = True
        self.join(PATIENCE)
        self._client.close()
        if self.is_alive() or self.wrong is not None:
            raise Wrong(f"a client of the load: {self.wrong or 'it waits'}")


def _answer(told: str, number: int) -> str:
    """A reply as it is spelled: an error's identifier comes first."""
    return f'{{"id": {number}, {told}}}' if told.startswith('"error"') else f'{{{told}, "id": {number}}}'


class Host:
    """A process that serves a machine, or waits for one; `client` is who has to do with migrations."""

    def __init__(self, folder: Path, number: int, release: str, *, waits: bool, load: int = 0) -> None:
        self.address = str(folder / f"in{number}")
        self.number = number
        path = str(folder / f"qmp{number}")
        monitors = [f"unix:{path}.{each},server=on,wait=off" for each in range(load + 1)]
        options = [*LINE, *(["-incoming", f"unix:{self.address}"] if waits else ["-S"])]
        for monitor in monitors:
            options += ["-qmp", monitor]
        environment = {**os.environ, "QMPD_RELEASE": release, "QMPD_OPTIONS": f"-guest {GUEST}"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lasts as long as the process
        self.process = subprocess.Popen(
            [*SYSTEM, *options], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )  # fmt: skip
        self.load: list[Load] = []
        try:
            self.client = Client(f"{path}.0")
            self.client.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
            self.load += [Load(f"{path}.{each + 1}", number * 100 + each) for each in range(load)]
        except BaseException:
            self.kill()
            raise
        for each in self.load:
            each.start()

    def kill(self) -> None:
        """End the process, however it is, where it has not ended."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        for each in self.load:
            with suppress(Wrong):
                each.finish()
        self.client.close()
        self._errors.close()

    @property
    def is_running(self) -> bool:
        """Whether its guest runs; one whose process has ended has none."""
        try:
            return bool(self.client.ask("query-status")["running"])
        except (Wrong, OSError):
            return False

    def begin(self, uri: str) -> None:
        """Have its machine go there."""
        self.client.states.clear()
        self.client.ask("migrate", uri=uri)

    def status(self) -> str:
        """How far its migration is."""
        return str(self.client.ask("query-migrate").get("status", "none"))

    def wait(self) -> str:
        """Wait for its migration's end; how it ended."""
        self.client.until(lambda _: self.status() in OVER, "the end of the migration")
        return self.status()

    def end(self) -> None:
        """Quit, after the load's last answer.

        :raise Wrong: it ends in another way.
        """
        for each in self.load:
            each.finish()
        with suppress(Wrong):
            self.client.ask("quit")
        self.gone(0)

    def gone(self, status: int) -> None:
        """Wait for the end of the process.

        :raise Wrong: it does not end, or in another way.
        """
        try:
            found = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Wrong(f"the process of host {self.number} does not end") from None
        self.client.close()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")
        self._errors.close()
        if found != status or "Traceback" in said:
            raise Wrong(f"host {self.number} ended with {found}, and said {said}")


class Watch:
    """When a machine ran where; at no moment on two hosts."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._spans: list[tuple[int, int, int]] = []

    def take(self, host: Host) -> None:
        """Look at what a host has told of its machine until now."""
        began: int | None = None
        for at, runs in host.client.runs:
            if runs and began is None:
                began = at
            elif not runs and began is not None:
                self._spans.append((began, at, host.number))
                began = None
        host.client.runs = [] if began is None else [(began, True)]

    def check(self) -> None:
        """:raise Wrong: two spans overlap."""
        self._spans.sort()
        for (_, ended, one), (began, _, other) in zip(self._spans, self._spans[1:], strict=False):
            if began < ended and one != other:
                raise Wrong(f"the machine ran on hosts {one} and {other} at once, for {ended - began} us")


def move(source: Host, target: Host, watch: Watch) -> None:
    """Let a machine that runs move.

    :raise Wrong: it does not, or not as it should.
    """
    source.begin(f"unix:{target.address}")
    ended = source.wait()
    if ended != "completed":
        raise Wrong(f"the migration from {source.number} to {target.number} has {ended}")
    target.client.until(lambda _: target.is_running, "the machine")
    if source.is_running or source.client.ask("query-status")["status"] != "postmigrate":
        raise Wrong(f"host {source.number} has not let the machine go")
    for host in (source, target):
        watch.take(host)
    watch.check()


def chain(folder: Path, release: str, hosts: int, load: int, told: Counter[str], *, together: bool) -> None:
    """Let a machine move over so many hosts; with `together` all of them are there to the end, or two at a time.

    :raise Wrong: something is wrong.
    """
    watch = Watch()
    alive = [Host(folder, 0, release, waits=False, load=load)]
    try:
        alive[0].client.ask("cont")
        for number in range(1, hosts):
            alive.append(Host(folder, number, release, waits=True, load=load))
            move(alive[-2], alive[-1], watch)
            told["migrations"] += 1
            if not together:
                _leave(alive[0], told)
                del alive[0]
        for host in alive[:-1]:
            if host.is_running:
                raise Wrong(f"host {host.number} runs the machine again")
        while alive:
            _leave(alive[0], told)
            del alive[0]
    finally:
        for host in alive:
            host.kill()
    left = sorted(os.listdir(folder))
    if left:
        raise Wrong(f"files are left: {left}")


def _leave(host: Host, told: Counter[str]) -> None:
    host.end()
    told["answers"] += sum(each.answered for each in host.load)


def cut(folder: Path, release: str, times: int, chance: random.Random, told: Counter[str]) -> None:
    """Cut the way at a byte, so many times.

    :raise Wrong: the machine runs nowhere, or on both hosts.
    """
    source = Host(folder, 0, release, waits=False)
    target: Host | None = None
    watch = Watch()
    try:
        source.client.ask("cont")
        length = _length(folder, release)
        for number in range(1, times + 1):
            target = Host(folder, number, release, waits=True)
            # The end, where the machine changes hands, is looked at more often.
            limit = chance.randrange(length) if chance.random() < 0.7 else length - chance.randrange(min(length, 300))
            source, target = _cut_one(folder, source, target, limit, watch, told), None
            told["cuts"] += 1
        source.end()
    except Wrong as error:
        raise Wrong(f"{error} (cut {told['cuts'] + 1})") from None
    finally:
        for host in (source, target):
            if host is not None:
                host.kill()


def _length(folder: Path, release: str) -> int:
    """How many bytes go both ways."""
    source = Host(folder, _MEASURED, release, waits=False)
    target = Host(folder, _MEASURED + 1, release, waits=True)
    source.client.ask("cont")
    way = Way(str(folder / "way"), target.address)
    move_through(source, str(folder / "way"))
    target.client.until(lambda _: target.is_running, "the machine")
    way.close()
    os.unlink(folder / "way")
    source.end()
    target.end()
    return way.passed


def move_through(source: Host, path: str) -> str:
    """Let it go through a way; how that ends."""
    source.begin(f"unix:{path}")
    return source.wait()


def _cut_one(folder: Path, source: Host, target: Host, limit: int, watch: Watch, told: Counter[str]) -> Host:
    """One migration whose way is cut; where the machine runs then."""
    path = str(folder / "way")
    way = Way(path, target.address, limit)
    try:
        ended = move_through(source, path)
    finally:
        way.close()
        os.unlink(path)
    told[ended] += 1
    if ended == "completed":
        target.client.until(lambda _: target.is_running or target.process.poll() is not None, "the machine")
        for host in (source, target):
            watch.take(host)
        watch.check()
        if source.is_running:
            raise Wrong(f"after {limit} bytes the machine is on both hosts")
        if target.process.poll() is not None:
            # The last byte of all was lost, the one with which the machine was given away: nobody can know of that, and
            # the machine stands still where it was.
            told["doubtful"] += 1
            source.client.ask("cont")
            source.client.until(lambda _: source.is_running, "the machine")
            return source
        source.end()
        return target
    # Who does not go was told so, and whoever waited in vain ends.
    target.gone(1)
    if not source.is_running:
        raise Wrong(f"after {limit} bytes the machine does not go on")
    for host in (source, target):
        watch.take(host)
    watch.check()
    return source


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="migrations",
        description="Moves machines between processes under load, over chains of hosts and over ways that are cut.",
    )
    parser.add_argument("--migrations", type=int, default=200, metavar="N", help="one after another [%(default)s]")
    parser.add_argument("--chain", type=int, default=20, metavar="N", help="hosts that are all there [%(default)s]")
    parser.add_argument("--cuts", type=int, default=1000, metavar="N", help="ways that are cut [%(default)s]")
    parser.add_argument("--clients", type=int, default=3, metavar="N", help="that ask all the time [%(default)s]")
    parser.add_argument("--release", default="10.0", help="[%(default)s]")
    parser.add_argument("--seed", type=int, metavar="S", help="where chance begins [anywhere]")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run it; the result is the exit status: 1 where something was lost or wrong."""
    options = parse(arguments)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    told: Counter[str] = Counter()
    start = time.monotonic()
    wrong = ""
    try:
        with tempfile.TemporaryDirectory(prefix="m") as folder:
            if options.migrations:
                chain(Path(folder), options.release, options.migrations + 1, options.clients, told, together=False)
            if options.chain:
                chain(Path(folder), options.release, options.chain, 1, told, together=True)
            if options.cuts:
                cut(Path(folder), options.release, options.cuts, random.Random(seed), told)
    except Wrong as error:
        wrong = f"\n{error}\n"
    sys.stdout.write(
        f"seed {seed}, {time.monotonic() - start:.0f} seconds: {told['migrations']} migrations,"
        f" {told['answers']} answers; {told['cuts']} cuts, after which {told['completed']} machines were at the other"
        f" side, {told['failed']} went on where they were and {told['doubtful']} when they were told to"
        f"{wrong or '; nothing lost or wrong'}\n"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
