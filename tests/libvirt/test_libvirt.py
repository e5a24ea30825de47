"""libvirt manages domains whose emulator is qmpd-system-x86_64."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from qmpd.monitor.commands import handlers
from qmpd.qapi import load_release
from tests.libvirt.support import Libvirt, missing

REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"libvirt: {REASON}")

NO_BALLOON = "<memballoon model='none'/>"
NIC = "<interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/></interface>"
DISK = """\
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>
<target dev='vdb' bus='virtio'/></disk>"""


@pytest.fixture(scope="module")
def libvirt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libvirt]:
    with Libvirt(tmp_path_factory.mktemp("libvirt")) as running:
        yield running


def needs(command: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(command not in handlers(load_release("7.2")), reason=f"{command} is not modelled")


@pytest.fixture
def vm(libvirt: Libvirt, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.originalname.removeprefix("test_")
    callspec = getattr(request.node, "callspec", None)
    libvirt.virsh("create", libvirt.domain(name, NO_BALLOON if callspec is None else callspec.params["devices"]))
    yield name
    libvirt.virsh("destroy", name, check=False)


def until(condition: Callable[[], bool], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)


def test_it_knows_the_emulator(libvirt: Libvirt) -> None:
    text = libvirt.virsh("domcapabilities", "--emulatorbin", str(libvirt.emulator), "--virttype", "qemu")
    assert "<domain>qemu</domain>" in text
    assert f"<machine>pc-i440fx-{libvirt.release}</machine>" in text
    assert "<model type='virtio'" not in text or "<iothreads supported='yes'/>" in text


def test_states(libvirt: Libvirt, vm: str) -> None:
    def state() -> str:
        return libvirt.virsh("domstate", vm, "--reason")

    assert libvirt.virsh("list", "--name").split() == [vm]
    assert state() == "running (booted)"
    libvirt.virsh("suspend", vm)
    assert state() == "paused (user)"
    libvirt.virsh("resume", vm)
    assert state() == "running (unpaused)"
    libvirt.virsh("reset", vm)
    libvirt.virsh("inject-nmi", vm)
    assert state() == "running (unpaused)"
    information = libvirt.virsh("dominfo", vm)
    assert "State:          running" in information
    assert "Max memory:     32768 KiB" in information
    libvirt.virsh("destroy", vm)
    assert libvirt.virsh("list", "--name") == ""


def test_the_guest_is_asked_to_shut_down(libvirt: Libvirt, vm: str) -> None:
    time.sleep(0.3)  # until the guest has booted: before, it does not heed the power button
    libvirt.virsh("shutdown", vm)
    until(lambda: libvirt.virsh("list", "--name") == "")


def test_the_guest_is_rebooted(libvirt: Libvirt, vm: str) -> None:
    time.sleep(0.3)
    libvirt.virsh("reboot", vm)
    time.sleep(0.5)
    assert libvirt.virsh("domstate", vm) == "running"


def test_what_it_tells(libvirt: Libvirt, vm: str) -> None:
    statistics = libvirt.virsh("domstats", vm)
    assert "state.state=1" in statistics
    assert "balloon.maximum=32768" in statistics
    assert libvirt.virsh("domblklist", vm) == ""
    answer = json.loads(libvirt.virsh("qemu-monitor-command", vm, '{"execute": "query-status"}'))
    assert answer["return"]["status"] == "running"
    assert libvirt.virsh("qemu-monitor-command", vm, "--hmp", "info status") == "VM status: running"


@needs("balloon")
@pytest.mark.parametrize("devices", [""])
def test_memory_is_taken_and_given_back(libvirt: Libvirt, vm: str, devices: str) -> None:
    libvirt.virsh("setmem", vm, "24M", "--live")
    until(lambda: "balloon.current=24576" in libvirt.virsh("domstats", "--balloon", vm))


@needs("netdev_add")
def test_a_nic_comes_and_goes(libvirt: Libvirt, vm: str) -> None:
    path = libvirt.file("nic.xml", NIC)
    libvirt.virsh("attach-device", vm, path, "--live")
    assert "52:54:00:11:22:33" in libvirt.virsh("domiflist", vm)
    libvirt.virsh("detach-device", vm, path, "--live")
    until(lambda: libvirt.virsh("domiflist", vm) == "")


@needs("blockdev-add")
def test_a_disk_comes_and_goes(libvirt: Libvirt, vm: str) -> None:
    image = libvirt.folder / "disk.img"
    image.write_bytes(bytes(1 << 20))
    path = libvirt.file("disk.xml", DISK.format(image))
    libvirt.virsh("attach-device", vm, path, "--live")
    assert str(image) in libvirt.virsh("domblklist", vm)
    assert "block.count=1" in libvirt.virsh("domstats", "--block", vm)
    libvirt.virsh("detach-device", vm, path, "--live")
    until(lambda: libvirt.virsh("domblklist", vm) == "")


def test_events(libvirt: Libvirt) -> None:
    command = ["timeout", "30", "stdbuf", "-oL", *libvirt.command("event", "--all", "--loop")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        time.sleep(0.5)  # nothing tells when it listens
        libvirt.virsh("create", libvirt.domain("watched", NO_BALLOON))
        time.sleep(0.3)
        libvirt.virsh("suspend", "watched")
        libvirt.virsh("resume", "watched")
        libvirt.virsh("shutdown", "watched")
        seen = []
        for line in watching.stdout:
            seen.append(line.strip())
            if "Stopped" in line:
                break
        watching.terminate()
    lifecycle = [line.partition(": ")[2] for line in seen if line.startswith("event 'lifecycle' for domain 'watched'")]
    assert lifecycle == [
        "Resumed Unpaused",
        "Started Booted",
        "Suspended Paused",
        "Resumed Unpaused",
        "Shutdown Finished after guest request",
        "Stopped Shutdown",
    ]


def test_a_domain_that_cannot_start_says_why(libvirt: Libvirt) -> None:
    command = "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg value='-foo'/>"
    text = libvirt.domain("refused", NO_BALLOON)
    with open(text, encoding="utf-8") as file:
        description = file.read().replace("</domain>", f"{command}</qemu:commandline></domain>")
    said = libvirt.virsh("create", libvirt.file("refused.xml", description), check=False)
    assert "qmpd-system-x86_64: -foo: invalid option" in said
