"""The machine types of a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from qmpd.qapi.release import Release


def machines(release: Release) -> list[dict[str, Any]]:
    """The machine types of a release, as query-machines lists them; none where it was not asked."""
    reply = release.captured("query-machines", {}, "none", {})
    listed: list[dict[str, Any]] = orjson.loads(reply) if isinstance(reply, bytes) else []
    return listed


def find_machine(release: Release, name: str) -> dict[str, Any] | None:
    """The machine type of this name, or that the name stands for; None where there is none."""
    return next((known for known in machines(release) if name in (known["name"], known.get("alias"))), None)
