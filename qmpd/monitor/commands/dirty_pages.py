"""The commands of QAPI's module `migration` about pages that the guest writes to: how many, and how many it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.refusals import Refusal
from qmpd.migration.dirty_rate import SECOND
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.qapi.introspection import Object

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("calc-dirty-rate")
def calc_dirty_rate(system: System, session: Client, arguments: Arguments) -> object:
    system.dirty_rate.begin(arguments, system.release.behaviour)
    return EMPTY


@command("query-dirty-rate")
def query_dirty_rate(system: System, session: Client, arguments: Arguments) -> object:
    """What the release knows of it."""
    known = system.release.introspection
    told = known.type(known.command("query-dirty-rate").returns)
    assert isinstance(told, Object)
    members = {each.name for each in told.members}
    found = system.dirty_rate.query(cast("str", arguments.get("calc-time-unit", SECOND)))
    return {name: value for name, value in found.items() if name in members}


@command("set-vcpu-dirty-limit")
def set_limit(system: System, session: Client, arguments: Arguments) -> object:
    """KVM's ring of dirty pages is needed for that, which no machine here has."""
    raise Refusal("dirty-limit-kvm")


@command("cancel-vcpu-dirty-limit")
def cancel_limit(system: System, session: Client, arguments: Arguments) -> object:
    """There is no limit to take back."""
    return EMPTY


@command("query-vcpu-dirty-limit")
def query_limits(system: System, session: Client, arguments: Arguments) -> object:
    """No virtual CPU has one."""
    return []
