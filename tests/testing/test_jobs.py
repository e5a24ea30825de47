"""Jobs of a VM in a test: under its clock, at the pace of its disks, held and made to fail; over a real socket."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.control.errors import ControlError
from qmpd.testing import start
from qmpd.testing.names import UnknownNameError
from tests.block.images import needs_qemu_img, qemu_img

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing import VM

GIB = 1 << 30
MIB = 1 << 20


class Client:
    """A QMP client that keeps the events it hears."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.settimeout(20)
        self._lines = self._socket.makefile("rw")
        self._lines.readline()
        self.events: list[dict[str, Any]] = []
        self("qmp_capabilities")

    def __call__(self, name: str, **arguments: Any) -> Any:
        """Execute a command; its value, or the text of its error."""
        given = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._lines.write(json.dumps({"execute": name, "arguments": given}) + "\n")
        self._lines.flush()
        while "event" in (message := json.loads(self._lines.readline())):
            self.events.append(message)
        return message["return"] if "return" in message else message["error"]["desc"]

    def job(self) -> dict[str, Any]:
        """The only block job."""
        (found,) = self("query-block-jobs")
        return dict(found)

    def close(self) -> None:
        """Leave."""
        self._lines.close()
        self._socket.close()


@pytest.fixture
def vm() -> Iterator[VM]:
    with start(machine="none", release="7.2", clock="virtual", options=["-disk", "rate=100M"]) as started:
        yield started


@pytest.fixture
def client(vm: VM, tmp_path: Path) -> Iterator[Client]:
    """Somebody who has two sparse images of 10 GiB."""
    client = Client(vm.qmp_path)
    for name in ("s", "t"):
        path = tmp_path / f"{name}.raw"
        with path.open("wb") as file:
            file.truncate(10 * GIB)
        file_node = {"driver": "file", "filename": str(path)}
        assert client("blockdev-add", driver="raw", node_name=name, file=file_node) == {}
    yield client
    client.close()


def _mirror(client: Client, **more: Any) -> None:
    assert client("blockdev-mirror", job_id="j", device="s", target="t", sync="full", **more) == {}


def test_a_sparse_disk_takes_its_time_on_the_clock_alone(vm: VM, client: Client) -> None:
    _mirror(client)
    vm.clock.advance(51.2)
    assert 49 * GIB // 10 <= client.job()["offset"] <= 51 * GIB // 10
    assert client.job()["status"] == "running"
    vm.clock.advance(51.3)
    vm.wait_for_job("j", "ready")
    assert client.job()["offset"] == client.job()["len"] == 10 * GIB


def test_a_held_job_stays_and_goes_on(vm: VM, client: Client) -> None:
    vm.jobs.hold("j")
    _mirror(client)
    vm.clock.advance(60)
    assert (client.job()["status"], client.job()["offset"]) == ("running", 0)
    (fault,) = vm.jobs.release("j")
    assert fault.activity == "job j"
    vm.clock.advance(60)
    assert client.job()["offset"] > 5 * GIB
    with pytest.raises(ControlError, match="nothing holds the job 'j'"):
        vm.jobs.release("j")


def test_a_held_job_can_be_cancelled(vm: VM, client: Client) -> None:
    vm.jobs.hold("j")
    assert client("block-stream", job_id="j", device="s") == {}
    _mirror(client, speed=1)
    vm.clock.advance(1)
    assert client("job-cancel", id="j") == {}
    vm.wait_for_job("j", "null")


def test_a_fault_at_half_of_the_way_stops_a_job_where_its_policy_says_so(vm: VM, client: Client) -> None:
    vm.faults.job(type_="mirror", at="50%", error="ENOSPC")
    _mirror(client, on_source_error="enospc")
    vm.clock.advance(120)
    vm.wait_for_event("BLOCK_JOB_ERROR", {"device": "j", "action": "stop"})
    job = client.job()
    assert (job["status"], job["io-status"], job["offset"]) == ("paused", "nospace", 5 * GIB)
    assert client("block-job-resume", device="j") == {}
    vm.clock.advance(120)
    vm.wait_for_job("j", "ready")


def test_a_fault_fails_the_job_that_it_names_and_no_other(vm: VM, client: Client) -> None:
    vm.faults.job(id_="other", at="1G")
    vm.faults.job(id_="j", at=f"{2 * GIB}")
    _mirror(client)
    vm.clock.advance(120)
    completed = vm.wait_for_event("BLOCK_JOB_COMPLETED")
    assert completed.data["error"] == "Input/output error"
    assert completed.data["offset"] == 2 * GIB


@pytest.mark.parametrize("at", ["101%", "half", "-1"])
def test_a_progress_that_is_none_is_refused(vm: VM, at: str) -> None:
    with pytest.raises(ControlError):
        vm.faults.job(at=at)


def test_waiting_for_what_no_job_can_be_is_refused(vm: VM) -> None:
    with pytest.raises(UnknownNameError, match="'redy'"):
        vm.wait_for_job("j", "redy")


def test_a_machine_is_kept_with_its_job(vm: VM, client: Client) -> None:
    """The job goes on in the machine that was kept, and in the one that goes back to it, from where it was."""
    _mirror(client)
    vm.clock.advance(30)
    snapshot = vm.snapshot()
    kept = client.job()
    assert 0.29 < kept["offset"] / (10 * GIB) < 0.32
    vm.clock.advance(73)
    vm.wait_for_job("j", "ready")
    client.close()
    vm.restore(snapshot)
    with closing(Client(vm.qmp_path)) as again:
        assert again.job() | {"busy": True} == kept | {"busy": True}
        vm.clock.advance(60)
        assert again.job()["status"] == "running"
        vm.clock.advance(13)
        vm.wait_for_job("j", "ready")
        assert again.job()["offset"] == 10 * GIB


IN_USE = "Node x is in use"
BUSY = "Node 'x' is busy: block device is in use by block job: stream"


@pytest.mark.parametrize(
    ("release", "exported", "told"),
    [
        ("5.2", False, (IN_USE, IN_USE)),
        ("5.2", True, (IN_USE, IN_USE)),
        ("7.2", False, (BUSY, BUSY)),
        ("11.1", True, (BUSY, IN_USE)),
    ],
)
def test_why_the_node_of_a_stream_cannot_be_deleted(release: str, exported: bool, told: tuple[str, str]) -> None:
    """What real QEMU said while the job was pending, and when it had concluded."""
    with start(machine="none", release=release, clock="virtual") as vm:
        client = Client(vm.qmp_path)
        try:
            client("blockdev-add", driver="null-co", node_name="x", size=MIB, read_zeroes=True)
            if exported:
                client("nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}})
                client("block-export-add", type="nbd", id="e", node_name="x")
            client("block-stream", job_id="j", device="x", auto_finalize=False, auto_dismiss=False)
            vm.wait_for_job("j", "pending")
            pending = client("blockdev-del", node_name="x")
            client("job-finalize", id="j")
            assert (pending, client("blockdev-del", node_name="x")) == told
            client("job-dismiss", id="j")
        finally:
            client.close()


@needs_qemu_img
@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_nothing_is_committed_below_an_image_that_a_job_uses(release: str, tmp_path: Path) -> None:
    """The image above is told of its new backing file in the end, which the job does not let happen."""
    options = []
    for number in range(5):
        path = tmp_path / f"{number}.qcow2"
        qemu_img("create", "-q", "-f", "qcow2", path, "1M")
        backing = f",backing=n{number - 1}" if number else ""
        options += ["-blockdev", f"qcow2,node-name=n{number},file.driver=file,file.filename={path}{backing}"]
    with start(release=release, clock="virtual", command_line=["-machine", "none", *options]) as vm:
        client = Client(vm.qmp_path)
        try:
            assert client("block-stream", job_id="s", device="n3", base_node="n1", auto_finalize=False) == {}
            vm.wait_for_job("s", "pending")
            told = client("block-commit", job_id="c", device="n4", top_node="n1", base_node="n0")
            assert told == "Node 'n2' is busy: block device is in use by block job: stream"
        finally:
            client.close()
