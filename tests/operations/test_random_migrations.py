"""Random two-sided migrations: qmpd, under virtual time, and the real programs have to say the same.

What is held back by a limit stays where it is, so that nothing depends on the moment; what is not held back is over
before the next step.  `QMPD_EXAMPLES` sets how many are tried with each release that is there.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.operations.two_sides import (
    CUT,
    KILL,
    MAIN,
    PATIENTLY,
    PEER,
    Setting,
    Step,
    ask_qemu,
    ask_qmpd,
    execute,
    same,
)
from tests.real_qemu import programs

if TYPE_CHECKING:
    from tests.operations.two_sides import Said

EXAMPLES = int(os.environ.get("QMPD_EXAMPLES", "0"))
DEFAULT_EXAMPLES = {"7.2": 2, "10.0": 1, "11.1": 1}
RELEASES = ("7.2", "10.0", "11.1")
TRIES = 8
"""How often the real program is asked at most: some of what it says depends on which of its threads is first."""

# Capabilities of both sides, and of the source alone.
_BOTH = ("return-path", "xbzrle", "postcopy-ram", "release-ram", "late-block-activate", "validate-uuid", "multifd")
_SOURCE = ("pause-before-switchover", "auto-converge", "xbzrle", "return-path")
_HELD = {"max_bandwidth": 4096, "downtime_limit": 1, "max_postcopy_bandwidth": 4096}
_FREE = {"max_bandwidth": 0, "downtime_limit": 300, "max_postcopy_bandwidth": 0}
_STATES = ("pre-switchover", "device", "active", "completed", "none")


# Which QEMU 7.2 never ends that is cancelled, where another process has the other end.
_NEVER_CANCELLED = "return-path"


def capabilities(*names: str, state: bool = True) -> str:
    return execute("migrate-set-capabilities", capabilities=[{"capability": name, "state": state} for name in names])


def _migrations() -> st.SearchStrategy[str]:
    return st.sampled_from(
        [
            execute("migrate", uri="unix:@DIR@/r.sock"),
            execute("migrate", uri="unix:@DIR@/r.sock"),
            execute("migrate", uri="unix:@DIR@/m.sock"),
            execute("migrate", uri="exec:cat >@DIR@/m.bin"),
            execute("migrate", uri="unix:@DIR@/none"),
            execute("migrate", uri="unix:@DIR@/r.sock", resume=True),
            execute("migrate", uri="exec:false"),
        ]
    )


@st.composite
def _source_step(draw: st.DrawFn) -> Step:
    kind = draw(st.sampled_from(["run", "look", "move", "verb", "verb", "settings", "end"]))
    if kind == "run":
        return Step(MAIN, execute(draw(st.sampled_from(["cont", "stop", "cont", "system_reset", "system_powerdown"]))))
    if kind == "look":
        return Step(MAIN, execute(draw(st.sampled_from(["query-status", "query-migrate"]))))
    if kind == "move":
        return Step(MAIN, draw(_migrations()))
    if kind == "verb":
        verb = draw(st.sampled_from(["cancel", "cancel", "continue", "pause", "postcopy", "recover"]))
        return Step(MAIN, {
            "cancel": execute("migrate_cancel"),
            "continue": execute("migrate-continue", state=draw(st.sampled_from(_STATES[:1] * 3 + _STATES))),
            "pause": execute("migrate-pause"),
            "postcopy": execute("migrate-start-postcopy"),
            "recover": execute("migrate-recover", uri="unix:@DIR@/q.sock"),
        }[verb])  # fmt: skip
    if kind == "settings":
        given = draw(st.sampled_from([_HELD, _FREE, _FREE]))
        return Step(MAIN, execute("migrate-set-parameters", **given))
    return Step(MAIN, draw(st.sampled_from([CUT, CUT, KILL, execute("quit")])))


@st.composite
def _target_step(draw: st.DrawFn) -> Step:
    what = draw(
        st.sampled_from(
            [
                *map(execute, ("cont", "stop", "query-status", "query-status", "query-migrate", "migrate-pause")),
                execute("migrate-incoming", uri="unix:@DIR@/m.sock"),
                execute("migrate-recover", uri="unix:@DIR@/n.sock"),
                execute("migrate", uri="unix:@DIR@/none"),
                execute("migrate_cancel"),
                execute("quit"),
                KILL,
            ]
        )
    )
    return Step(PEER, what)


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Setting, list[Step]]:
    """How both are started, and what happens then: a migration soon, and what comes in between."""
    setting = Setting(deferred=draw(st.integers(0, 3)) == 0, stopped=draw(st.booleans()))
    events = capabilities("events")
    steps = [Step(MAIN, events), Step(PEER, events)]
    both = draw(st.lists(st.sampled_from(_BOTH), max_size=2, unique=True))
    if not setting.deferred:
        both = [each for each in both if each != "multifd"]  # later releases refuse it there then
    source = draw(st.lists(st.sampled_from(_SOURCE), max_size=2, unique=True))
    if both:
        steps += [Step(MAIN, capabilities(*both)), Step(PEER, capabilities(*both))]
    if source:
        steps.append(Step(MAIN, capabilities(*source)))
    if draw(st.booleans()):
        steps.append(Step(MAIN, execute("cont")))
    if setting.deferred and draw(st.integers(0, 3)):
        steps.append(Step(PEER, execute("migrate-incoming", uri="unix:@DIR@/m.sock")))
    if draw(st.integers(0, 3)):
        steps.append(Step(MAIN, execute("migrate-set-parameters", **_HELD)))
    if draw(st.integers(0, 4)):
        steps.append(Step(MAIN, execute("migrate", uri="unix:@DIR@/r.sock")))
    steps += draw(st.lists(st.one_of(_source_step(), _source_step(), _target_step()), min_size=2, max_size=7))
    if _NEVER_CANCELLED in (*both, *source):
        steps = [each for each in steps if "exec:" not in each.what]
    look = execute("query-status")
    return setting, [*steps, Step(MAIN, look), Step(PEER, look), Step(MAIN, execute("query-migrate"))]


def _told(said: Said, step: Step) -> str:
    return json.dumps({"step": step, "main": said.main, "peer": said.peer}, indent=1)


@pytest.mark.parametrize("release", RELEASES)
def test_both_sides_say_what_real_ones_say(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")

    @settings(
        max_examples=EXAMPLES or DEFAULT_EXAMPLES[release], deadline=None, derandomize=not EXAMPLES, database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(sequences())
    def check(example: tuple[Setting, list[Step]]) -> None:
        setting, steps = example
        ours, ended = trio.run(ask_qmpd, release, setting, steps)
        for left in reversed(range(TRIES)):
            if left == TRIES - 2:
                # Once more, for as long as a loaded computer may need to carry what they say from one to the other.
                ours, ended = trio.run(ask_qmpd, release, setting, steps, PATIENTLY)
            theirs, real_ended = ask_qemu(release, setting, steps, ours)
            if len(theirs) == len(ours) and same(theirs[-1], ours[-1]) and real_ended == ended:
                return
            if not left:
                for step, mine, real in zip(steps, ours, theirs, strict=False):
                    assert same(mine, real), f"{setting}\nqmpd: {_told(mine, step)}\nQEMU: {_told(real, step)}"
                assert ended == real_ended

    check()
