"""The command line of `scripts/fuzz`."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
import traceback
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import trio

from endurance import decoders
from endurance.inputs import Maker
from endurance.plans import plan
from endurance.process import orphans_adopted
from endurance.shorten import shorten
from endurance.storm import Fault, Tally, storm
from endurance.targets import FLEET, TARGETS
from qmpd.qapi import load_release, release_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from endurance.plans import Step

INPUTS = 30
"""Inputs that the decoder's ways are compared on in each round."""

LARGEST = 20_000
"""Bytes beyond which an input is not compared: byte by byte takes its time."""

MEASURED = 50
"""Rounds between two looks at the memory in use."""

ATTEMPTS = 10
"""How often a finding is done again before it counts as mended."""

GROWTH = 12 << 20
"""Bytes by which the memory in use may differ between the second and the last quarter of a run."""

SHORTENING = 60.0
"""Seconds that making a plan shorter may take."""


class Finding(Exception):  # noqa: N818 (it is what a fuzz is for)
    """Something that is wrong: what it is, and what does it again (`replay`)."""

    def __init__(self, what: str, case: dict[str, Any]) -> None:
        super().__init__(what)
        self.what = what
        self.case = case


def compared(case: dict[str, Any]) -> str | None:
    """What is wrong about the decoder on one input; None where nothing is."""
    data, pieces = case["data"].encode("latin-1"), [piece.encode("latin-1") for piece in case["pieces"]]
    try:
        return decoders.compare(data, pieces, case["dialect"])
    except Exception:
        return traceback.format_exc()


def _input(maker: Maker) -> bytes:
    chance = maker.random.random()
    release = load_release(maker.random.choice(release_names()))
    if chance < 0.3:
        return maker.noise()
    if chance < 0.6:
        return maker.command(release)
    return maker.damage(maker.command(release)) if chance < 0.85 else maker.stream(release)


def compare_some(maker: Maker, count: int) -> int:
    """Compare the decoder's ways on new inputs; how many bytes that were.

    :raise Finding: they differ.
    """
    total = 0
    for _ in range(count):
        data = _input(maker)[:LARGEST]
        pieces = [piece.decode("latin-1") for piece in maker.slices(data)]
        case = {"data": data.decode("latin-1"), "pieces": pieces, "dialect": maker.random.choice(decoders.DIALECTS)}
        what = compared(case)
        if what is not None:
            case = _shorter_input(case)
            raise Finding(compared(case) or what, {"decoder": case})
        total += len(data)
    return total


def _shorter_input(case: dict[str, Any]) -> dict[str, Any]:
    def fails(pieces: list[str]) -> bool:
        return compared(case | {"data": "".join(pieces), "pieces": pieces}) is not None

    # First whole pieces, then single bytes, which may well be pieces of their own.
    pieces = shorten(case["pieces"], fails)
    octets = list("".join(pieces))
    if fails(octets):
        pieces = shorten(octets, fails)
    return case | {"data": "".join(pieces), "pieces": pieces}


async def taken(steps: list[Step]) -> str | None:
    """What is wrong after these steps with a fleet of their own; None where nothing is."""
    try:
        async with storm(Tally(), {step[2] for step in steps if step[0] == "connect"} - {FLEET}) as once:
            await once.take(steps)
    except Fault as fault:
        return str(fault)
    except Exception:
        return traceback.format_exc()
    return None


def shorter_plan(steps: list[Step], what: str) -> tuple[list[Step], str]:
    """Steps that fail as well, and how; as they were where they do not fail again."""
    found = [what]
    deadline = time.monotonic() + SHORTENING

    def fails(tried: list[Step]) -> bool:
        if time.monotonic() > deadline:
            return False
        again = trio.run(taken, tried)
        if again is not None:
            found[0] = again
        return again is not None

    if not fails(steps):
        return steps, f"{what}\n(not when it is done again)"
    numbers = sorted({step[1] for step in steps if step[0] != "pass"})
    numbers = shorten(numbers, lambda some: fails(_of_clients(steps, some)))
    steps = _of_clients(steps, numbers)
    # What is most often not needed is left out at once.
    for shorter in (_sent_together, _fewer_pauses):
        tried = shorter(steps)
        steps = tried if fails(tried) else steps
    steps = shorten(steps, fails)
    for number in range(len(steps)):
        steps = _shorter_send(steps, number, fails)
    return steps, found[0]


def _of_clients(steps: list[Step], numbers: list[int]) -> list[Step]:
    return [step for step in steps if step[0] == "pass" or step[1] in numbers]


def _fewer_pauses(steps: list[Step]) -> list[Step]:
    """The same with one pause, and a long one, where there are some in a row."""
    result: list[Step] = []
    for step in steps:
        if step[0] != "pass":
            result.append(step)
        elif result and result[-1][0] != "pass":
            result.append(("pass", 5))
    return result


def _sent_together(steps: list[Step]) -> list[Step]:
    """The same with all that a client sends in one piece."""
    result: list[Step] = []
    positions: dict[int, int] = {}
    for step in steps:
        if step[0] == "send" and step[1] in positions:
            position = positions[step[1]]
            result[position] = (*step[:2], result[position][2] + step[2])
        else:
            if step[0] == "send":
                positions[step[1]] = len(result)
            result.append(step)
    return result


def _shorter_send(steps: list[Step], number: int, fails: Callable[[list[Step]], bool]) -> list[Step]:
    """The same with fewer bytes in one step, if it is one that sends."""
    if steps[number][0] != "send":
        return steps
    *start, data = steps[number]

    def sending(octets: list[int]) -> list[Step]:
        return [*steps[:number], (*start, bytes(octets)), *steps[number + 1 :]]

    return sending(shorten(list(data), lambda octets: fails(sending(octets))))


def flat(memory: list[int]) -> bool:
    """Whether the memory in use stays as it is; always where there are too few figures to tell."""
    quarter = len(memory) // 4
    return quarter < 2 or min(memory[-quarter:]) < max(memory[quarter : 2 * quarter]) + GROWTH


def load_releases() -> None:
    """Have all that is known of each release in memory, where it stays once somebody has asked for it."""
    for name in release_names():
        release = load_release(name)
        for attribute, kind in vars(type(release)).items():
            if isinstance(kind, cached_property):
                getattr(release, attribute)


class Fuzz:
    """A run.  `seconds` is how long it takes; `show` is called after each round; `targets` are those of `TARGETS`."""

    def __init__(
        self,
        seed: int,
        seconds: float,
        show: Callable[[Fuzz], None] = lambda fuzz: None,
        targets: Sequence[int] = range(len(TARGETS)),
    ) -> None:
        self.seed = seed
        self.seconds = seconds
        self.tally = Tally()
        self.inputs = 0
        self.input_bytes = 0
        self._show = show
        self._targets = targets
        self._plan: list[Step] = []

    def run(self) -> None:
        """Go on until the time is over.

        :raise Finding: something is wrong.
        """
        try:
            with orphans_adopted():
                trio.run(self._run)
        except Finding as finding:
            finding.case |= {"seed": self.seed, "round": self.tally.rounds}
            raise
        except Exception as error:
            what = str(error) if isinstance(error, Fault) else traceback.format_exc()
            steps, what = shorter_plan(self._plan, what)
            case = {"steps": [_plain(step) for step in steps], "seed": self.seed, "round": self.tally.rounds}
            raise Finding(what, case) from None
        if not flat(self.tally.memory):
            raise Finding(f"memory grows: {self.tally.memory}", {"seed": self.seed, "rounds": self.tally.rounds})

    async def _run(self) -> None:
        load_releases()
        end = time.monotonic() + self.seconds
        finding: Finding | None = None
        async with storm(self.tally, self._targets) as clients:
            while time.monotonic() < end and finding is None:
                maker = Maker(random.Random(f"{self.seed}/{self.tally.rounds}"))
                try:
                    self.input_bytes += compare_some(maker, INPUTS)
                except Finding as found:
                    finding = found
                    break
                self.inputs += INPUTS
                self._plan = plan(maker, self._targets)
                await clients.take(self._plan)
                self.tally.rounds += 1
                if self.tally.rounds % MEASURED == 0:
                    clients.measure()
                self._show(self)
            clients.measure()
        if finding is not None:
            raise finding

    def summary(self) -> str:
        """What was done, in a few lines."""
        tally = self.tally
        memory = [size / (1 << 20) for size in tally.memory] or [math.nan]
        return (
            f"seed {self.seed}: {tally.rounds} rounds; the decoder's ways compared on {self.inputs} inputs"
            f" ({self.input_bytes / 1e6:.1f} MB); {tally.clients} clients sent {tally.bytes / 1e6:.1f} MB in"
            f" {tally.steps} steps, {tally.commands} commands were executed, {tally.answers} honest clients answered,"
            f" {tally.updates} processes were replaced, {tally.ended} machines ended by command;"
            f" memory {memory[len(memory) // 4]:.0f} MB after a quarter, {memory[-1]:.0f} MB at the end\n"
        )


def _plain(step: Step) -> list[Any]:
    return [each.decode("latin-1") if isinstance(each, bytes) else each for each in step]


def replay(case: dict[str, Any]) -> str | None:
    """Do again what a finding's file says; what is wrong, or None."""
    if "decoder" in case:
        return compared(case["decoder"])
    steps = [_step(step) for step in case["steps"]]
    # The order in which trio runs tasks is a matter of chance, and of some findings a part.
    for _ in range(ATTEMPTS):
        what = trio.run(taken, steps)
        if what is not None:
            return what
    return None


def _step(step: list[Any]) -> Step:
    return (*step[:2], step[2].encode("latin-1"), *step[3:]) if step[0] in ("send", "files") else tuple(step)


def write(finding: Finding, folder: str | Path) -> str:
    """Write a finding to a file of `folder`; the file's path."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"fuzz-{finding.case['seed']}-{finding.case.get('round', 'end')}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"what": finding.what, **finding.case}, file, indent=1)
        file.write("\n")
    return path


@contextmanager
def progress(seconds: float) -> Iterator[Callable[[Fuzz], None]]:
    """A way to show how far a run is: on a terminal alone."""
    if not sys.stderr.isatty():
        yield lambda fuzz: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None if math.isinf(seconds) else seconds)
        start = time.monotonic()

        def show(fuzz: Fuzz) -> None:
            text = f"{fuzz.tally.rounds} rounds, {fuzz.inputs} inputs, {fuzz.tally.clients} clients"
            shown.update(task, description=text, completed=time.monotonic() - start)

        yield show


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="fuzz",
        description="Sends random and damaged input to the decoder and to a fleet until something breaks.",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="how long [until interrupted]")
    parser.add_argument("--seed", type=int, metavar="N", help="where chance begins [anywhere]")
    parser.add_argument("--replay", metavar="FILE", help="do again what a finding's file says")
    parser.add_argument("-o", metavar="DIR", default=".", help="where findings are written [here]")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzz; the result is the exit status: 1 where something was found."""
    options = parse(arguments)
    if options.replay is not None:
        with open(options.replay, encoding="utf-8") as file:
            what = replay(json.load(file))
        sys.stdout.write(f"{what}\n" if what else "nothing is wrong\n")
        return int(what is not None)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    seconds = options.minutes * 60
    finding = None
    with progress(seconds) as show:
        fuzz = Fuzz(seed, seconds, show)
        try:
            fuzz.run()
        except Finding as found:
            finding = found
        except KeyboardInterrupt:
            sys.stderr.write("\n")
    sys.stdout.write(fuzz.summary())
    if finding is None:
        sys.stdout.write("nothing is wrong\n")
        return 0
    path = write(finding, options.o)
    sys.stdout.write(f"{finding.what}\nit can be done again: scripts/fuzz --replay {path}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
