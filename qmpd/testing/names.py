"""Whether a name that a test waits for, or asserts, can come at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.jobs.states import JobStatus
from qmpd.common.suggestions import suggestion
from qmpd.machine import RunState

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterable

    from qmpd.qapi import Release
    from qmpd.testing.patterns import CommandPattern

_WILDCARDS = frozenset("*?[")
_RUN_STATES = frozenset(str(state) for state in RunState)
_JOB_STATUSES = frozenset(str(status) for status in JobStatus)


class UnknownNameError(ValueError):
    """There is no event, command or run state of that name; the text says which one may be meant."""


def check_event(release: Release, name: str | re.Pattern[str], seen: Iterable[str]) -> None:
    """Refuse the name of an event that the release does not have, and that was not seen either.

    :raise UnknownNameError: there is none.
    """
    __tracebackhide__ = True
    _check("event", release, name, release.events, seen)


def check_commands(release: Release, patterns: Iterable[CommandPattern], seen: Iterable[str]) -> None:
    """Refuse the names of commands that the release does not have, and that nobody has sent either.

    :raise UnknownNameError: there is none.
    """
    __tracebackhide__ = True
    sent = list(seen)
    for pattern in patterns:
        _check("command", release, pattern.name, release.commands, sent)


def check_run_state(state: str) -> None:
    """Refuse what is no run state of any release.

    :raise UnknownNameError: it is none.
    """
    __tracebackhide__ = True
    if state not in _RUN_STATES:
        raise UnknownNameError(f"there is no run state '{state}'{suggestion(state, _RUN_STATES)}")


def check_job_status(status: str) -> None:
    """Refuse what is no status of jobs.

    :raise UnknownNameError: it is none.
    """
    __tracebackhide__ = True
    if status not in _JOB_STATUSES:
        raise UnknownNameError(f"there is no job status '{status}'{suggestion(status, _JOB_STATUSES)}")


def _check(
    kind: str, release: Release, name: str | re.Pattern[str], known: Collection[str], seen: Iterable[str]
) -> None:
    __tracebackhide__ = True
    if not isinstance(name, str) or name in known or _WILDCARDS.intersection(name) or name in seen:
        return
    raise UnknownNameError(f"QEMU {release.name} has no {kind} '{name}'{suggestion(name, known)}")
