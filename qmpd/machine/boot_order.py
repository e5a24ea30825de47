"""The order of the devices that a machine starts from: letters, as for disks (QEMU's bootdevice.c, hw/i386/pc.c)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from qmpd.machine.boards import Board
    from qmpd.machine.machine import Machine

_MOST = 3


def check(order: str) -> None:
    """Refuse what no machine has, or what is named twice.

    :raise Refusal: the order has one of these.
    """
    for number, letter in enumerate(order):
        if not "a" <= letter <= "p":
            raise Refusal("boot-order-letter", letter=letter)
        if letter in order[:number]:
            raise Refusal("boot-order-twice", letter=letter)


def check_board(order: str, board: Board) -> None:
    """Refuse what the firmware of this board does not start from.

    :raise Refusal: the order has that, or too much.
    """
    if not board.boots_from:
        return
    if len(order) > _MOST:
        raise Refusal("boot-order-long")
    for letter in order:
        if letter not in board.boots_from:
            raise Refusal("boot-order-unknown", letter=letter)


def choose(machine: Machine, order: str) -> None:
    """Have the firmware try these from its next start on, whatever was said of one start alone.

    :raise Refusal: it does not.
    """
    board = machine.settings.board
    check(order)
    if not board.boots_from:
        raise Refusal("boot-order-fixed")
    check_board(order, board)
    machine.settings = replace(machine.settings, boot_order=order, boot_once="")
