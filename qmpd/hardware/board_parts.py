"""The devices that a board makes for itself, as the command line wants them: its screen, ports and network cards.

(`pc_vga_init`, `pc_superio_init` and `pc_nic_init` in QEMU's hw/i386.)  Where they come among the board's other devices
was seen on releases 5.2 to 11.1; `qmpd.machine.boards` has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import NotModelled
from qmpd.hardware.assembly import UNATTACHED
from qmpd.machine.blueprint import Place

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from qmpd.hardware.devices import Devices
    from qmpd.machine.blueprint import BoardPart
    from qmpd.machine.boards import Board


def add_board_parts(devices: Devices, parts: Iterable[BoardPart], board: Board) -> None:
    """Make them, in the order in which boards do.

    :raise NotModelled: nothing is known of devices of a type.
    :raise Refusal: one is refused.
    """
    chosen = list(parts)
    for place in Place:
        for there, each in enumerate(each for each in chosen if each.place is place):
            bus = devices.bus_for(each.driver)
            if bus is None:
                raise NotModelled(f"the board's {each.driver}")
            number = _number(devices, board, place)
            if number is not None and place is not Place.PORT:
                number += there
            devices.add_own(each.driver, bus, dict(each.properties), cold=True, number=number)


def _number(devices: Devices, board: Board, place: Place) -> int | None:
    """The number that the next device of this place has; None: it comes behind all that there are."""
    if place is Place.PORT:
        return min(_numbers(devices, board.ports_before), default=None)
    behind = _numbers(devices, {board.screen_behind if place is Place.SCREEN else board.cards_behind})
    return 1 + max(behind) if behind else None


def _numbers(devices: Devices, types: Container[str]) -> list[int]:
    """The numbers of the board's own devices of these types."""
    nodes = [each.node for each in devices.buses.devices.values() if each.node.type in types]
    own = [node.name for node in nodes if node.parent is not None and node.parent.path == UNATTACHED]
    return [int(name[len("device[") : -1]) for name in own]
