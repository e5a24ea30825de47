"""Jobs go on in the process that takes a machine over, from where they were, and leave behind what they would."""

from __future__ import annotations

import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.live_update.process import before, child, gone, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.live_update.process import Caller, Process

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-img") is None or shutil.which("qemu-io") is None, reason="qemu-img and qemu-io are not installed"
)
RELEASES = ("5.2", "7.2", "10.0", "11.1")
MIB = 1 << 20
SIZE = 16 * MIB
SLOW = 128 << 10
"""Bytes a second at which a job does not reach its end while its machine is taken over, however long that lasts."""


def tool(*words: object) -> str:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout


def prepare(folder: Path) -> list[str]:
    """Make disks: `s` full of data, what can be its copies, `t` and `e`, and a chain of `base`, `mid` and `top`."""
    (folder / "s.raw").write_bytes(bytes(range(1, 129)) * (SIZE // 128))
    (folder / "t.raw").write_bytes(bytes(SIZE))
    for name, behind in (("base", None), ("mid", "base"), ("top", "mid"), ("e", None)):
        more = () if behind is None else ("-b", f"{behind}.qcow2", "-F", "qcow2")
        tool("qemu-img", "create", "-q", "-f", "qcow2", *more, folder / f"{name}.qcow2", SIZE)
    for name, pattern in (("base", 1), ("mid", 2), ("top", 3)):
        where = {"base": "0 12M", "mid": "4M 8M", "top": "10M 64k"}[name]
        tool("qemu-io", "-c", f"write -P {pattern} {where}", folder / f"{name}.qcow2")
    return ["-extension", "live-update"]


async def connected(server: Process, folder: Path) -> Caller:
    """A client of a machine that has these disks."""
    client = await server.connect()
    for name, driver in (("s", "raw"), ("t", "raw"), *((name, "qcow2") for name in ("e", "base", "mid", "top"))):
        behind = {"mid": {"backing": "base"}, "top": {"backing": "mid"}}.get(name, {})
        file = {"driver": "file", "filename": str(folder / f"{name}.{driver}")}
        await client.returned("blockdev-add", **{"driver": driver, "node-name": name, "file": file, **behind})
    return client


async def leave(server: Process, client: Caller) -> None:
    """End the machine, and wait until nobody has its disks."""
    serving = server.pid
    await client.returned("quit")
    await gone(serving)


async def progress(client: Caller) -> dict[str, Any]:
    """What is told of the only job; without one an empty dictionary."""
    jobs = await client.returned("query-block-jobs")
    return jobs[0] if jobs else {}


async def at(client: Caller, offset: int) -> dict[str, Any]:
    """Wait until the job has come so far."""
    with trio.fail_after(20):
        while (job := await progress(client)).get("offset", offset) < offset:  # noqa: ASYNC110
            await trio.sleep(0.02)
    return job


async def all_are(client: Caller, *states: str) -> None:
    """Wait until the jobs are in these states."""
    with trio.fail_after(20):
        while {job["status"] for job in await client.returned("query-jobs")} != {*states}:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def events_until(client: Caller, name: str) -> None:
    with trio.fail_after(20):
        await client.event(name)


JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "mirror": ("blockdev-mirror", {"device": "s", "target": "t", "sync": "full", "buf-size": 1 << 20,
                                  "filter-node-name": "flt"}),
    "backup": ("blockdev-backup", {"device": "s", "target": "e", "sync": "full"}),
    "stream": ("block-stream", {"device": "top"}),
    "commit": ("block-commit", {"device": "top", "top-node": "mid"}),
    "active": ("block-commit", {"device": "top"}),
}


@pytest.mark.parametrize(("name", "release"), [
    ("mirror", "10.0"), ("backup", "7.2"), ("stream", "11.1"), ("commit", "5.2"), ("active", "10.0"), ("mirror", "5.2"),
    ("backup", "5.2"),
])  # fmt: skip
async def test_a_job_goes_on_from_where_it_was(tmp_path: Path, name: str, release: str) -> None:
    async with running(tmp_path, *prepare(tmp_path), release=release) as server:
        client = await connected(server, tmp_path)
        command, arguments = JOBS[name]
        # Nothing is dismissed, so that the end can be looked at.
        await client.returned(command, **{"job-id": "j", "speed": SLOW if name == "active" else 4 * MIB, **arguments,
                                         "auto-dismiss": False})
        # A commit of an active image reads much at once, and waits accordingly.
        await at(client, 1 if name == "active" else 3 * MIB)
        await client.returned("block-job-set-speed", device="j", speed=SLOW)
        before = await progress(client)
        assert before["status"] == "running"
        await client.update()
        job = await progress(client)
        assert before["offset"] <= job["offset"] < SIZE
        assert (job["status"], job["speed"], job["type"]) == ("running", SLOW, before["type"])
        if name == "mirror":
            # What is written while it goes on is copied, too.
            line = 'qemu-io flt "write -P 200 0 64k"'
            await client.returned("human-monitor-command", **{"command-line": line})
        await client.returned("block-job-set-speed", device="j", speed=0)
        if name in ("mirror", "active"):
            await events_until(client, "BLOCK_JOB_READY")
            await client.returned("block-job-complete", device="j")
        await events_until(client, "BLOCK_JOB_COMPLETED")
        assert (await client.returned("query-jobs"))[0].get("error") is None
        # One that is over and not dismissed is carried, too.
        await client.update()
        assert (await client.returned("query-jobs"))[0]["status"] == "concluded"
        await client.returned("job-dismiss", id="j")
        await leave(server, client)
    assert server.errors.read_text() == ""
    check(name, tmp_path)


def check(name: str, folder: Path) -> None:
    """The data is where it belongs."""
    if name == "mirror":
        content = (folder / "s.raw").read_bytes()
        assert content[: 64 << 10] == b"\xc8" * (64 << 10)
        assert (folder / "t.raw").read_bytes() == content
    elif name == "backup":
        tool("qemu-img", "compare", "-f", "raw", "-F", "qcow2", folder / "s.raw", folder / "e.qcow2")
    else:
        image = folder / {"stream": "top", "commit": "base", "active": "base"}[name]
        parts = ((1, "0 4M"), (2, "4M 6M"), (2, "11M 1M"), (0, "12M 4M"))
        read = [f"read -P {pattern} {where}" for pattern, where in parts]
        if name != "commit":
            read.append("read -P 3 10M 64k")
        commands = [word for line in read for word in ("-c", line)]
        said = tool("qemu-io", *commands, image.with_suffix(".qcow2"))
        assert "Pattern verification failed" not in said
        if name == "stream":
            assert "backing file" not in tool("qemu-img", "info", folder / "top.qcow2")


async def test_jobs_that_pause_wait_and_belong_together(tmp_path: Path) -> None:
    async with running(tmp_path, *prepare(tmp_path), release="10.0") as server:
        client = await connected(server, tmp_path)
        add = {"type": "block-dirty-bitmap-add", "data": {"node": "top", "name": "b"}}
        await client.returned("transaction", actions=[add])
        await client.returned("human-monitor-command", **{"command-line": 'qemu-io top "write -P 9 1M 3M"'})
        actions = [
            {"type": "blockdev-backup", "data": {"job-id": "j", "device": "top", "target": "e", "sync": "bitmap",
                                                 "bitmap": "b", "bitmap-mode": "on-success", "speed": 1,
                                                 "filter-node-name": "flt"}},
            {"type": "blockdev-backup", "data": {"job-id": "k", "device": "s", "target": "t", "sync": "full",
                                                 "auto-finalize": False}},
        ]  # fmt: skip
        together = {"completion-mode": "grouped"}
        await client.returned("transaction", actions=actions, properties=together)
        await client.returned("job-pause", id="j")
        await all_are(client, "paused", "waiting")
        before = [await client.returned("query-jobs"), await client.returned("query-named-block-nodes")]
        await client.update()
        assert [await client.returned("query-jobs"), await client.returned("query-named-block-nodes")] == before
        # What is written now is for the next backup.
        await client.returned("human-monitor-command", **{"command-line": 'qemu-io flt "write -P 8 2M 64k"'})
        await client.returned("block-job-set-speed", device="j", speed=0)
        await client.returned("job-resume", id="j")
        await all_are(client, "pending")
        await client.update()
        await client.returned("job-finalize", id="k")
        assert await client.returned("query-jobs") == []
        nodes = {node["node-name"]: node for node in await client.returned("query-named-block-nodes")}
        assert [(each["name"], each["count"], each["busy"]) for each in nodes["top"]["dirty-bitmaps"]] == [
            ("b", 64 << 10, False)
        ]
        await leave(server, client)
    assert (tmp_path / "t.raw").read_bytes() == (tmp_path / "s.raw").read_bytes()


@pytest.mark.parametrize("release", ["5.2", "11.1"])
async def test_a_mirror_that_is_ready_stays_so(tmp_path: Path, release: str) -> None:
    async with running(tmp_path, *prepare(tmp_path), release=release) as server:
        client = await connected(server, tmp_path)
        given = {"job-id": "j", "device": "s", "target": "t", "sync": "full", "copy-mode": "write-blocking",
                 "auto-finalize": False, "filter-node-name": "flt"}  # fmt: skip
        await client.returned("blockdev-mirror", **given)
        await events_until(client, "BLOCK_JOB_READY")
        before = await progress(client)
        await client.update()
        assert await progress(client) == before
        await client.returned("human-monitor-command", **{"command-line": 'qemu-io flt "write -P 7 5M 1M"'})
        await client.returned("block-job-complete", device="j")
        await events_until(client, "BLOCK_JOB_PENDING")
        await client.update()
        assert (await progress(client))["status"] == "pending"
        await client.returned("job-finalize", id="j")
        assert await client.returned("query-block-jobs") == []
        await leave(server, client)
    content = (tmp_path / "t.raw").read_bytes()
    assert content == (tmp_path / "s.raw").read_bytes()
    assert content[5 * MIB : 6 * MIB] == b"\7" * MIB


async def test_a_source_that_stays_drained_keeps_its_machine(tmp_path: Path) -> None:
    """Nobody could tell the next process that jobs there pause for good, until the node is gone."""
    async with running(tmp_path, *prepare(tmp_path), release="5.2") as server:
        client = await connected(server, tmp_path)
        failed = await client.call("drive-backup", device="s", target=str(tmp_path / "no" / "x"), sync="full")
        assert "error" in failed
        await client.prepare()
        told = await client.call("live-update-commit", timeout=20_000)
        assert told["error"]["desc"].endswith("a source stays drained whose backup has failed")
        await client.returned("blockdev-del", **{"node-name": "s"})
        assert await client.returned("live-update-commit", timeout=20_000) == {}
        await leave(server, client)


KEEPING = """
from qmpd.server.hand_over import snapshot
put = snapshot.put
kept = []
def keep(vm, *arguments, **options):
    kept.append(vm)
    return put(vm, *arguments, **options)
snapshot.put = keep
"""


async def commit(client: Caller) -> None:
    """Write into an image that no other process may have locked."""
    command, arguments = JOBS["commit"]
    await client.returned(command, **{"job-id": "j", **arguments})
    await events_until(client, "BLOCK_JOB_COMPLETED")


async def test_a_child_that_practises_locks_no_disks(tmp_path: Path) -> None:
    """This one keeps what it has practised on, as one that practises for long would."""
    async with running(tmp_path, *prepare(tmp_path), release="10.0") as server:
        client = await connected(server, tmp_path)
        await client.prepare(program=child(tmp_path, KEEPING))
        await commit(client)
        await client.returned("live-update-cancel")
        await client.stage_other_than("cancelled")
        await leave(server, client)
    assert server.errors.read_text() == ""


STOPPING = """
from qmpd.server.hand_over import child
leaves = child.InheritedMachine._until_parent_leaves
async def stop(self):
    await leaves(self)
    os.kill(parent, signal.SIGSTOP)
child.InheritedMachine._until_parent_leaves = stop
"""


async def test_a_process_that_is_slow_to_end_locks_no_disks(tmp_path: Path) -> None:
    async with running(tmp_path, *prepare(tmp_path), release="10.0") as server:
        client = await connected(server, tmp_path)
        await client.update(program=child(tmp_path, STOPPING))
        await commit(client)
        server.process.send_signal(signal.SIGCONT)
        await leave(server, client)
    assert server.errors.read_text() == ""


async def test_a_process_that_goes_on_after_all_has_its_disks_locked(tmp_path: Path) -> None:
    """Its child serves, but does not hear that the machine is its own."""
    deaf = before("serving", "import socket; channel._socket.shutdown(socket.SHUT_RD)")
    async with running(tmp_path, *prepare(tmp_path), release="10.0") as server:
        client = await connected(server, tmp_path)
        await client.prepare(program=child(tmp_path, deaf))
        assert "error" in await client.call("live-update-commit", timeout=20_000)
        with pytest.raises(subprocess.CalledProcessError):
            tool("qemu-img", "resize", tmp_path / "top.qcow2", "32M")
        await client.returned("quit")
