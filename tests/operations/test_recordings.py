"""Long operations against the recordings: samples that are quick; `python -m tests.operations` plays them all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.operations import RELEASES
from tests.operations.player import play

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-img") is None or shutil.which("qemu-io") is None,
    reason="qemu-img and qemu-io, which make the images of the recordings, are not installed",
)


def check(release: str, group: str, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Play those scenarios of a group that are wanted, of which there have to be some; each goes as recorded."""
    result = trio.run(play, release, group, (), wanted)
    assert result.scenarios
    assert not result.differences


# What follows of the verbs: one kind of job stands for all, as the states and verbs are the same.
_VERBS = (
    "stream: every", "stream: paused", "stream: quit", "stream: cancelled", "stream: dismissed",
)  # fmt: skip


# A mirror and an active commit become ready; what else they do is their own.
_READY = ("blockdev-mirror: every", "commit active: every", "commit active: completed", "blockdev-mirror: quit")
_COPIES = ("mirror granularity", "mirror buf-size", "mirror copy-mode", "commit intermediate: every")


@pytest.mark.parametrize("release", RELEASES)
def test_states_and_verbs_of_jobs(release: str) -> None:
    check(release, "jobs", lambda scenario: scenario["scenario"].startswith((*_VERBS, *_READY)))


# What becomes of a backup whose target cannot be had, and of its source.
_REFUSED = ("drive-backup: bad targets", "drive-backup: job ids", "drive-backup: dismissed by hand, every verb")


@pytest.mark.parametrize("release", RELEASES)
def test_backups_that_cannot_be(release: str) -> None:
    check(release, "jobs", lambda scenario: scenario["scenario"].startswith(_REFUSED))


@pytest.mark.parametrize("release", RELEASES)
def test_what_jobs_copy(release: str) -> None:
    check(release, "jobs", lambda scenario: scenario["scenario"].startswith(_COPIES))


# Dirty bitmaps alone, and what becomes of them in backups; each kind of action, and jobs that end together.
_BITMAPS = (
    "add, list", "merge across", "persistent: kept", "read-only node", "inconsistent",
    "remove all by hand", "blockdev-backup: incremental that", "blockdev-backup: sync bitmap, bitmap-mode never",
)  # fmt: skip
_TRANSACTIONS = (
    "blockdev-backup, then abort", "block-dirty-bitmap-remove, then abort", "drive-backup grouped",
    "two backups, one fails", "two backups, the slow one cancelled", "bitmaps moved", "backup before snapshot",
)  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
def test_bitmaps_and_transactions(release: str) -> None:
    check(release, "bitmaps", lambda scenario: scenario["scenario"].startswith(_BITMAPS))
    check(release, "transactions", lambda scenario: scenario["scenario"].startswith(_TRANSACTIONS))


# Each way to take a snapshot, and to go back.
_SNAPSHOTS = (
    "savevm, loadvm", "savevm, names", "savevm with raw", "-loadvm", "blockdev-snapshot-sync under",
    "blockdev-snapshot-internal-sync by",
)  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
def test_snapshots(release: str) -> None:
    check(release, "snapshots", lambda scenario: scenario["scenario"].startswith(_SNAPSHOTS))


@pytest.mark.parametrize("release", RELEASES[1:])
def test_snapshot_jobs(release: str) -> None:
    wanted = (
        "snapshot-save: twice", "snapshot-*", "snapshot-load when stopped after save: guest",
        "snapshot-save, load, delete: guest",
    )  # fmt: skip
    check(release, "snapshots", lambda scenario: scenario["scenario"].startswith(wanted))


# What a second machine does as a client, how exports end, what is refused; the kernel's own (fuse) is left out.
_EXPORTS = ("quit ", "server stopped", "export removed", "client quits", "block-export-add nbd", "HMP")


@pytest.mark.parametrize("release", RELEASES)
def test_exports(release: str) -> None:
    check(release, "exports", lambda scenario: scenario["scenario"].startswith(_EXPORTS))


# What Debian's 7.2 lets the kernel mount, and what is refused here as where that cannot be: nothing is mounted.
_MOUNTED = ("block-export-add fuse", "block-export-add fuse: less")


def test_nothing_is_mounted() -> None:
    result = trio.run(play, "7.2", "exports", (), lambda scenario: scenario["scenario"] in _MOUNTED)
    assert result.differences.keys() == set(_MOUNTED)
    first = [told[0] for told in result.differences.values()]
    assert all("Failed to mount FUSE session to export" in told.partition("want")[0] for told in first)


@pytest.mark.parametrize("release", RELEASES)
def test_dumps(release: str) -> None:
    wanted = (
        "guest runs: detached", "not started: format kdump-zlib", "guest runs: format win", "targets", "memsave",
        "pieces",
    )  # fmt: skip
    check(release, "dump", lambda scenario: scenario["scenario"].startswith(wanted))
