"""The human monitor's commands for the ports of the host that a user network forwards (net/slirp.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.hardware.user_network import forwarded, forwarding

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.hardware.network import Network
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System


def _change(change: Callable[[System, str | None, str], str]) -> Part:
    """A command `[NETDEV] RULE`: it says by itself what is refused."""

    def run(system: System, line: Line) -> str:
        first = line.required()
        second = line.word()
        line.end()
        name, rule = (None, first) if second is None else (first, second)
        try:
            return change(system, name, rule)
        except Refusal as error:
            return f"{system.release.refusals.message(error)}\n"

    return run


def _network(system: System) -> Network:
    return system.inventory.backends.network


def _add(system: System, name: str | None, rule: str) -> str:
    netdev = _network(system).find_user(name)
    forward = forwarding(rule)
    _network(system).check_forwards([forward])
    netdev.forwards.append(forward)
    return ""


def _remove(system: System, name: str | None, rule: str) -> str:
    netdev = _network(system).find_user(name)
    try:
        forward = forwarded(rule)
    except ValueError:
        raise Refusal("forward-unreadable") from None
    kept = [each for each in netdev.forwards if not each.is_for(forward)]
    if len(kept) == len(netdev.forwards):
        return f"host forwarding rule for {rule} not found\n"
    netdev.forwards = kept
    return f"host forwarding rule for {rule} removed\n"


PARTS: dict[str, Part] = {
    "hostfwd_add": _change(_add),
    "hostfwd_remove": _change(_remove),
}
"""The commands, by their names."""
