"""`-incoming`: where a machine that migrates to here would come from.

What is seen here is what shows before the machine is there; `qmpd.system.migrations` waits for one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.migration.addresses import check_incoming, scheme_of
from qmpd.option_language.errors import OptionError
from qmpd.server.computer import ThisComputer
from qmpd.system.build import descriptor_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.qapi.release import Release


class _Asker:
    """The command line: files are those of the process, and what is doubtful is a complaint of the program."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self.complain = complain

    def descriptor(self, text: str) -> int:
        """See `qmpd.common.computer.Asker`."""
        return descriptor_number(text)


def take_incoming(release: Release, uri: str, complain: Callable[[str], None]) -> None:
    """See whether a machine can wait there; `complain` is told what is doubtful.

    :raise Refusal: it cannot.
    :raise OptionError: there is no such protocol.
    """
    behaviour = release.behaviour
    if scheme_of(uri, behaviour) is None and behaviour.incoming_channels and (uri.startswith("{") or ":" not in uri):
        return  # a channel, which was looked at when it was read
    location = f"-incoming {uri}"
    if ":" not in uri:
        raise OptionError(behaviour.unknown_incoming.format(uri=uri), location)
    try:
        check_incoming(uri, behaviour, ThisComputer(), _Asker(complain))
    except Refusal as refusal:
        if refusal.code == "rdma-address":
            # It says so twice.
            sys.stderr.write(f"{release.refusals.message(refusal)}\n")
        raise refusal.at(location) from None
