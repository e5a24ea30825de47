"""Random sequences of hot plug and its like: qmpd and real QEMU have to say the same bytes.

`QMPD_EXAMPLES` sets how many examples are tried with each release that is there; they are then chosen anew on
each run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.golden import RELEASES
from tests.objects.sequences import FOLDER, examples
from tests.objects.support import Ended, InProcess, OptionError, Real, Request, comparable, spelled
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLES = int(os.environ.get("QMPD_EXAMPLES", "0"))
DEFAULT_EXAMPLES = {"7.2": 25}
"""How many examples are tried in an ordinary run; the other releases are rarely there, and get a few."""


@contextmanager
def images(release: str) -> Iterator[tuple[str, str]]:
    """Where the images are, for qmpd and for QEMU."""
    program = programs()[release]
    root = program[1] if program[0] == "chroot" else ""
    with tempfile.TemporaryDirectory(prefix="qmpd-images-", dir=f"{root}/tmp") as folder:
        make_images(Path(folder))
        yield folder, folder.removeprefix(root)


def make_images(folder: Path) -> None:
    """Images of all kinds; those of qcow2 where there is a program that makes them."""
    (folder / "plain.img").write_bytes(bytes(1 << 20))
    (folder / "odd.img").write_bytes(bytes(1000))
    (folder / "empty.img").touch()
    if (tool := shutil.which("qemu-img")) is None:
        return
    for name, *options in (
        ("a.qcow2", "1M"), ("old.qcow2", "-o", "compat=0.10,cluster_size=4k", "1M"),
        ("over.qcow2", "-b", "plain.img", "-F", "raw"),
    ):  # fmt: skip
        subprocess.run([tool, "create", "-q", "-f", "qcow2", name, *options], cwd=folder, check=True)


def events_and_reply(lines: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The replies, and the events in some order: a thread of its own tells of what is gone, when it comes to it."""
    events = [line for line in lines if b'"event": ' in line]
    return [line for line in lines if line not in events], sorted(events)


def in_some_order(request: Request, lines: list[bytes]) -> list[bytes]:
    """The properties of a PCI device, sorted: they come to be in another order when it is there from the start, and
    what was captured of that does not tell for every id where QEMU's table has them."""
    if request[0] != "qom-list" or not lines[0].startswith(b'{"return"'):
        return lines
    listed = json.loads(lines[0])["return"]
    if not any(each["name"] == "bus master[0]" for each in listed):
        return lines
    return [json.dumps(each).encode() for each in sorted(listed, key=lambda each: str(each["name"]))]


def play(
    release: str, options: Sequence[str], requests: Sequence[Request]
) -> Iterator[tuple[Request | None, object, object]]:
    """Ask both; gives each request with what qmpd said and what QEMU said, until QEMU ends."""
    with images(release) as (ours, theirs):
        try:
            qmpd: InProcess | None = InProcess(release, options)
            refused = ""
        except OptionError as error:
            qmpd, refused = None, error.message
        try:
            qemu = Real(release, options)
        except Ended as ended:
            last = ended.args[0].strip().rpartition("\n")[2]
            yield None, bool(refused), True if "refused" not in last else last
            return
        with qemu:
            yield None, refused, ""
            if qmpd is None:
                return
            for request in requests:
                data = spelled(request)
                answered = qmpd.say(data.replace(FOLDER.encode(), ours.encode()))
                answered = [line.replace(ours.encode(), theirs.encode()) for line in answered]
                try:
                    said = qemu.say(data.replace(FOLDER.encode(), theirs.encode()), len(answered))
                except Ended:
                    # There are sequences that QEMU does not survive.
                    return
                yield (
                    request,
                    events_and_reply(in_some_order(request, [comparable(line) for line in answered])),
                    events_and_reply(in_some_order(request, [comparable(line) for line in said])),
                )


@pytest.mark.parametrize("release", RELEASES)
def test_qmpd_says_what_qemu_says(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")

    @settings(
        max_examples=EXAMPLES or DEFAULT_EXAMPLES.get(release, 5),
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        # A sequence takes seconds: it is not made shorter unless somebody looks for differences.
        phases=tuple(Phase) if EXAMPLES else (Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(examples())
    def same(example: tuple[list[str], list[Request]]) -> None:
        for request, ours, theirs in play(release, *example):
            assert (request, ours) == (request, theirs)

    same()
