"""What monitors on standard output have said by the time when QEMU finds that the machine cannot be made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qmpd.monitor.results import greeting
from qmpd.wire import encode, encode_pretty

if TYPE_CHECKING:
    from qmpd.emulator.reading.chardevs import ChardevOptions
    from qmpd.qapi.release import Release

_CONTROL, _PROMPT = "control", "(qemu) "


def say(chardevs: ChardevOptions) -> None:
    """Print it."""
    for device in chardevs.devices.values():
        if device.monitor is not None and device.backend.get("type") == "stdio":
            sys.stdout.write(_words(chardevs.release, device.monitor.mode, pretty=device.monitor.pretty))
            sys.stdout.flush()


def _words(release: Release, mode: str, *, pretty: bool) -> str:
    if mode == _CONTROL:
        spell = encode_pretty if pretty else encode
        return spell(greeting(release)).decode() + "\r\n"
    from qmpd.human.terminal import banner

    prompt = _PROMPT if release.behaviour.prompts_at_once else ""
    return banner(release).replace("\n", "\r\n") + prompt
