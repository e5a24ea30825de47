"""The human monitor's commands for jobs on disks.  (QEMU's block-hmp-cmds.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.human.asking import ask, carry_out, execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.human.line import Line
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System

    Values = dict[str, Any]
    Action = Callable[[System, Values], str | Deferred]


def _stream(system: System, values: Values) -> str:
    return execute(system, "block-stream", {"job-id": values["device"], **values})


def _copy(name: str) -> Action:
    """`drive_mirror` and `drive_backup`: the whole disk with `-f`, into an image that is there with `-n`."""

    def action(system: System, values: Values) -> str | Deferred:
        given: Values = {each: values[each] for each in ("device", "target", "format") if each in values}
        given["sync"] = "full" if values["full"] else "top"
        given["mode"] = "existing" if values["reuse"] else "absolute-paths"
        if values.get("compress"):
            given["compress"] = True
        return carry_out(system, name, given)

    return action


def _cancel(system: System, values: Values) -> str:
    return execute(system, "block-job-cancel", {"device": values["device"], "force": bool(values["force"])})


def _verb(name: str) -> Action:
    def action(system: System, values: Values) -> str:
        return execute(system, name, values)

    return action


def info_jobs(system: System, line: Line) -> str:
    """`info block-jobs`."""
    line.end()
    said = ""
    for job in ask(system, "query-block-jobs"):
        what = "Streaming device" if job["type"] == "stream" else f"Type {job['type']}, device"
        said += (
            f"{what} {job['device']}: Completed {job['offset']} of {job['len']} bytes,"
            f" speed limit {job['speed']} bytes/s\n"
        )
    return said or "No active jobs\n"


ACTIONS: dict[str, Action] = {
    "block_stream": _stream,
    "drive_backup": _copy("drive-backup"),
    "drive_mirror": _copy("drive-mirror"),
    "block_job_cancel": _cancel,
    "block_job_complete": _verb("block-job-complete"),
    "block_job_pause": _verb("block-job-pause"),
    "block_job_resume": _verb("block-job-resume"),
    "block_job_set_speed": _verb("block-job-set-speed"),
}
"""What they do, by their names."""
