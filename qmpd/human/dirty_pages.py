"""The human monitor's commands about pages that the guest writes to (QEMU's migration/dirtyrate.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.human.asking import answer, call
from qmpd.human.declared import acting, declare
from qmpd.migration.dirty_rate import BITMAP, RING, SAMPLING

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.declared import Action
    from qmpd.system.system import System

    Values = dict[str, Any]

_LOOK = "[Please use 'info vcpu_dirty_limit' to query dirty limit for virtual CPU]\n"


def _calculate(system: System, values: Values) -> str:
    seconds = values["calc-time"]
    if not seconds:
        return "Incorrect period length specified!\n"
    if values["ring"] and values["bitmap"]:
        return "Either dirty ring or dirty bitmap can be specified!\n"
    given: Values = {"calc-time": seconds, "mode": _mode(values)}
    if "sample-pages" in values:
        given["sample-pages"] = values["sample-pages"]
    call(system, "calc-dirty-rate", given)
    return (
        f"Starting dirty rate measurement with period {seconds} seconds\n"
        "[Please use 'info dirty_rate' to check results]\n"
    )


def _mode(values: Values) -> str:
    return RING if values["ring"] else BITMAP if values["bitmap"] else SAMPLING


def _rate(system: System, values: Values) -> str:
    rate = answer(system, "query-dirty-rate")
    said = f"Status: {rate['status']}\nStart Time: {rate['start-time']} (ms)\n"
    if rate["mode"] == SAMPLING:
        said += f"Sample Pages: {rate['sample-pages']} (per GB)\n"
    told = f"{rate['dirty-rate']} (MB/s)" if "dirty-rate" in rate else "(not ready)"
    return f"{said}Period: {rate['calc-time']} (sec)\nMode: {rate['mode']}\nDirty rate: {told}\n"


def _set_limit(system: System, values: Values) -> str:
    call(system, "set-vcpu-dirty-limit", values)
    return _LOOK


def _cancel_limit(system: System, values: Values) -> str:
    call(system, "cancel-vcpu-dirty-limit", values)
    return _LOOK


def _no_limits(system: System, values: Values) -> str:
    return "Dirty page limit not enabled!\n"


def _parts(declared: dict[str, tuple[str, Action]]) -> dict[str, Part]:
    return {name: acting(name, declare(text), action) for name, (text, action) in declared.items()}


PARTS = _parts(
    {
        "calc_dirty_rate": ("ring:-r bitmap:-b calc-time:number sample-pages:number?", _calculate),
        "set_vcpu_dirty_limit": ("dirty-rate:number cpu-index:number?", _set_limit),
        "cancel_vcpu_dirty_limit": ("cpu-index:number?", _cancel_limit),
    }
)
"""The commands, by their names."""
INQUIRIES = _parts({"dirty_rate": ("", _rate), "vcpu_dirty_limit": ("", _no_limits)})
"""What `info` shows, by the words after it."""
