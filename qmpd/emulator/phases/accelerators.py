"""`-accel`: what executes the guest's code, the first of those asked for that there is (accel/accel-system.c)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qmpd.option_language.errors import NOWHERE, OptionError

if TYPE_CHECKING:
    from qmpd.emulator.phases.board import Board
    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.option_language.groups import Entry


def choose_accelerator(options: EmulatorOptions, board: Board, listed: str | None) -> str:
    """The accelerator; `listed` are those of `-machine accel=`.

    :raise OptionError: they exclude each other, or one has no such property.
    :raise OptionList: there is none; that has been told.
    """
    entries = options.groups.find("accel")
    if entries and listed is not None:
        raise OptionError('The -accel and "-machine accel=" options are incompatible', NOWHERE)
    failed, chosen = False, ""
    wanted: list[tuple[str, Entry | None]] = [(entry.get("accel") or "", entry) for entry in entries]
    if not entries:
        for name in listed.split(":") if listed else () if listed is not None else ("tcg",):
            if board.has_accelerator(name):
                wanted.append((name, None))
            else:
                failed = True
                options.complaints.line(f"invalid accelerator {name}")
    for name, entry in wanted:
        location = NOWHERE if entry is None else entry.location
        if not board.has_accelerator(name):
            failed = True
            options.complaints.error(OptionError(f"invalid accelerator {name}", location))
            continue
        if entry is not None:
            board.check_accelerator(name, entry)
        if name == "kvm" and len(wanted) > 1 and not os.access("/dev/kvm", os.R_OK | os.W_OK):
            failed = True
            for text in ("Could not access KVM kernel module", "failed to initialize kvm"):
                options.complaints.error(OptionError(f"{text}: No such file or directory", location))
            continue
        chosen = name
        break
    if not chosen:
        if not failed:
            options.complaints.line("no accelerator found")
        raise options.lists.failure()
    if failed and "qtest" not in options.given:
        options.complaints.line(f"falling back to {chosen}")
    return chosen
