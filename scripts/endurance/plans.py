"""A round of the fuzz: the steps of some clients, one after another, so that they can be written to a file, taken again
and made shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from endurance.children import FAILING, MOMENTS, NEVER_READY
from endurance.honest import questions
from endurance.targets import CONTROL, FLEET, PROGRAM, PUPPETS, TARGETS, UPDATED
from qmpd.control.whole import interface as control_interface
from qmpd.qapi import load_release

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from endurance.inputs import Maker

FORBIDDEN = (b"quit", b"create", b"destroy")
"""What does not go to the fleet's socket: it would change what the fuzz counts on."""

GOOD = "good"
CHILDREN = (GOOD,) * 4 + tuple(NEVER_READY) + tuple(f"{name} {moment}" for name in FAILING for moment in MOMENTS)
"""Who may be the child of a live update: this program, or one that does not do what it should."""

Step = tuple[Any, ...]


def plan(maker: Maker, targets: Sequence[int] = range(len(TARGETS))) -> list[Step]:
    """A round's steps against these targets; the second member of each, but of `pass`, is the number of a client.

    `connect` (to which target, by which door, with how much room for what is not read), `send`, `files` (sends, with
    so many open files), `ask` (commands that have to be answered, and the ids that their replies tell), `read`, `sip`
    (reads so many bytes), `settle` (reads until all that was asked is answered), `half-close`, `close`, `reset`; and of
    a target that can be updated live `update` (by which child).
    """
    random = maker.random
    scripts = [list(_script(maker, number, targets)) for number in range(random.choice([1, 3, 8, 16]))]
    steps: list[Step] = []
    while scripts:
        script = random.choice(scripts)
        # One client does a few things in a row now and then.
        count = random.choice([1, 1, 1, 3])
        steps += script[:count]
        del script[:count]
        if not script:
            scripts.remove(script)
        if random.random() < 0.4:
            steps.append(("pass", random.choice([1, 1, 2, 5])))
    return steps


def _script(maker: Maker, number: int, targets: Sequence[int]) -> Iterator[Step]:
    random = maker.random
    where = random.choice(targets) if random.random() < 0.95 else FLEET
    share = 0.2 if where in PUPPETS else 0.1 if where == PROGRAM else 0.0
    control = where == FLEET or random.random() < share
    door = CONTROL if control else random.randrange(TARGETS[where].doors or 1)
    yield ("connect", number, where, door, random.choice([0, 0, 0, 1, 30_000]))
    if where == UPDATED and random.random() < 0.15:
        yield ("update", number, random.choice(CHILDREN))
    elif not control and random.random() < 0.3:
        yield from _honest_script(maker, number)
    else:
        yield from _rude_script(maker, number, where, control)
    yield (random.choice(["close", "close", "reset"]), number)


def _honest_script(maker: Maker, number: int) -> Iterator[Step]:
    random = maker.random
    for _ in range(random.choice([1, 2, 5])):
        text, identities = questions(random, number, random.choice([1, 3, 20]))
        yield ("ask", number, text, identities)
        for _ in range(random.choice([0, 0, 1, 4])):
            yield ("sip", number, random.choice([1, 100, 5000]))
    yield ("settle", number)


def _rude_script(maker: Maker, number: int, where: int, control: bool) -> Iterator[Step]:
    random = maker.random
    release = load_release(TARGETS[where].release)
    data = _control_stream(maker, where == FLEET) if control else maker.stream(release, random.random() < 0.8)
    if where == PROGRAM and random.random() < 0.3:
        yield ("files", number, maker.with_files(), random.randrange(1, 4))
    reads = random.random() < 0.7
    for piece in maker.slices(data):
        yield ("send", number, piece)
        if reads and random.random() < 0.5:
            yield ("read", number)
    if random.random() < 0.3:
        yield ("half-close", number)
        yield ("pass", 3)
        yield ("read", number)


def _control_stream(maker: Maker, fleet: bool) -> bytes:
    from qmpd.control.fleet import fleet_interface

    interface = fleet_interface() if fleet else control_interface()
    parts = [b'{"execute":"qmp_capabilities"}']
    for _ in range(maker.random.randrange(1, 6)):
        part = maker.noise() if maker.random.random() < 0.1 else maker.command(interface, lively=0)
        if not (fleet and any(each in part for each in FORBIDDEN)):
            parts.append(part)
    return b"\n".join(parts)
