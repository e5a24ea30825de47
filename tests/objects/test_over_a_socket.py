"""Hot plug and its like over a real socket: each family of commands, with the events and the guest's part in it."""

from __future__ import annotations

import json
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from qmpd.machine import GuestSettings
from qmpd.machine.blueprint import CPUTopology, Firmware, GuestUnplug
from tests.server.support import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.server.support import Client

MEMORY = 128 << 20
# An operating system that runs at once.
GUEST = GuestSettings(firmware=Firmware.NONE, boot_time=0)
DEAF = GuestSettings(firmware=Firmware.NONE, boot_time=0, on_unplug=GuestUnplug.IGNORE, balloon=False)
UNWILLING = GuestSettings(firmware=Firmware.NONE, boot_time=0, on_unplug=GuestUnplug.REFUSE)
SLOW = GuestSettings(firmware=Firmware.NONE, boot_time=30_000_000)


class Refused(Exception):  # noqa: N818 - an answer, not a mistake
    """An error reply."""


class Asking:
    """A client that keeps the events that it sees."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, command: str, /, **arguments: object) -> Any:
        """What a command returns.

        :raise Refused: it returns an error.
        """
        given = {name.replace("_", "-") if command != "device_add" else name: of for name, of in arguments.items()}
        await self.client.send(json.dumps({"execute": command, "arguments": given}).encode())
        while True:
            message: dict[str, Any] = await self.client.message()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise Refused(message["error"]["desc"])
            self.events.append((message["event"], message.get("data", {})))

    async def event(self, name: str) -> dict[str, Any]:
        """The data of the next event of that name, which may have come already."""
        while True:
            while self.events:
                seen, data = self.events.pop(0)
                if seen == name:
                    return data
            message: dict[str, Any] = await self.client.message()
            self.events.append((message["event"], message.get("data", {})))

    async def names(self, path: str) -> set[str]:
        """The properties of an object."""
        return {each["name"] for each in await self("qom-list", path=path)}


@asynccontextmanager
async def machine(folder: Path, guest: GuestSettings | None = None, **settings: object) -> AsyncIterator[Asking]:
    """A machine `pc` that runs where it has a guest, and its client."""
    settings = {"machine_type": "pc", "memory": MEMORY, "start_paused": guest is None, "guest": guest, **settings}
    async with served(folder, **settings) as server:  # type: ignore[arg-type]
        yield Asking(await server.connect())


# Devices


async def test_a_device_goes_when_the_guest_lets_it(tmp_path: Path) -> None:
    async with machine(tmp_path, GUEST) as ask:
        assert await ask("device_add", driver="e1000", id="card", mac="52:54:00:aa:bb:cc") == {}
        assert await ask("qom-get", path="card", property="mac") == "52:54:00:aa:bb:cc"
        assert await ask("qom-get", path="/machine/peripheral/card", property="hotplugged") is True
        with pytest.raises(Refused, match="Duplicate device ID 'card'"):
            await ask("device_add", driver="e1000", id="card")
        await ask("device_del", id="card")
        assert await ask.event("DEVICE_DELETED") == {"device": "card", "path": "/machine/peripheral/card"}
        assert await ask.names("/machine/peripheral") == {"type"}
        assert await ask("device_add", driver="e1000", id="card") == {}


async def test_what_hangs_on_a_device_goes_with_it(tmp_path: Path) -> None:
    async with machine(tmp_path, GUEST) as ask:
        await ask("blockdev-add", driver="null-co", node_name="disk")
        await ask("device_add", driver="virtio-scsi-pci", id="scsi")
        await ask("device_add", driver="scsi-hd", id="hd", drive="disk", bus="scsi.0")
        with pytest.raises(Refused, match="Node disk is in use"):
            await ask("blockdev-del", node_name="disk")
        await ask("device_del", id="scsi")
        gone = [await ask.event("DEVICE_DELETED") for _ in range(3)]
        assert [each.get("device") for each in gone] == ["hd", None, "scsi"]
        assert gone[1] == {"path": "/machine/peripheral/scsi/virtio-backend"}
        assert await ask("blockdev-del", node_name="disk") == {}


async def test_an_unwilling_guest_says_so(tmp_path: Path) -> None:
    async with machine(tmp_path, UNWILLING) as ask:
        await ask("device_add", driver="virtio-rng-pci", id="rng")
        await ask("device_del", id="rng")
        assert await ask.event("DEVICE_UNPLUG_GUEST_ERROR") == {"device": "rng", "path": "/machine/peripheral/rng"}
        assert "rng" in await ask.names("/machine/peripheral")
        # It can be asked again.
        await ask("device_del", id="rng")
        assert await ask.event("DEVICE_UNPLUG_GUEST_ERROR")


async def test_a_reset_takes_what_the_guest_holds(tmp_path: Path) -> None:
    async with machine(tmp_path, DEAF) as ask:
        await ask("device_add", driver="e1000", id="card")
        # A request lapses at once, so it can be made again, be the machine stopped or not.
        await ask("device_del", id="card")
        await ask("device_del", id="card")
        await ask("stop")
        await ask("device_del", id="card")
        assert "card" in await ask.names("/machine/peripheral")
        await ask("system_reset")
        assert (await ask.event("RESET"))["reason"] == "host-qmp-system-reset"
        assert await ask.event("DEVICE_DELETED") == {"device": "card", "path": "/machine/peripheral/card"}


@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
async def test_a_request_made_before_the_machine_runs_never_lapses(tmp_path: Path, release: str) -> None:
    async with machine(tmp_path, DEAF, start_paused=True, release=release) as ask:
        await ask("device_add", driver="e1000", id="card")
        await ask("device_add", driver="e1000", id="other")
        await ask("device_del", id="card")
        for command in ("cont", "stop"):
            if release == "5.2":
                await ask("device_del", id="card")
            else:
                with pytest.raises(Refused, match="Device card is already in the process of unplug"):
                    await ask("device_del", id="card")
            await ask(command)
        assert [await ask("device_del", id="other") for _ in range(2)] == [{}, {}]


async def test_a_guest_that_boots_hears_it_then(tmp_path: Path) -> None:
    async with machine(tmp_path, SLOW, start_paused=True) as ask:
        await ask("device_add", driver="e1000", id="card")
        await ask("device_del", id="card")
        await ask("cont")
        await ask.event("RESUME")
        assert (await ask.event("DEVICE_DELETED"))["device"] == "card"


async def test_usb_asks_no_guest(tmp_path: Path) -> None:
    async with machine(tmp_path, DEAF) as ask:
        await ask("device_add", driver="qemu-xhci", id="usb")
        await ask("device_add", driver="usb-tablet", id="tablet")
        await ask("device_del", id="tablet")
        assert (await ask.event("DEVICE_DELETED"))["device"] == "tablet"


async def test_cpus_are_plugged_in_and_out(tmp_path: Path) -> None:
    topology = CPUTopology(cpus=1, maximum=3, cores=3)
    async with machine(tmp_path, GUEST, topology=topology) as ask:
        free = [each for each in await ask("query-hotpluggable-cpus") if "qom-path" not in each]
        assert [each["props"]["core-id"] for each in free] == [2, 1]
        await ask("device_add", driver=free[0]["type"], id="cpu2", **free[0]["props"])
        cpus = await ask("query-cpus-fast")
        assert [(each["cpu-index"], each["qom-path"]) for each in cpus] == [
            (0, "/machine/unattached/device[0]"),
            (2, "/machine/peripheral/cpu2"),
        ]
        with pytest.raises(Refused, match=r"CPU\[2\] with APIC ID 2 exists"):
            await ask("device_add", driver=free[0]["type"], **free[0]["props"])
        with pytest.raises(Refused, match="Boot CPU is unpluggable"):
            await ask("device_del", id="/machine/unattached/device[0]")
        await ask("device_del", id="cpu2")
        # The emulator's CPUs are never quite gone: what is told of is what they have with them.
        assert (await ask.event("DEVICE_DELETED"))["path"] == "/machine/peripheral/cpu2/lapic"
        assert len(await ask("query-cpus-fast")) == 1


async def test_memory_is_plugged_in(tmp_path: Path) -> None:
    async with machine(tmp_path, GUEST, memory_slots=2, memory_limit=1 << 30) as ask:
        await ask("object-add", qom_type="memory-backend-ram", id="more", size=64 << 20)
        await ask("device_add", driver="pc-dimm", id="dimm", memdev="more")
        assert await ask("query-memory-size-summary") == {"base-memory": MEMORY, "plugged-memory": 64 << 20}
        (dimm,) = await ask("query-memory-devices")
        assert dimm["data"]["memdev"] == "/objects/more"
        with pytest.raises(Refused, match="object 'more' is in use, can not be deleted"):
            await ask("object-del", id="more")
        await ask("device_del", id="dimm")
        assert (await ask.event("DEVICE_DELETED"))["device"] == "dimm"
        assert await ask("object-del", id="more") == {}
        assert await ask("query-memory-devices") == []


# Backends


async def test_network_backends_and_links(tmp_path: Path) -> None:
    async with machine(tmp_path, GUEST) as ask:
        await ask("netdev_add", type="user", id="net")
        with pytest.raises(Refused, match="Duplicate ID 'net'"):
            await ask("netdev_add", type="user", id="net")
        await ask("device_add", driver="virtio-net-pci", id="card", netdev="net")
        with pytest.raises(Refused, match="Property 'virtio-net-device.netdev' can't take value 'net', it's in use"):
            await ask("device_add", driver="virtio-net-pci", netdev="net")
        (seen,) = await ask("query-rx-filter")
        assert (seen["name"], seen["main-mac"]) == ("card", "52:54:00:12:34:56")
        assert await ask("set_link", name="card", up=False) == {}
        assert await ask("set_link", name="net", up=True) == {}
        with pytest.raises(Refused, match="Device 'zz' not found"):
            await ask("set_link", name="zz", up=True)
        assert await ask("netdev_del", id="net") == {}
        with pytest.raises(Refused, match="Device 'net' not found"):
            await ask("netdev_del", id="net")


async def test_character_devices_are_real_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "added.sock")
    backend = {
        "type": "socket", "data": {"addr": {"type": "unix", "data": {"path": path}}, "server": True, "wait": False},
    }  # fmt: skip
    async with machine(tmp_path) as ask:
        await ask("chardev-add", id="added", backend=backend)
        with pytest.raises(Refused, match="Chardev with id 'added' already exists"):
            await ask("chardev-add", id="added", backend=backend)
        assert "added" in await ask.names("/chardevs")
        await ask("device_add", driver="virtio-serial-pci", id="serial")
        await ask("device_add", driver="virtserialport", id="port", chardev="added")
        with pytest.raises(Refused, match="Chardev 'added' is busy"):
            await ask("chardev-remove", id="added")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            with trio.fail_after(20):
                while "disconnected" in await filename(ask, "added"):  # noqa: ASYNC110 - it is another's to tell
                    await trio.sleep(0.01)
        await ask("device_del", id="port")
        await ask.event("DEVICE_DELETED")
        assert await ask("chardev-remove", id="added") == {}
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match=r"refused|No such file"):
            client.connect(path)
        assert "added" not in await ask.names("/chardevs")


async def filename(ask: Asking, label: str) -> str:
    """What query-chardev says of a character device."""
    return next(str(each["filename"]) for each in await ask("query-chardev") if each["label"] == label)


async def test_block_nodes_and_drives(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    async with machine(tmp_path, GUEST) as ask:
        await ask("blockdev-add", driver="raw", node_name="disk", file={"driver": "file", "filename": str(image)})
        disk, file = await ask("query-named-block-nodes")
        assert (disk["node-name"], disk["drv"], disk["image"]["virtual-size"]) == ("disk", "raw", 1 << 20)
        assert (file["drv"], file["file"]) == ("file", str(image))
        await ask("device_add", driver="virtio-blk-pci", id="vda", drive="disk")
        (drive,) = await ask("query-block")
        assert drive["qdev"] == "/machine/peripheral/vda/virtio-backend"
        assert drive["inserted"]["node-name"] == "disk"
        (counted,) = await ask("query-blockstats")
        assert (counted["node-name"], counted["stats"]["rd_operations"]) == ("disk", 0)
        with pytest.raises(Refused, match="Node disk is in use"):
            await ask("blockdev-del", node_name="disk")
        await ask("device_del", id="vda")
        for _ in range(2):
            await ask.event("DEVICE_DELETED")
        assert await ask("blockdev-del", node_name="disk") == {}
        assert await ask("query-named-block-nodes") == []
        with pytest.raises(Refused, match="Failed to find node with node-name='disk'"):
            await ask("blockdev-del", node_name="disk")


async def test_media_are_changed(tmp_path: Path) -> None:
    async with machine(tmp_path, GUEST) as ask:
        await ask("blockdev-add", driver="null-co", node_name="disc", read_only=True)
        await ask("device_add", driver="virtio-scsi-pci", id="scsi")
        await ask("device_add", driver="scsi-cd", id="cd", bus="scsi.0")
        await ask("blockdev-open-tray", id="cd")
        assert await ask.event("DEVICE_TRAY_MOVED") == {"device": "", "id": "cd", "tray-open": True}
        await ask("blockdev-insert-medium", id="cd", node_name="disc")
        await ask("blockdev-close-tray", id="cd")
        assert (await ask.event("DEVICE_TRAY_MOVED"))["tray-open"] is False
        with pytest.raises(Refused, match="Tray of device 'cd' is not open"):
            await ask("blockdev-remove-medium", id="cd")
        (drive,) = await ask("query-block")
        assert (drive["tray_open"], drive["inserted"]["node-name"]) == (False, "disc")
        await ask("eject", id="cd")
        assert (await ask.event("DEVICE_TRAY_MOVED"))["tray-open"] is True
        (drive,) = await ask("query-block")
        assert drive["tray_open"]
        assert "inserted" not in drive
        assert await ask("blockdev-del", node_name="disc") == {}


# Objects and the balloon


async def test_objects_and_their_properties(tmp_path: Path) -> None:
    async with machine(tmp_path) as ask:
        await ask("object-add", qom_type="iothread", id="io", poll_max_ns=5)
        (thread,) = await ask("query-iothreads")
        assert (thread["id"], thread["poll-max-ns"]) == ("io", 5)
        assert await ask("qom-set", path="/objects/io", property="poll-max-ns", value=7) == {}
        assert await ask("qom-get", path="io", property="poll-max-ns") == 7
        with pytest.raises(Refused, match="Invalid parameter type for 'poll-max-ns', expected: integer"):
            await ask("qom-set", path="/objects/io", property="poll-max-ns", value="zz")
        with pytest.raises(Refused, match="attempt to add duplicate property 'io'"):
            await ask("object-add", qom_type="iothread", id="io")
        assert await ask("object-del", id="io") == {}
        with pytest.raises(Refused, match="object 'io' not found"):
            await ask("object-del", id="io")
        assert await ask("query-iothreads") == []


async def test_the_balloon(tmp_path: Path) -> None:
    async with machine(tmp_path, GUEST) as ask:
        with pytest.raises(Refused, match="No balloon device has been activated"):
            await ask("query-balloon")
        await ask("device_add", driver="virtio-balloon-pci", id="balloon")
        assert await ask("query-balloon") == {"actual": MEMORY}
        await ask("balloon", value=64 << 20)
        assert await ask.event("BALLOON_CHANGE") == {"actual": 64 << 20}
        assert await ask("query-balloon") == {"actual": 64 << 20}
        with pytest.raises(Refused, match="Only one balloon device is supported"):
            await ask("device_add", driver="virtio-balloon-pci")


async def test_a_machine_without_anything_refuses_all(tmp_path: Path) -> None:
    async with machine(tmp_path, machine_type="none", memory=0) as ask:
        with pytest.raises(Refused, match="No 'PCI' bus found for device 'e1000'"):
            await ask("device_add", driver="e1000", id="card")
        with pytest.raises(Refused, match="The feature 'query-hotpluggable-cpus' is not enabled"):
            await ask("query-hotpluggable-cpus")
        assert await ask("query-block") == []


async def test_nothing_is_plugged_in_before_the_machine_is_there(tmp_path: Path) -> None:
    async with machine(tmp_path, preconfig=True) as ask:
        refused: dict[str, dict[str, Any]] = {
            "device_add": {"driver": "e1000"}, "device_del": {"id": "zz"}, "balloon": {"value": 1},
            "eject": {"id": "zz"}, "set_link": {"name": "zz", "up": True}, "query-rx-filter": {},
        }  # fmt: skip
        for command, arguments in refused.items():
            with pytest.raises(Refused, match="permitted only after machine initialization has completed"):
                await ask(command, **arguments)
