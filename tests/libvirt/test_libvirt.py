"""libvirt manages domains whose emulator is qmpd-system-x86_64, with no QEMU on the machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.libvirt.support import Libvirt, Watcher, missing, until

REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"libvirt: {REASON}")

MAC = "52:54:00:11:22:33"
NIC = f"<interface type='user'><mac address='{MAC}'/><model type='virtio'/></interface>"
DISK = """\
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>
<target dev='{}' bus='virtio'/></disk>"""
CDROM = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>"
QEMU_NAMESPACE = " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


@pytest.fixture(scope="module")
def watcher(libvirt: Libvirt) -> Iterator[Watcher]:
    with Watcher(libvirt) as watching:
        yield watching


@pytest.fixture(scope="module")
def vm(libvirt: Libvirt, watcher: Watcher) -> str:
    """A domain as libvirt makes it where nothing is said of devices (balloon, USB controller); its guest has booted."""
    cdrom = CDROM + "<serial type='pty'/><console type='pty'/>"
    libvirt.virsh("create", libvirt.domain("common", cdrom, emulator=False))
    libvirt.boot("common")
    return "common"


def test_it_knows_the_emulator(libvirt: Libvirt) -> None:
    text = libvirt.virsh("domcapabilities", "--virttype", "qemu")
    assert f"<path>{libvirt.emulator}</path>" in text
    assert "<domain>qemu</domain>" in text
    assert f"<machine>pc-i440fx-{libvirt.release}</machine>" in text
    assert "<value>virtio</value>" in text


def test_states(libvirt: Libvirt, vm: str) -> None:
    def state() -> str:
        return libvirt.virsh("domstate", vm, "--reason")

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


def test_what_it_tells(libvirt: Libvirt, vm: str) -> None:
    statistics = libvirt.virsh("domstats", vm)
    assert "state.state=1" in statistics
    assert "balloon.maximum=32768" in statistics
    assert "block.count=1" in statistics
    assert libvirt.virsh("domblklist", vm).split() == ["hdc", "-"]
    answer = json.loads(libvirt.virsh("qemu-monitor-command", vm, '{"execute": "query-status"}'))
    assert answer["return"]["status"] == "running"
    assert libvirt.virsh("qemu-monitor-command", vm, "--hmp", "info status") == "VM status: running"
    assert libvirt.virsh("ttyconsole", vm).startswith("/dev/pts/")
    assert "QEMU guest agent is not configured" in libvirt.virsh("qemu-agent-command", vm, "{}", check=False)


def test_cpus_have_threads(libvirt: Libvirt, vm: str) -> None:
    assert "State:          running" in libvirt.virsh("vcpuinfo", vm)
    libvirt.virsh("vcpupin", vm, "1", "0", "--live")
    asked = libvirt.virsh("qemu-monitor-command", vm, '{"execute": "query-cpus-fast"}')
    threads = [cpu["thread-id"] for cpu in json.loads(asked)["return"]]
    process = (libvirt.folder / f"run/libvirt/qemu/{vm}.pid").read_text().strip()
    assert set(map(str, threads)) < set(os.listdir(f"/proc/{process}/task"))
    assert os.sched_getaffinity(threads[1]) == {0}


def test_memory_is_taken_and_given_back(libvirt: Libvirt, watcher: Watcher, vm: str) -> None:
    libvirt.virsh("setmem", vm, "24M", "--live")
    until(lambda: "actual 24576" in libvirt.virsh("dommemstat", vm))
    assert "balloon.current=24576" in libvirt.virsh("domstats", "--balloon", vm)
    watcher.wait(vm, "balloon-change: 24576KiB")


def test_a_nic_comes_and_goes(libvirt: Libvirt, watcher: Watcher, vm: str) -> None:
    path = libvirt.file("nic.xml", NIC)
    libvirt.virsh("attach-device", vm, path, "--live")
    assert MAC in libvirt.virsh("domiflist", vm)
    libvirt.virsh("domif-setlink", vm, MAC, "down")
    assert libvirt.virsh("domif-getlink", vm, MAC) == f"{MAC} down"
    libvirt.virsh("detach-device", vm, path, "--live")
    until(lambda: libvirt.virsh("domiflist", vm) == "")
    watcher.wait(vm, "device-removed: net0")


def test_a_disk_comes_and_goes(libvirt: Libvirt, watcher: Watcher, vm: str) -> None:
    image = libvirt.file("disk.img", size=1 << 20)
    path = libvirt.file("disk.xml", DISK.format(image, "vdb"))
    libvirt.virsh("attach-device", vm, path, "--live")
    assert image in libvirt.virsh("domblklist", vm)
    assert "Capacity:       1048576" in libvirt.virsh("domblkinfo", vm, "vdb")
    libvirt.virsh("detach-device", vm, path, "--live")
    until(lambda: image not in libvirt.virsh("domblklist", vm))
    watcher.wait(vm, "device-removed: virtio-disk1")


def test_a_disk_is_changed(libvirt: Libvirt, watcher: Watcher, vm: str) -> None:
    image = libvirt.file("cd.iso", size=1 << 20)
    libvirt.virsh("change-media", vm, "hdc", image, "--insert")
    assert libvirt.virsh("domblklist", vm).split() == ["hdc", image]
    libvirt.virsh("change-media", vm, "hdc", "--eject")
    assert libvirt.virsh("domblklist", vm).split() == ["hdc", "-"]
    watcher.wait(vm, "tray-change: disk ide0-1-0: opened")


def test_the_daemon_finds_its_domains_again(libvirt: Libvirt) -> None:
    disk = DISK.format(libvirt.file("again.img", size=1 << 20), "vda")
    description = libvirt.domain("again", disk + NIC + "<serial type='pty'/>", "q35", head="<iothreads>1</iothreads>")
    libvirt.virsh("define", description)
    libvirt.virsh("autostart", "again")
    libvirt.virsh("start", "again")
    before = libvirt.virsh("dumpxml", "again")
    libvirt.restart()
    until(lambda: libvirt.states()["again"] == "running")
    assert libvirt.virsh("dumpxml", "again") == before
    assert "Autostart:      enable" in libvirt.virsh("dominfo", "again")
    assert libvirt.virsh("domblklist", "again").split()[0] == "vda"
    assert libvirt.virsh("iothreadinfo", "again").split()[0] == "1"
    libvirt.virsh("destroy", "again")
    assert libvirt.states()["again"] == "shut off"
    libvirt.virsh("undefine", "again")
    assert "again" not in libvirt.states()


def test_a_domains_life(libvirt: Libvirt) -> None:
    """The guest reboots, sleeps, is woken, lets its watchdog expire, and powers off when it is asked to."""
    with Watcher(libvirt) as watcher:
        devices = "<watchdog model='ib700' action='pause'/>"
        libvirt.virsh("create", libvirt.domain("life", devices))
        libvirt.virsh("suspend", "life")
        libvirt.virsh("resume", "life")
        libvirt.boot("life")
        libvirt.virsh("reboot", "life")
        watcher.wait("life", "reboot")
        libvirt.guest("life", "guest-suspend")
        watcher.wait("life", "lifecycle: PMSuspended")
        assert libvirt.virsh("domstate", "life") == "pmsuspended"
        libvirt.virsh("dompmwakeup", "life")
        watcher.wait("life", "pm-wakeup")
        libvirt.guest("life", "guest-expire-watchdog")
        watcher.wait("life", "watchdog: pause")
        assert libvirt.virsh("domstate", "life", "--reason") == "paused (watchdog)"
        libvirt.virsh("resume", "life")
        libvirt.virsh("shutdown", "life")
        watcher.wait("life", "lifecycle: Stopped")
        assert "life" not in libvirt.states()
        lifecycle = [event for event in watcher.events("life") if event.startswith("lifecycle")]
    assert lifecycle == [
        "lifecycle: Resumed Unpaused",
        "lifecycle: Started Booted",
        "lifecycle: Suspended Paused",
        "lifecycle: Resumed Unpaused",
        "lifecycle: PMSuspended Memory",
        "lifecycle: Started Event wakeup",
        "lifecycle: Suspended Watchdog",
        "lifecycle: Resumed Unpaused",
        "lifecycle: Shutdown Finished after guest request",
        "lifecycle: Stopped Shutdown",
    ]


def test_a_guest_panics(libvirt: Libvirt) -> None:
    with Watcher(libvirt) as watcher:
        libvirt.virsh("create", libvirt.domain("panicking", "<panic model='isa'/>", on_crash="preserve"))
        libvirt.guest("panicking", "guest-panic")
        watcher.wait("panicking", "lifecycle: Crashed Panicked")
    assert libvirt.virsh("domstate", "panicking", "--reason") == "crashed (panicked)"


def test_a_domain_that_cannot_start_says_why(libvirt: Libvirt) -> None:
    command = "<qemu:commandline><qemu:arg value='-foo'/></qemu:commandline>"
    description = libvirt.domain("refused", tail=command, attributes=QEMU_NAMESPACE)
    assert "qmpd-system-x86_64: -foo: invalid option" in libvirt.virsh("create", description, check=False)


def test_a_character_device_that_cannot_be_had_says_why(libvirt: Libvirt) -> None:
    serial = "<serial type='tcp'><source mode='connect' host='127.0.0.1' service='1'/></serial>"
    said = libvirt.virsh("create", libvirt.domain("unconnected", serial), check=False)
    assert "Failed to connect to '127.0.0.1:1': Connection refused" in said


def test_domains_are_destroyed(libvirt: Libvirt) -> None:
    for name in libvirt.states():
        libvirt.virsh("destroy", name)
    assert libvirt.states() == {}


def test_no_other_emulator_was_there(libvirt: Libvirt) -> None:
    """What the daemon sees at QEMU's place is no program."""
    daemon = (libvirt.folder / "libvirtd.pid").read_text().strip()
    command = ["nsenter", "--mount", "--target", daemon, "test", "-x", "/usr/bin/qemu-system-x86_64"]
    assert subprocess.run(command, check=False).returncode == 1
