"""The command line of `scripts/soak`."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trio.testing

from endurance import agents, plot
from endurance.actor import Place, Wrong
from endurance.client import Client, Lost
from endurance.hosted import Bare, Hosted, Program, Updated
from endurance.ledger import Ledger
from endurance.pressure import Kept, Player
from endurance.process import orphans_adopted
from endurance.steady import Unexpected
from endurance.storm import Log, connections, files, memory
from endurance.storm import parse as parse_options
from qmpd.server import log
from qmpd.server.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from endurance.actor import Actor

MOST_WRONG = 10
"""Things that are wrong after which a soak does not go on."""

FAILURES = (Wrong, Lost, Unexpected, OSError, ValueError, KeyError, IndexError, StopIteration)
"""What a step raises where the server has done something wrong."""

SAMPLED = 1.0
"""Seconds between two looks at the memory in use."""

KEPT = 4
"""One of so many machines of the fleet lives for the whole run."""

PROCESSES = (Updated, Program, Bare)
"""Machines that have a process each, one after another as many as are asked for."""

SHOWN = 1000
"""Characters of a line that are shown where something is wrong."""


ENTRY = 500
"""Bytes that an entry of a transcript takes beside its message, about."""
_LIBRARY = ctypes.CDLL(None)


class Soak:
    """A fleet in this process, some machines that have a process each, and those who use them.

    It lasts `seconds`, or `steps` in virtual time: then one machine acts after another, trio's own choices come from
    the seed, too, and the same seed gives the same transcript (`ledger.digest`); there are no other processes then.
    """

    def __init__(
        self,
        seed: int,
        machines: int,
        clients: int,
        seconds: float = math.inf,
        steps: int = 0,
        processes: int = len(PROCESSES),
    ) -> None:
        self.seed = seed
        self.machines = machines
        self.clients = clients
        self.processes = 0 if steps else processes
        self.seconds = seconds
        self.steps = steps
        self.ledger = Ledger()
        self.show: Callable[[Ledger], None] = lambda ledger: None
        self._fleet: Fleet
        self._errors = Log()

    def run(self) -> Ledger:
        """Go on until it is over."""
        former, log.error = log.error, self._errors
        try:
            if not self.steps:
                with orphans_adopted():
                    trio.run(self._run)
            else:
                self._run_virtual()
        except KeyboardInterrupt:
            pass
        finally:
            log.error = former
        return self.ledger

    def _run_virtual(self) -> None:
        """Have trio take its tasks in an order that comes from the seed (as hypothesis does), on a clock of its own."""
        scheduler = trio._core._run
        former = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
        scheduler._r.seed(self.seed)
        try:
            trio.run(self._run, clock=trio.testing.MockClock(autojump_threshold=0.02))
        finally:
            scheduler._ALLOW_DETERMINISTIC_SCHEDULING = former  # type: ignore[misc]

    async def _run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="qmpd-soak-") as folder:
            fleet = self._fleet = Fleet(folder, parse_options(None, [])[0], parse_options)
            fleet.listen()
            ready = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fleet.run, 0, ready.set, lambda number: None)
                await ready.wait()
                before = files()
                client = Client("fleet")
                await client.connect(fleet.path)
                await client.send(b'{"execute":"qmp_capabilities"}')
                await client.until(b"\r\n", 2)
                client.take()
                actors = self._actors(client)
                hosted = self._hosted(Path(folder), nursery)
                try:
                    await (self._one_by_one(actors) if self.steps else self._all_at_once(actors, hosted))
                finally:
                    for actor in (*actors, *hosted):
                        actor.close()
                    for each in hosted:
                        if each.name:
                            each.process.kill()
                if not self.ledger.wrong:
                    await self._nothing_is_left(client, actors, before + 2)
                client.close()
                failed = fleet.statistics().failed
                if failed and not self.ledger.wrong:
                    self.ledger.wrong.append(f"{failed} machines have failed:\n" + "\n".join(self._errors.lines))
                nursery.cancel_scope.cancel()

    def _actors(self, fleet: Client) -> list[Actor]:
        lock = trio.Lock()

        async def create(name: str, release: str, options: list[str]) -> Place:
            arguments = {"name": name, "release": release, "options": options}
            async with lock:
                await fleet.send(json.dumps({"execute": "create", "arguments": arguments}).encode())
                await fleet.until(b"\r\n")
                reply = json.loads(fleet.take())
            if "error" in reply:
                raise Wrong(f"{name} cannot be made: {reply['error']['desc']}")
            made = reply["return"]
            return Place(release, [made["qmp-path"]], made["control-path"])

        actors: list[Actor] = [
            (Kept if number % KEPT == 0 else Player)(number, self.clients, self._chance(number), self.ledger, create)
            for number in range(self.machines)
        ]
        for actor in actors:
            actor.leisurely = not self.steps
        return actors

    def _hosted(self, folder: Path, nursery: trio.Nursery) -> list[Hosted]:
        return [
            PROCESSES[number % len(PROCESSES)](
                number, min(self.clients, 3), self._chance(f"process {number}"), self.ledger, folder, nursery
            )
            for number in range(self.processes)
        ]

    def _chance(self, whose: object) -> random.Random:
        return random.Random(f"{self.seed}/{whose}")

    # At the computer's pace

    async def _all_at_once(self, actors: list[Actor], hosted: list[Hosted]) -> None:
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sample, start, hosted)
            async with trio.open_nursery() as playing:
                for each in hosted:
                    playing.start_soon(self._go_on_to_the_end, each, start + self.seconds)
                with trio.CancelScope(deadline=start + self.seconds):
                    async with trio.open_nursery() as fleet:
                        for actor in actors:
                            fleet.start_soon(self._go_on, actor)
            nursery.cancel_scope.cancel()

    async def _go_on(self, actor: Actor) -> None:
        begun = False
        while len(self.ledger.wrong) < MOST_WRONG:
            begun = await self._try(actor, begun)

    async def _go_on_to_the_end(self, actor: Hosted, end: float) -> None:
        begun = False
        while len(self.ledger.wrong) < MOST_WRONG and trio.current_time() < end:
            begun = await self._try(actor, begun)
        if begun:
            try:
                await actor.finish()
            except FAILURES as error:
                self._note(actor, error)

    async def _try(self, actor: Actor, begun: bool) -> bool:
        """One step of one machine's; whether the machine can go on."""
        try:
            await (actor.step() if begun else actor.begin())
        except FAILURES as error:
            self._note(actor, error)
            return False
        self.ledger.steps += begun
        self.show(self.ledger)
        return True

    def _note(self, actor: Actor, error: Exception) -> None:
        what = str(error) if isinstance(error, Wrong | Unexpected) else traceback.format_exc()
        lines = [line for line in self.ledger.last if actor.name in line]
        self.ledger.wrong.append("\n".join(line[:SHOWN] for line in (*self._errors.lines, *lines, what)))
        self._errors.lines.clear()

    async def _sample(self, start: float, hosted: list[Hosted]) -> None:
        while True:
            self.ledger.memory.append((trio.current_time() - start, self._in_use()))
            for each in hosted:
                if each.name:
                    each.process.look()
            await trio.sleep(SAMPLED)

    def _in_use(self) -> int:
        """Bytes in use, without what transcripts keep: that grows up to a bound for each machine."""
        puppeteers = [member.vm.puppeteer for member in self._fleet._members.values()]
        kept = [each.recorder.kept for each in puppeteers if each is not None]
        self.ledger.kept = sum(count * ENTRY + size for count, size in kept)
        # What large replies took in this process, which has the clients, too, goes back to the system.
        _LIBRARY.malloc_trim(0)
        return memory() - self.ledger.kept

    async def _nothing_is_left(self, fleet: Client, actors: list[Actor], before: int) -> None:
        """When clients are gone nothing is left of them, and of machines that are gone no open file is."""
        living = {id(member.vm) for member in self._fleet._members.values()}
        left = await _settled(lambda: connections(living).splitlines())
        for actor in actors:
            message = {"execute": "destroy", "arguments": {"name": actor.name}}
            await fleet.send(json.dumps(message).encode())
            await fleet.until(b"\r\n")
            fleet.take()
        left += await _settled(lambda: [f"{files() - before} open files"] if files() > before else [])
        self.ledger.wrong += [f"left at the end: {what}" for what in left]

    # In virtual time

    async def _one_by_one(self, actors: list[Actor]) -> None:
        chance = random.Random(self.seed)
        begun: set[Actor] = set()
        every = max(1, self.steps // 60)
        for number in range(self.steps):
            actor = chance.choice(actors)
            if await self._try(actor, actor in begun):
                begun.add(actor)
            else:
                begun.discard(actor)
            if number % every == 0:
                self.ledger.memory.append((number, self._in_use()))
            if len(self.ledger.wrong) >= MOST_WRONG:
                break


async def _settled(look: Callable[[], list[str]]) -> list[str]:
    """What is still there when everybody has had the time to go."""
    left: list[str] = []
    for _ in range(100):
        await trio.sleep(0.1)
        left = look()
        if not left:
            break
    return left


@contextmanager
def progress(soak: Soak) -> Iterator[None]:
    """Show how far a soak is: on a terminal alone."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        total = float(soak.steps) if soak.steps else soak.seconds
        task = shown.add_task("", total=None if math.isinf(total) else total)
        start = time.monotonic()

        def show(ledger: Ledger) -> None:
            text = f"{ledger.steps} steps, {ledger.commands} commands, {len(ledger.wrong)} wrong"
            done = ledger.steps if soak.steps else time.monotonic() - start
            shown.update(task, description=text, completed=done)

        soak.show = show
        yield


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="soak",
        description="Runs a fleet under mixed traffic with faults and guest actions and checks every reply and event.",
    )
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="how long [until interrupted]")
    parser.add_argument("--vms", type=int, default=20, metavar="N", help="how many machines at once [%(default)s]")
    parser.add_argument("--clients", type=int, default=4, metavar="K", help="clients of each machine [%(default)s]")
    parser.add_argument(
        "--processes",
        type=int,
        default=len(PROCESSES),
        metavar="P",
        help="machines that have a process each, beside those [%(default)s]",
    )
    parser.add_argument(
        "--agents",
        type=int,
        default=0,
        metavar="N",
        help="so many guests' agents beside those, in a fleet of their own, each asked once a second [%(default)s]",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="where chance begins [anywhere]")
    parser.add_argument("--virtual", action="store_true", help="in virtual time: the same seed does the same again")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="how many, in virtual time [%(default)s]")
    parser.add_argument("-o", metavar="DIR", help="write a picture of the memory, and what is wrong, to this folder")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the soak; the result is the exit status: 1 where something was lost or wrong."""
    options = parse(arguments)
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    steps = options.steps if options.virtual else 0
    soak = Soak(seed, options.vms, options.clients, options.minutes * 60, steps, options.processes)
    start = time.monotonic()
    with progress(soak), ExitStack() as stack:
        asking = None
        if options.agents:
            fleet = stack.enter_context(agents.Fleet(options.agents))
            asking = threading.Thread(target=trio.run, args=(fleet.ask, options.minutes * 60), daemon=True)
            asking.start()
        ledger = soak.run()
        if asking is not None:
            asking.join(agents.PATIENCE * 2)
            if asking.is_alive():
                fleet.polling.wrong.append("the agents were not asked to the end")
            sys.stdout.write(fleet.polling.summary(options.agents))
            ledger.wrong += fleet.polling.wrong
    gc.collect()
    how = f"--virtual --steps {steps}" if steps else f"--minutes {options.minutes:g} --processes {soak.processes}"
    again = f"again: scripts/soak --seed {seed} {how} --vms {soak.machines} --clients {soak.clients}"
    sys.stdout.write(f"seed {seed}, {time.monotonic() - start:.0f} seconds ({again})\n{ledger.summary()}")
    sizes = [size for _, size in ledger.memory]
    if sizes:
        first, last = sizes[len(sizes) // 4] / (1 << 20), sizes[-1] / (1 << 20)
        sys.stdout.write(
            f"memory {plot.sparkline(sizes)} {first:.0f} MB after a quarter, {last:.0f} MB at the end,"
            f" without the {ledger.kept >> 20} MB that transcripts keep by then\n"
        )
    if steps:
        sys.stdout.write(f"transcript {ledger.digest}\n")
    if options.o is not None:
        write(options.o, seed, steps, ledger)
    for what in ledger.wrong:
        sys.stdout.write(f"\n{what}\n")
    return int(bool(ledger.wrong))


def write(folder: str, seed: int, steps: int, ledger: Ledger) -> None:
    """Write the picture, and what is wrong, to files."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"soak-{seed}.svg"), "w", encoding="utf-8") as file:
        file.write(plot.svg(ledger.memory, f"memory of a soak, seed {seed}", "steps" if steps else "s"))
    if ledger.wrong:
        with open(os.path.join(folder, f"soak-{seed}.txt"), "w", encoding="utf-8") as file:
            file.write("\n\n".join(ledger.wrong) + "\n")


if __name__ == "__main__":
    sys.exit(main())
