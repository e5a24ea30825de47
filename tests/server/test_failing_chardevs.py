"""`chardev-add` that fails: the reply is QEMU's, and nothing is left of the device, neither its name nor a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.server.support import served

if TYPE_CHECKING:
    from pathlib import Path


def unix(path: str) -> dict[str, Any]:
    return {"type": "unix", "data": {"path": path}}


MISSING = "No such file or directory"
# What QEMU 7.2 said.
FAILING: list[tuple[dict[str, Any], str]] = [
    ({"type": "file", "data": {"out": "/nonexistent/out"}}, f"Could not open '/nonexistent/out': {MISSING}"),
    (
        {"type": "file", "data": {"out": "/nonexistent/out", "in": "/dev/null"}},
        f"Could not open '/nonexistent/out': {MISSING}",
    ),
    (
        {"type": "file", "data": {"out": "/dev/null", "in": "/nonexistent/in"}},
        f"Could not open '/nonexistent/in': {MISSING}",
    ),
    (
        {"type": "socket", "data": {"addr": unix("/nonexistent/s"), "server": False}},
        f"Failed to connect to '/nonexistent/s': {MISSING}",
    ),
    (
        {"type": "socket", "data": {"addr": unix("/nonexistent/s"), "wait": False}},
        f"Failed to bind socket to /nonexistent/s: {MISSING}",
    ),
]


@pytest.mark.parametrize(("backend", "reason"), FAILING, ids=[str(number) for number in range(len(FAILING))])
async def test_nothing_is_left(tmp_path: Path, backend: dict[str, Any], reason: str) -> None:
    async with served(tmp_path) as server:
        client = await server.connect()
        before = await client.execute("query-chardev")
        opened = set(os.listdir("/proc/self/fd"))
        for _ in range(3):
            reply = await client.execute("chardev-add", id="g", backend=backend)
            assert reply["error"] == {"class": "GenericError", "desc": f"Failed to add chardev 'g': {reason}"}
        assert await client.execute("query-chardev") == before
        assert set(os.listdir("/proc/self/fd")) <= opened
        # The name is free.
        assert "return" in await client.execute("chardev-add", id="g", backend={"type": "null", "data": {}})
