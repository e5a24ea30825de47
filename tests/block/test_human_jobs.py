"""The human monitor's lines about jobs, and `commit`, over a real socket; `qemu-img` reads what they leave behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from qmpd.testing import start
from tests.emulator.support import PROGRAM, environment
from tests.testing.test_jobs import Client as PlainClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing import VM

pytestmark = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-img and qemu-io are not installed")


class Client(PlainClient):
    """A client of a VM in this process."""

    vm: VM


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    _run("qemu-img", "create", "-q", "-f", "qcow2", str(base), "4M")
    _run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 2M", str(base))
    _run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(top))
    _run("qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 2M", str(top))
    options = ["-drive", f"file={top},format=qcow2,if=none,id=d0"]
    with start(command_line=["-machine", "none", "-nodefaults", *options], release="7.2", clock="virtual") as vm:
        client = Client(vm.qmp_path)
        client.vm = vm
        yield client
        client.close()


def _line(client: Client, text: str) -> str:
    return str(client("human-monitor-command", command_line=text))


def test_commit_leaves_an_empty_overlay(client: Client, tmp_path: Path) -> None:
    assert _line(client, "commit d0") == ""
    assert _line(client, "commit nope") == "Device 'nope' not found\r\n"
    client("quit")
    mapped = _run("qemu-img", "map", "--output=json", str(tmp_path / "top.qcow2"))
    assert '"depth": 0' not in mapped
    assert "pattern verification" not in _run(
        "qemu-io", "-f", "qcow2", "-c", "read -P 1 0 1M", "-c", "read -P 2 1M 2M", str(tmp_path / "base.qcow2")
    ).lower()
    assert "No errors" in _run("qemu-img", "check", str(tmp_path / "top.qcow2"))


def test_a_stream_is_listed_paused_and_cancelled(client: Client) -> None:
    assert _line(client, "info block-jobs") == "No active jobs\r\n"
    assert _line(client, "block_stream d0 1B") == ""
    client.vm.clock.advance(0.01)
    assert _line(client, "info block-jobs") == (
        "Streaming device d0: Completed 524288 of 4194304 bytes, speed limit 1 bytes/s\r\n"
    )
    assert _line(client, "block_job_pause d0") == ""
    assert _line(client, "block_job_cancel d0") == "Error: The block job for device 'd0' is currently paused\r\n"
    assert _line(client, "block_job_cancel -f d0") == ""
    assert _line(client, "info block-jobs") == "No active jobs\r\n"


def test_a_mirror_is_completed(client: Client, tmp_path: Path) -> None:
    copy = tmp_path / "copy.qcow2"
    assert _line(client, f"drive_mirror -f d0 {copy} qcow2").splitlines()[-1:] in ([], [""])
    client.vm.wait_for_job("d0", "ready")
    assert _line(client, "block_job_complete d0") == ""
    client.vm.wait_for_job("d0", "null")
    client("quit")
    assert _run("qemu-img", "compare", str(copy), str(tmp_path / "top.qcow2")) == "Images are identical.\n"


def test_a_job_keeps_its_speed_where_a_program_steps_the_clock() -> None:
    nodes = [word for name in ("n0", "n1") for word in ("-blockdev", f"null-co,node-name={name},size=262144")]
    given = ["-machine", "none", "-nodefaults", "-accel", "qtest", "-display", "none", "-qmp", "stdio", *nodes]
    backup = {
        "device": "n0", "target": "n1", "sync": "full", "job-id": "j", "speed": 1 << 20, "x-perf": {"max-chunk": 65536},
    }  # fmt: skip
    said = [{"execute": "qmp_capabilities"}, {"execute": "blockdev-backup", "arguments": backup}]
    process = subprocess.Popen(
        [*PROGRAM, *given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(json.dumps(each) for each in said))
        process.stdin.flush()
        assert any('"BLOCK_JOB_COMPLETED"' in line for line in process.stdout)
        process.stdin.write('{"execute": "quit"}')


def test_a_write_below_a_mirror_does_not_break_its_limit(tmp_path: Path) -> None:
    """Each drain of what writes has it copy once more, as in 7.2; that something is written does not."""
    disks = [word for name in ("s", "t") for word in (
        "-blockdev", json.dumps({"driver": "null-co", "node-name": name, "size": 4 << 20, "read-zeroes": False}))]
    with start(command_line=["-machine", "none", *disks], release="7.2", clock="virtual") as vm:
        client = Client(vm.qmp_path)
        client("blockdev-mirror", job_id="j", device="s", target="t", sync="full", speed=1, buf_size=65536)
        assert client("query-block-jobs")[0]["offset"] == 65536
        _line(client, 'qemu-io s "read 3M 512"')
        after_read = client("query-block-jobs")[0]["offset"]
        _line(client, 'qemu-io s "write 3M 512"')
        assert client("query-block-jobs")[0]["offset"] - after_read == after_read - 65536
        client.close()
