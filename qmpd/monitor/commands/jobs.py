"""QAPI module `job`, and the commands of `block-core` that are about block jobs whatever their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.jobs.block_job import BlockJob
from qmpd.common.refusals import Refusal
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.jobs.job import Job
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def find_job(system: System, name: str) -> Job:
    """The job of this name.

    :raise Refusal: there is none.
    """
    job = None if system.is_bare else system.jobs.find(name)
    if job is None:
        raise Refusal("job-missing")
    return job


def find_block_job(system: System, name: str) -> BlockJob:
    """The block job of this name.

    :raise Refusal: there is none.
    """
    job = None if system.is_bare else system.jobs.find(name)
    if not isinstance(job, BlockJob):
        raise Refusal("block-job-missing", id=name)
    return job


def _verb(name: str, block: str, argument: str, do: Callable[[Job], None]) -> None:
    """Register a verb's two commands, the one of all jobs and the one of block jobs."""

    def of_job(system: System, session: Client, arguments: Arguments) -> object:
        do(find_job(system, cast("str", arguments["id"])))
        return EMPTY

    def of_block_job(system: System, session: Client, arguments: Arguments) -> object:
        do(find_block_job(system, cast("str", arguments[argument])))
        return EMPTY

    command(name)(of_job)
    command(block)(of_block_job)


_verb("job-pause", "block-job-pause", "device", lambda job: job.user_pause())
_verb("job-resume", "block-job-resume", "device", lambda job: job.user_resume())
_verb("job-complete", "block-job-complete", "device", lambda job: job.user_complete())
_verb("job-finalize", "block-job-finalize", "id", lambda job: job.user_finalize())
_verb("job-dismiss", "block-job-dismiss", "id", lambda job: job.user_dismiss())


@command("job-cancel")
def job_cancel(system: System, session: Client, arguments: Arguments) -> object:
    find_job(system, cast("str", arguments["id"])).user_cancel(force=True)
    return EMPTY


@command("block-job-cancel")
def block_job_cancel(system: System, session: Client, arguments: Arguments) -> object:
    cancel(find_block_job(system, cast("str", arguments["device"])), force=bool(arguments.get("force")))
    return EMPTY


def cancel(job: BlockJob, *, force: bool) -> None:
    """Cancel a block job as its own command does.

    :raise Refusal: it cannot be cancelled, or only by force.
    """
    if job.user_paused and not force:
        raise Refusal("block-job-paused", id=job.identifier)
    job.user_cancel(force=force)


@command("block-job-set-speed")
def block_job_set_speed(system: System, session: Client, arguments: Arguments) -> object:
    find_block_job(system, cast("str", arguments["device"])).set_speed(cast("int", arguments["speed"]))
    return EMPTY


@command("block-job-change")
def block_job_change(system: System, session: Client, arguments: Arguments) -> object:
    job = find_block_job(system, cast("str", arguments["id"]))
    job.ask("change")
    job.change(cast("dict[str, Any]", arguments))
    return EMPTY


@command("query-jobs")
def query_jobs(system: System, session: Client, arguments: Arguments) -> object:
    return [] if system.is_bare else [job.query() for job in system.jobs]


@command("query-block-jobs")
def query_block_jobs(system: System, session: Client, arguments: Arguments) -> object:
    return [] if system.is_bare else [job.query_block() for job in system.jobs if isinstance(job, BlockJob)]
