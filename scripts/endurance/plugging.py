"""Commands that plug things in and out, as one who knows what there is may send them; ids come from a small stock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

DEVICES = ("d0", "d1", "d2", "d3")
NETDEVS = ("net0", "net1")
NODES = ("n0", "n1", "n2")
OBJECTS = ("o0", "o1")
CHARDEVS = ("c0", "c1")
DRIVERS: dict[str, tuple[str, ...]] = {
    "virtio-net-pci": ("netdev", "mac", "addr"),
    "e1000": ("netdev", "addr"),
    "virtio-blk-pci": ("drive", "iothread"),
    "virtio-balloon-pci": (),
    "virtio-scsi-pci": ("iothread",),
    "scsi-hd": ("drive", "bus"),
    "scsi-cd": ("drive", "bus"),
    "virtio-serial-pci": (),
    "virtserialport": ("chardev", "name", "bus"),
    "virtio-rng-pci": ("rng",),
    "qemu-xhci": (),
    "usb-tablet": ("bus",),
    "usb-hub": ("bus",),
    "pci-bridge": ("chassis_nr", "bus"),
    "pvpanic": (),
    "qemu64-x86_64-cpu": (),
}
JOBS = ("j0", "j1", "n0")
BITMAPS = ("b0", "b1")
EXPORTS = ("e0", "e1")
PATHS = ("/", "/machine", "/machine/peripheral", "/machine/peripheral/d0", "/objects/o0", "/machine/unattached", "d1")
PROPERTIES = ("type", "realized", "poll-max-ns", "graphics", "addr", "netdev", "hotplugged", "memory-backend", "x")
SIZES = (0, 1, 4096, 64 << 20, 100_000_001, 1 << 40)


def device(random: Random) -> dict[str, Any]:
    """Arguments of device_add."""
    driver = random.choice(list(DRIVERS))
    given: dict[str, Any] = {"driver": driver}
    if random.random() < 0.8:
        given["id"] = random.choice(DEVICES)
    for name in DRIVERS[driver]:
        if random.random() < 0.6:
            given[name] = _option(random, name)
    return given


def _option(random: Random, name: str) -> Any:
    stock: dict[str, tuple[Any, ...]] = {
        "netdev": NETDEVS,
        "drive": NODES,
        "iothread": OBJECTS,
        "chardev": CHARDEVS,
        "rng": OBJECTS,
        "bus": ("d0.0", "d1.0", "d2.0", "pci.0", "usb-bus.0", "/main-system-bus", "x"),
        "mac": ("52:54:00:12:34:57", "02:00:00:00:00:01", "nonsense"),
        "addr": ("3", "4.1", 5, -1, 0x28, "zz"),
        "name": ("a", "b"),
        "chassis_nr": (1, 2, 300),
    }
    return random.choice(stock[name])


def bitmap_action(random: Random) -> tuple[str, dict[str, Any]]:
    """What is done to a dirty bitmap, which may be an action of a transaction, and its arguments."""
    pick = random.choice
    which = {"node": pick(NODES), "name": pick(BITMAPS)}
    name = pick(("add", "remove", "clear", "enable", "disable", "merge"))
    if name == "merge":
        sources = [pick((*BITMAPS, {"node": pick(NODES), "name": pick(BITMAPS)})) for _ in range(random.randrange(3))]
        return "block-dirty-bitmap-merge", {"node": which["node"], "target": which["name"], "bitmaps": sources}
    if name == "add" and random.random() < 0.5:
        more = {"granularity": pick((0, 512, 65536, 1000)), "persistent": pick((True, False))}
        return "block-dirty-bitmap-add", {**which, **more}
    return f"block-dirty-bitmap-{name}", which


def _transaction(random: Random) -> dict[str, Any]:
    pick = random.choice
    actions = []
    for _ in range(random.randrange(4)):
        kind, data = bitmap_action(random)
        actions.append({"type": kind, "data": data})
    actions.append(pick((
        {"type": "abort", "data": {}},
        {"type": "blockdev-backup", "data": _backup(random)},
        {"type": "blockdev-snapshot", "data": {"node": pick(NODES), "overlay": pick(NODES)}},
    )))  # fmt: skip
    random.shuffle(actions)
    given: dict[str, Any] = {"actions": actions}
    if random.random() < 0.3:
        given["properties"] = {"completion-mode": pick(("grouped", "individual"))}
    return given


def _backup(random: Random) -> dict[str, Any]:
    pick = random.choice
    given = {"job-id": pick(JOBS), "device": pick(NODES), "target": pick(NODES)}
    given["sync"] = pick(("full", "none", "incremental"))
    return {**given, "bitmap": pick(BITMAPS)} if random.random() < 0.3 else given


def disk_command(random: Random) -> tuple[str, dict[str, Any]]:
    """A command about jobs, bitmaps, transactions or exports, and its arguments."""
    pick = random.choice
    by_hand = {"auto-finalize": pick((True, False)), "auto-dismiss": pick((True, False))}
    verbs = ("pause", "resume", "cancel", "complete", "finalize", "dismiss")
    made: list[tuple[str, dict[str, Any]]] = [
        bitmap_action(random),
        ("transaction", _transaction(random)),
        ("blockdev-backup", {**_backup(random), **by_hand}),
        ("blockdev-mirror", {"job-id": pick(JOBS), "device": pick(NODES), "target": pick(NODES), "sync": "full",
                             "speed": pick((0, 1, -1, 1 << 20)), **by_hand}),
        ("block-stream", {"job-id": pick(JOBS), "device": pick(NODES), **by_hand}),
        ("block-commit", {"job-id": pick(JOBS), "device": pick(NODES), **by_hand}),
        (f"job-{pick(verbs)}", {"id": pick(JOBS)}),
        ("block-job-cancel", {"device": pick(JOBS), "force": random.random() < 0.5}),
        ("block-job-set-speed", {"device": pick(JOBS), "speed": pick((0, 1, 1 << 30))}),
        ("block_resize", {"node-name": pick(NODES), "size": pick(SIZES)}),
        ("block-export-add", {"type": "nbd", "id": pick(EXPORTS), "node-name": pick(NODES),
                              "writable": random.random() < 0.5}),
        ("block-export-del", {"id": pick(EXPORTS), "mode": pick(("safe", "hard"))}),
        (pick(("nbd-server-stop", "query-block-exports", "query-jobs", "query-block-jobs")), {}),
    ]  # fmt: skip
    return pick(made)


def command(random: Random) -> tuple[str, dict[str, Any]]:
    """A command and its arguments."""
    if random.random() < 0.3:
        return disk_command(random)
    pick = random.choice
    made: list[tuple[str, dict[str, Any]]] = [
        ("device_add", device(random)),
        ("device_del", {"id": pick((*DEVICES, "/machine/peripheral/d1", "/machine/unattached/device[1]"))}),
        ("netdev_add", {"type": pick(("user", "hubport", "socket")), "id": pick(NETDEVS), "hubid": 0}),
        ("netdev_add", {"type": "user", "id": pick(NETDEVS)}),
        ("netdev_del", {"id": pick(NETDEVS)}),
        ("set_link", {"name": pick((*NETDEVS, *DEVICES)), "up": random.random() < 0.5}),
        ("object-add", {"qom-type": pick(("iothread", "rng-builtin", "secret", "x")), "id": pick(OBJECTS)}),
        ("object-add", {"qom-type": "memory-backend-ram", "id": pick(OBJECTS), "size": pick(SIZES)}),
        ("object-del", {"id": pick(OBJECTS)}),
        ("chardev-add", {"id": pick(CHARDEVS), "backend": {"type": pick(("null", "ringbuf", "pty")), "data": {}}}),
        ("chardev-remove", {"id": pick(CHARDEVS)}),
        ("blockdev-add", {"driver": "null-co", "node-name": pick(NODES), "read-only": random.random() < 0.3}),
        ("blockdev-add", {"driver": "raw", "node-name": pick(NODES), "file": pick((*NODES, {"driver": "null-co"}))}),
        ("blockdev-del", {"node-name": pick(NODES)}),
        (pick(("blockdev-open-tray", "blockdev-close-tray", "blockdev-remove-medium", "eject")), {"id": pick(DEVICES)}),
        ("blockdev-insert-medium", {"id": pick(DEVICES), "node-name": pick(NODES)}),
        ("balloon", {"value": pick(SIZES)}),
        ("qom-set", {"path": pick(PATHS), "property": pick(PROPERTIES), "value": pick((True, 7, "x", None, {}))}),
        ("qom-get", {"path": pick(PATHS), "property": pick(PROPERTIES)}),
        ("qom-list", {"path": pick(PATHS)}),
        (pick(("query-block", "query-pci", "query-chardev", "query-rx-filter", "query-balloon", "query-memdev")), {}),
        (pick(("query-named-block-nodes", "query-blockstats", "query-iothreads", "query-hotpluggable-cpus")), {}),
    ]
    return pick(made)


def guest_part(random: Random) -> tuple[str, dict[str, Any]]:
    """A control command that plays the guest's part, and its arguments."""
    pick = random.choice
    made: list[tuple[str, dict[str, Any]]] = [
        (pick(("guest-release-device", "guest-refuse-device")), {"device": pick(DEVICES)}),
        ("guest-set-balloon", {"size": pick(SIZES)}),
        ("guest-move-tray", {"device": pick(DEVICES), "open": random.random() < 0.5}),
        ("guest-lock-tray", {"device": pick(DEVICES), "locked": random.random() < 0.5}),
        ("guest-set-filter", {"device": pick(DEVICES), "promiscuous": random.random() < 0.5}),
        ("guest-open-port", {"device": pick(DEVICES)}),
        ("clock-advance", {"time": pick(("1ms", "1s", "1h"))}),
    ]
    return pick(made)
