"""Files that clients have handed over outlive the process that took them."""

from __future__ import annotations

import array
import json
import os
import socket
from typing import TYPE_CHECKING

from tests.live_update.process import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.live_update.process import Caller


async def hand_over(caller: Caller, name: str, file: int, **arguments: object) -> None:
    """A command with a file beside it."""
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    text = json.dumps({"execute": name, "arguments": named, "id": name}).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))]
    await caller.stream.socket.sendmsg([text], rights)
    assert b"return" in (await caller.reply() or b"")


async def test_names_sets_and_what_nobody_has_taken(tmp_path: Path) -> None:
    files = [os.memfd_create(f"file{number}") for number in range(4)]
    async with running(tmp_path, "-extension", "live-update", release="7.2") as server:
        client = await server.connect()
        await hand_over(client, "getfd", files[0], fdname="a")
        await hand_over(client, "add-fd", files[1], fdset_id=3, opaque="x")
        await hand_over(client, "query-name", files[2])
        await client.update()
        (found,) = await client.returned("query-fdsets")
        assert (found["fdset-id"], found["fds"][0]["opaque"]) == (3, "x")
        assert same(server.pid, found["fds"][0]["fd"], files[1])
        taken = await client.returned("add-fd")
        assert same(server.pid, taken["fd"], files[2]), "it had come with a command before the update"
        assert await client.returned("closefd", fdname="a") == {}
        # The one that serves now takes files as well.
        await hand_over(client, "getfd", files[3], fdname="b")
        assert await client.returned("closefd", fdname="b") == {}
    for each in files:
        os.close(each)


def same(pid: int, theirs: int, ours: int) -> bool:
    """Whether a file of a process is this one of ours."""
    there, here = os.stat(f"/proc/{pid}/fd/{theirs}"), os.fstat(ours)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
