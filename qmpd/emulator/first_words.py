"""What monitors have said by the time when QEMU finds that the machine cannot be made.

Sockets that connect do so as they are made, so somebody has taken them by then: QEMU's own Python waits for that.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.monitor.results import greeting
from qmpd.server.connecting import connect_to
from qmpd.wire import encode, encode_pretty

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.emulator.reading.chardevs import ChardevOptions
    from qmpd.qapi.release import Release

_CONTROL, _PROMPT = "control", "(qemu) "
# What is connected later, and what is told otherwise than as it is.
_OTHERWISE = ("reconnect", "reconnect-ms", "tls-creds")


def say(chardevs: ChardevOptions) -> None:
    """Say it on standard output, and on sockets that connect, which end then.

    :raise Refusal: one does not connect, which QEMU would have found first.
    """
    for device in chardevs.opened:
        kind, monitor = device.backend.get("type"), device.monitor
        words = "" if monitor is None else _words(chardevs.release, monitor.mode, pretty=monitor.pretty)
        if kind == "stdio":
            sys.stdout.write(words)
            sys.stdout.flush()
        elif kind == "socket" and not device.backend["data"]["server"]:
            try:
                _say_to_socket(device.backend["data"], words)
            except Refusal as error:
                raise error.at(device.location) from None


def _say_to_socket(data: Mapping[str, Any], words: str) -> None:
    if any(data.get(name) for name in _OTHERWISE):
        return
    address = data["addr"]
    with connect_to({"type": address["type"], **address["data"]}) as client, suppress(OSError):
        client.sendall(words.encode())


def _words(release: Release, mode: str, *, pretty: bool) -> str:
    if mode == _CONTROL:
        spell = encode_pretty if pretty else encode
        return spell(greeting(release)).decode() + "\r\n"
    from qmpd.human.terminal import banner

    prompt = _PROMPT if release.behaviour.prompts_at_once else ""
    return banner(release).replace("\n", "\r\n") + prompt
