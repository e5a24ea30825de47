"""What those who use a character device may ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class ChardevFacts(NamedTuple):
    """One character device: what `chardev-add` calls it, whether it is a Unix socket, and whether somebody uses it.

    `room` is how many devices of the machine's may use it.
    """

    kind: str
    is_local: bool = False
    is_busy: bool = False
    room: int = 1


def facts_of(backend: Mapping[str, Any], *, is_busy: bool, room: int = 1) -> ChardevFacts:
    """The facts of a device that `chardev-add` is given this backend for."""
    kind = backend["type"]
    return ChardevFacts(kind, kind == "socket" and backend["data"]["addr"]["type"] == "unix", is_busy, room)
