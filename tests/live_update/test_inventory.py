"""What was plugged in and out is the same in the process that takes over, and so is what comes after."""

from __future__ import annotations

import json
import socket
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.control.clock import PuppetClock
from qmpd.guest.script import Rule
from qmpd.guest.script import Step as GuestStep
from qmpd.machine.blueprint import CPUTopology, GuestSettings, MachineSettings
from qmpd.server.hand_over import frames, snapshot
from qmpd.server.settings import MonitorSettings, VMSettings
from qmpd.server.virtual_machine import VirtualMachine

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.qom.node import Node

    Step = tuple[str, dict[str, object]]

RELEASES = ("5.2", "7.2", "10.0", "11.1")
SECOND = 1_000_000_000
QUERIES = (
    "query-balloon", "query-block", "query-blockstats", "query-chardev", "query-cpus-fast", "query-iothreads",
    "query-memdev", "query-memory-devices", "query-named-block-nodes", "query-pci", "query-rx-filter", "query-status",
    "query-yank",
)  # fmt: skip


class Played:
    """A machine that nobody serves, and its one client."""

    def __init__(self, release: str, *, start: bool = True, machine: str = "pc") -> None:
        guest = GuestSettings(unplug_delay=SECOND, balloon_delay=SECOND)
        self.vm = VirtualMachine(
            VMSettings(
                release=release,
                machine=MachineSettings(
                    machine_type=machine, guest=guest, memory=512 << 20, memory_slots=2, memory_limit=4 << 30,
                    topology=CPUTopology(maximum=2, sockets=2),
                ),
                monitors=[MonitorSettings(path="/vm.sock")],
                clock="virtual",
            )
        )
        if start:
            self.vm.start()
        self.session = self.vm.dispatcher.open_session()
        self.send("qmp_capabilities", {})

    def send(self, name: str, arguments: dict[str, object]) -> bytes:
        """Execute a command; all that comes of it at once."""
        self.session.receive(json.dumps({"execute": name, "arguments": arguments}).encode())
        self._go_round()
        return self.session.take_outgoing()

    def _go_round(self) -> None:
        """Do what the main loop does until it would wait."""
        machine, clock = self.vm.system.machine, self.vm.clock
        while self.vm.loop.step() or (
            (due := machine.next_deadline()) is not None and due <= clock.monotonic_nanoseconds()
        ):
            continue
        self.vm.loop.flush()

    def take(self, step: Step) -> bytes:
        name, arguments = step
        if name == "half a step":
            # What is done after the reply is still to come.
            self.session.receive(json.dumps({"execute": "device_del", "arguments": arguments}).encode())
            self.vm.loop.step()
            self.vm.loop.flush()
            return self.session.take_outgoing()
        if name != "advance":
            return self.send(name, arguments)
        assert isinstance(arguments["time"], int)
        clock = self.vm.clock
        assert isinstance(clock, PuppetClock)
        end = clock.monotonic_nanoseconds() + arguments["time"]
        while (due := self.vm.loop.next_deadline()) is not None and due <= end:
            clock.advance(max(due - clock.monotonic_nanoseconds(), 0))
            self._go_round()
        clock.advance(end - clock.monotonic_nanoseconds())
        return self.send("query-status", {})

    def everything(self) -> list[object]:
        """What all queries and all objects say."""
        told: list[object] = [(query, self.send(query, {})) for query in QUERIES]
        tree = self.vm.system.tree

        def value(node: Node, name: str) -> object:
            try:
                return tree.get(node, name)
            except Exception as error:
                return repr(error)

        return told + [
            (node.path, [(*each, value(node, each.name)) for each in node.properties()]) for node in tree.root.below()
        ]


def transferred(played: Played) -> dict[str, Any]:
    """What a child is told of the machine."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        message = {"kind": "commit", "state": snapshot.take(played.vm).state}
        sending = Thread(target=frames.Channel(ours).send, args=(message,))
        sending.start()
        received, _ = frames.Channel(theirs).receive()
        sending.join()
    assert received == message
    state: dict[str, Any] = received["state"]
    return state


def taken_over(played: Played, release: str) -> Played:
    """The machine in the process that comes next."""
    child = Played(release, start=False)
    snapshot.put(child.vm, transferred(played), None)
    child.vm.started = True
    return child


def _devices(identifiers: st.SearchStrategy[str]) -> st.SearchStrategy[Step]:
    nodes, netdevs = st.sampled_from(["n0", "n1", "n2"]), st.sampled_from(["net0", "net1"])
    given: dict[str, dict[str, st.SearchStrategy[object]]] = {
        "virtio-net-pci": {"netdev": netdevs, "mac": st.sampled_from(["52:54:00:12:34:57", "02:00:00:00:00:01"])},
        "e1000": {"netdev": netdevs, "addr": st.integers(3, 6)},
        "virtio-blk-pci": {"drive": nodes},
        "virtio-balloon-pci": {},
        "virtio-scsi-pci": {"iothread": st.sampled_from(["o0", "o1"])},
        "scsi-hd": {"drive": nodes, "bus": identifiers.map("{}.0".format), "lun": st.integers(0, 2)},
        "scsi-cd": {"drive": nodes, "scsi-id": st.integers(0, 2)},
        "virtio-serial-pci": {},
        "virtserialport": {"chardev": st.sampled_from(["c0", "c1"]), "name": st.sampled_from(["a", "b"])},
        "virtio-rng-pci": {"rng": st.sampled_from(["/objects/o0", "o1"])},
        "qemu-xhci": {},
        "usb-tablet": {},
        "pci-bridge": {"chassis_nr": st.integers(1, 3)},
        "pc-dimm": {"memdev": st.sampled_from(["/objects/o0", "/objects/o1"]), "slot": st.integers(0, 1)},
        "qemu64-x86_64-cpu": {"socket-id": st.integers(0, 3), "core-id": st.just(0), "thread-id": st.just(0)},
        "no-such-device": {},
    }
    kinds = [
        st.fixed_dictionaries({"driver": st.just(driver)}, optional={"id": identifiers, **options})
        for driver, options in given.items()
    ]
    return st.tuples(st.just("device_add"), st.one_of(kinds))


def steps() -> st.SearchStrategy[list[Step]]:
    """What clients may do."""
    devices = st.sampled_from(["d0", "d1", "d2", "d3"])
    objects, chardevs = st.sampled_from(["o0", "o1"]), st.sampled_from(["c0", "c1"])
    nodes, netdevs = st.sampled_from(["n0", "n1", "n2"]), st.sampled_from(["net0", "net1"])
    paths = st.sampled_from(["/machine", "/machine/peripheral/d0", "/machine/peripheral/d1", "/objects/o0"])

    settable = st.sampled_from(["poll-max-ns", "graphics", "guest-stats-polling-interval"])

    lines = st.sampled_from(["drive_add 0 if=none,id=n1", "drive_del n1"])
    bitmaps = st.sampled_from(["b0", "b1"])
    names = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
    limits = {name: st.sampled_from([0, 100]) for name in names}

    def command(execute: str, /, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
        options = {key if key in limits else key.replace("_", "-"): value for key, value in arguments.items()}
        return st.tuples(st.just(execute), st.fixed_dictionaries(options))

    add = _devices(devices)
    return st.lists(
        st.one_of(
            add, add, add,
            command("device_del", id=devices), command("device_del", id=devices.map("/machine/peripheral/{}".format)),
            command("netdev_add", type=st.just("user"), id=netdevs), command("netdev_del", id=netdevs),
            command("set_link", name=st.one_of(netdevs, devices), up=st.booleans()),
            command("object-add", qom_type=st.just("iothread"), id=objects),
            command("object-add", qom_type=st.just("memory-backend-ram"), id=objects, size=st.just(4096)),
            command("object-add", qom_type=st.just("rng-builtin"), id=objects),
            command("object-del", id=objects),
            command("chardev-add", id=chardevs, backend=st.just({"type": "null", "data": {}})),
            command("chardev-remove", id=chardevs),
            command("blockdev-add", driver=st.just("null-co"), node_name=nodes, read_only=st.booleans()),
            command("blockdev-add", driver=st.just("raw"), node_name=nodes, file=nodes),
            command("blockdev-add", driver=st.just("raw"), node_name=nodes, file=st.just({"driver": "null-co"})),
            command("blockdev-del", node_name=nodes),
            command("block-dirty-bitmap-add", node=nodes, name=bitmaps, granularity=st.sampled_from([512, 65536])),
            command("block-dirty-bitmap-remove", node=nodes, name=bitmaps),
            command("block-dirty-bitmap-disable", node=nodes, name=bitmaps),
            command("human-monitor-command", command_line=nodes.map('qemu-io {} "write 64k 512"'.format)),
            command("blockdev-open-tray", id=devices), command("blockdev-close-tray", id=devices),
            command("blockdev-remove-medium", id=devices),
            command("blockdev-insert-medium", id=devices, node_name=nodes),
            command("eject", id=devices),
            command("human-monitor-command", command_line=lines),
            command("block_resize", node_name=nodes, size=st.sampled_from([512, 4096])),
            command("block_set_io_throttle", id=devices, **limits),
            command("balloon", value=st.sampled_from([128 << 20, 200_000_000, 1 << 40])),
            command("qom-set", path=paths, property=settable, value=st.sampled_from([True, 7, 0])),
            command("qom-list", path=paths),
            command("system_reset"), command("stop"), command("cont"), command("half a step", id=devices),
            command("advance", time=st.sampled_from([0, SECOND // 2, 2 * SECOND])),
        ),
        max_size=25,
    )  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
@settings(max_examples=20, deadline=None)
@given(before=steps(), after=steps(), booted=st.booleans())
def test_nothing_differs_after_an_update(release: str, before: list[Step], after: list[Step], booted: bool) -> None:
    """The one that was never updated is what the other is compared with, in its state and in all that it says."""
    parent = Played(release)
    if booted:
        parent.take(("advance", {"time": 10 * SECOND}))
    for step in before:
        parent.take(step)
    child = taken_over(parent, release)
    assert transferred(child) | {"clock": None} == transferred(parent) | {"clock": None}
    for step in after:
        assert child.take(step) == parent.take(step), step
    assert child.everything() == parent.everything()


def test_a_machine_that_nobody_has_asked_has_nothing_to_hand_over() -> None:
    parent = Played("10.0")
    parent.send("query-block", {})
    state = transferred(parent)
    assert state["system"]["inventory"] is None
    child = taken_over(parent, "10.0")
    assert child.vm.system.built is None


def test_what_has_come_and_gone_is_not_kept() -> None:
    parent = Played("10.0")
    parent.take(("advance", {"time": 10 * SECOND}))
    counts = []
    for _ in range(3):
        for number, driver in enumerate(("virtio-scsi-pci", "scsi-cd", "qemu-xhci", "usb-tablet", "pci-bridge")):
            given: dict[str, object] = {"driver": driver, "id": f"d{number}"}
            if driver in ("scsi-cd", "usb-tablet"):
                given["bus"] = f"d{number - 1}.0"
            added = parent.send("device_add", given if driver != "pci-bridge" else {**given, "chassis_nr": 1})
            assert b"error" not in added
        for number in range(5):
            parent.send("device_del", {"id": f"d{number}"})
        parent.take(("advance", {"time": 10 * SECOND}))
        things = transferred(parent)["system"]["inventory"]["things"]
        counts.append({kind: sum(each[0] == kind for each in things) for kind in ("Node", "Device", "Bus")})
    assert counts[0] == counts[1] == counts[2]


def test_a_job_that_has_failed_tells_why_in_the_same_words(tmp_path: Path) -> None:
    parent = Played("10.0")
    (tmp_path / "f").touch()
    parent.send("blockdev-add", {"driver": "file", "node-name": "f", "filename": str(tmp_path / "f")})
    options = {"driver": "qcow2", "file": "f", "size": (1 << 63) - 512}
    parent.send("blockdev-create", {"job-id": "j", "options": options})
    parent.take(("advance", {"time": SECOND}))
    told = parent.send("query-jobs", {})
    assert b"Could not resize image" in told
    assert taken_over(parent, "10.0").send("query-jobs", {}) == told


def _plugged() -> dict[str, Any]:
    parent = Played("10.0")
    parent.send("device_add", {"driver": "virtio-net-pci", "id": "d0"})
    return transferred(parent)


def _other_kinds(state: dict[str, Any]) -> None:
    state["known"]["Device"].append("colour")


def _unknown_kind(state: dict[str, Any]) -> None:
    state["things"][0][0] = "Thing"


def _wrong_reference(state: dict[str, Any]) -> None:
    state["parts"]["backends"] = state["parts"]["root"]


def _reference_to_nothing(state: dict[str, Any]) -> None:
    state["parts"]["root"] = len(state["things"])


def _missing_field(state: dict[str, Any]) -> None:
    state["things"][0][1].pop()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (_other_kinds, "described in another way"),
        (_unknown_kind, "there is no Thing"),
        (_wrong_reference, "is no Backends"),
        (_reference_to_nothing, "is no Node"),
        (_missing_field, "shorter"),
    ],
)
def test_another_programs_inventory_is_refused(spoil: Any, complaint: str) -> None:
    state = _plugged()
    spoil(state["system"]["inventory"])
    with pytest.raises(ValueError, match=complaint):
        snapshot.put(Played("10.0", start=False).vm, state, None)


def test_what_somebody_types_goes_on() -> None:
    """Keys that are held are held, what waits to be read is read, and the next start is from where it was said."""
    played = Played("10.0")
    played.take(("advance", {"time": 30 * SECOND}))
    assert b"error" not in played.send("chardev-add", {"id": "c", "backend": {"type": "ringbuf", "data": {}}})
    assert played.vm.system.guest is not None
    played.vm.system.guest.have_console().expect(Rule(GuestStep("c", b"what?"), "hello"))

    def key(name: str) -> tuple[str, dict[str, object]]:
        data = {"down": True, "key": {"type": "qcode", "data": name}}
        return "input-send-event", {"events": [{"type": "key", "data": data}]}

    played.take(key("ctrl"))
    played.take(key("alt"))
    assert b"now set to d" in played.send("human-monitor-command", {"command-line": "boot_set d"})
    played.take(("stop", {}))
    played.vm.system.make_front_end("c").feed(b"hello")
    child = taken_over(played, "10.0")
    assert child.vm.system.settings.boot_order == "d"
    child.take(("cont", {}))
    assert b'"what?"' in child.send("ringbuf-read", {"device": "c", "size": 9})
    assert b'"RESET"' in child.take(key("delete"))
