"""Command lines and commands by chance: devices, backends, nodes and objects come, are asked for, are set, and go.

Ids come from small pools, so that what is asked for is often there, often taken, and often not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.objects.support import Request

    Strategy = st.SearchStrategy[Request]
    Properties = dict[str, st.SearchStrategy[Any]]

# What a path in the folder of images begins with; whoever plays a sequence puts the folder's name in its place.
FOLDER = "/qmpd-images"
IMAGES = ("plain.img", "odd.img", "empty.img", "a.qcow2", "old.qcow2", "over.qcow2", "none.img")

PERIPHERAL = "/machine/peripheral"


def _from(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def _request(name: str, **arguments: Any) -> Request:
    return name, {key.replace("_", "-"): value for key, value in arguments.items()}


def _fixed(name: str, required: Properties | None = None, **optional: Any) -> Strategy:
    """A command whose arguments are drawn; `optional` ones may be missing."""
    named = {key.replace("_", "-"): value for key, value in optional.items()}
    return st.fixed_dictionaries(required or {}, optional=named).map(lambda arguments: (name, arguments))


DEVICES = _from("d0", "d1", "d2", "s0", "h0")
NETDEVS = _from("n0", "n1", "n2")
NODES = _from("b0", "b1", "b2", "b3")
OBJECTS = _from("o0", "o1", "o2")
CHARDEVS = _from("c0", "c1", "c2")
# Nothing, something odd, something of another type.
ODD = _from("", "zz", "1x", "a b", "ü", 0, -1, 7, 1.5, True, None, [], {}, 1 << 63, "0x10", "on", "-1")
BOOLEANS = _from(True, False, True, False, "on", "off", "maybe", 1)
NUMBERS = _from(0, 1, 2, 3, 31, 4096, -1, "0", "1", "0x1f", "2k", "zz", 1 << 32, 1 << 64, 1.0)
SIZES = _from(1 << 20, 1 << 24, 64 << 20, 0, -1, "x")
MACS = _from("52:54:00:12:34:56", "52:54:00:12:34:57", "AA-bb-cc-dd-ee-ff", "52:54:00:12:34", "zz", 5)
ADDRESSES = _from("3", "4", "5", "5.1", "0x5.0x1", "1f", "20", "3.8", 24, 40, -1, 300, "zz", "06.0", True)

CAN_BUSES = _from("o0", "o1", "/objects/o2", "zz")
CONTROLLERS = _from("m0", f"{PERIPHERAL}/m0", "zz", "d0")

PCI: Properties = {"addr": ADDRESSES, "multifunction": BOOLEANS, "rombar": NUMBERS, "x-pcie-lnksta-dllla": BOOLEANS}
CARD: Properties = {**PCI, "netdev": NETDEVS, "mac": MACS, "bootindex": NUMBERS, "romfile": _from("", "zz", 1)}
VIRTIO: Properties = {
    "event_idx": BOOLEANS, "vectors": NUMBERS, "disable-legacy": _from("on", "off", "auto", "zz", True),
    "iommu_platform": BOOLEANS, "packed": BOOLEANS,
}  # fmt: skip
DISK: Properties = {
    "drive": NODES, "serial": _from("serial", "", 5), "bootindex": NUMBERS, "share-rw": BOOLEANS,
    "write-cache": _from("on", "off", "auto", "zz"), "logical_block_size": _from(512, 4096, 513, "1k", 0),
    "werror": _from("stop", "report", "zz"), "min_io_size": NUMBERS,
}  # fmt: skip
SCSI: Properties = {**DISK, "scsi-id": NUMBERS, "lun": NUMBERS, "channel": NUMBERS}
PORT: Properties = {"chardev": CHARDEVS, "nr": NUMBERS, "name": _from("port", "org.qemu.0", "", 5)}
USB: Properties = {"port": _from("1", "2", "3", "1.1", "1.2", "zz", 1), "serial": _from("x"), "msos-desc": BOOLEANS}
KINDS: dict[str, Properties] = {
    "e1000": CARD,
    "rtl8139": CARD,
    "virtio-net-pci": {**CARD, **VIRTIO, "speed": NUMBERS, "mq": BOOLEANS},
    "virtio-net": CARD,
    "virtio-blk-pci": {**PCI, **VIRTIO, **DISK, "num-queues": NUMBERS, "iothread": OBJECTS},
    "virtio-scsi-pci": {**PCI, **VIRTIO, "num_queues": NUMBERS, "iothread": OBJECTS},
    "scsi-hd": SCSI,
    "scsi-cd": SCSI,
    "scsi-generic": {"drive": NODES},
    "lsi53c895a": PCI,
    "virtio-serial-pci": {**PCI, **VIRTIO, "max_ports": NUMBERS},
    "virtserialport": PORT,
    "virtconsole": PORT,
    "virtio-balloon-pci": {**PCI, "guest-stats-polling-interval": NUMBERS, "deflate-on-oom": BOOLEANS},
    "virtio-rng-pci": {**PCI, "rng": _from("o0", "o1", "/objects/o0", "zz"), "max-bytes": NUMBERS},
    "qemu-xhci": {**PCI, "p2": NUMBERS, "p3": NUMBERS},
    "piix3-usb-uhci": PCI,
    "usb-ehci": PCI,
    "usb-tablet": USB,
    "usb-hub": USB,
    "usb-storage": {**USB, "drive": NODES, "removable": BOOLEANS},
    "usb-serial": {**USB, "chardev": CHARDEVS},
    "usb-net": {**USB, "netdev": NETDEVS, "mac": MACS},
    "pci-bridge": {**PCI, "chassis_nr": NUMBERS},
    "nvme": {**PCI, "drive": NODES, "serial": _from("x")},
    "ich9-ahci": PCI,
    "ide-hd": {**DISK, "unit": NUMBERS},
    "i6300esb": PCI,
    "pvpanic-pci": PCI,
    "edu": PCI,
    "pci-testdev": PCI,
    "VGA": PCI,
    "secondary-vga": PCI,
    "isa-serial": {"chardev": CHARDEVS, "index": NUMBERS},
    "isa-debug-exit": {"iobase": NUMBERS},
    "pvpanic": {},
    "floppy": {},
    "ioh3420": {**PCI, "chassis": NUMBERS, "slot": NUMBERS},
    "pcie-root-port": {**PCI, "chassis": NUMBERS, "slot": NUMBERS},
    "x3130-upstream": PCI,
    "xio3130-downstream": {**PCI, "chassis": NUMBERS},
    "pc-dimm": {"memdev": _from("o0", "o1", "o2"), "addr": NUMBERS, "slot": NUMBERS, "node": NUMBERS},
    "qemu64-x86_64-cpu": dict.fromkeys(("socket-id", "core-id", "thread-id", "die-id", "apic-id"), NUMBERS),
    "kvaser_pci": {**PCI, "canbus": CAN_BUSES},
    "pcm3680_pci": {**PCI, "canbus0": CAN_BUSES, "canbus1": CAN_BUSES},
    "ctucan_pci": {**PCI, "canbus0": CAN_BUSES, "canbus1": CAN_BUSES},
    "pci-ipmi-kcs": {**PCI, "bmc": CONTROLLERS},
    "pci-ipmi-bt": {**PCI, "bmc": CONTROLLERS},
    "virtio-9p-pci": {**PCI, **VIRTIO, "fsdev": _from("f0", "f0", "f0", "zz"), "mount_tag": _from("t", "", "t" * 32)},
    "pci-serial-2x": {**PCI, "chardev1": _from("c0", "zz"), "chardev2": _from("c1", "zz")},
    "pci-device": {},
    "zz": {},
    "": {},
    "PIIX4_PM": {},
    "loader": {},
}
# What a device can do nothing without.
NEEDED = (
    "drive", "chardev", "chardev1", "memdev", "serial", "chassis", "canbus", "canbus0", "canbus1", "bmc", "fsdev",
    "mount_tag",
)  # fmt: skip
# Those that most sequences are about.
COMMON = (
    "e1000", "virtio-net-pci", "virtio-blk-pci", "virtio-scsi-pci", "scsi-hd", "scsi-cd", "virtio-serial-pci",
    "virtserialport", "qemu-xhci", "usb-tablet", "usb-storage", "virtio-balloon-pci", "pci-bridge",
)  # fmt: skip
BUSES = _from("pci.0", "s0.0", "h0.0", "d0.0", "/machine/i440fx/pci.0", "usb-bus.0", "pcie.0", "zz", "", "d1", "d0", 5)


@st.composite
def _device(draw: st.DrawFn) -> Request:
    kind = draw(_from(*COMMON) if draw(st.integers(0, 2)) else _from(*KINDS))
    properties = KINDS[kind]
    arguments: dict[str, Any] = {"driver": kind}
    if draw(st.integers(0, 5)):
        arguments["id"] = draw(DEVICES)
    for name in NEEDED:
        if name in properties and draw(st.integers(0, 4)):
            arguments[name] = draw(properties[name])
    for _ in range(draw(_from(0, 0, 0, 1, 1, 2, 3))):
        if properties:
            name = draw(_from(*properties))
            arguments[name] = draw(properties[name])
    match draw(st.integers(0, 15)):
        case 0:
            arguments["id"] = draw(ODD)
        case 1 | 2 | 3:
            arguments["bus"] = draw(BUSES)
        case 4:
            arguments[draw(_from("zz", "realized", "hotplugged", "parent_bus", "type", "driver"))] = draw(ODD)
        case 5 if properties:
            arguments[draw(_from(*properties))] = draw(ODD)
    return "device_add", arguments


def _nodes(depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """What a node is opened with, without its name."""
    files = _from(*IMAGES).map(lambda name: f"{FOLDER}/{name}")
    common: Properties = {
        "read-only": _from(True, False), "discard": _from("unmap", "ignore"),
        "detect-zeroes": _from("on", "off", "unmap"),
        "cache": _from({"direct": False}, {"no-flush": True}),
    }  # fmt: skip
    plain = st.fixed_dictionaries(
        {"driver": _from("null-co", "null-aio")}, optional={"size": _from(0, 5, 4096, 1 << 20), **common}
    )
    file = st.fixed_dictionaries({"driver": st.just("file"), "filename": files}, optional=common)
    if depth:
        return st.one_of(plain, file)
    below = st.one_of(
        NODES, _nodes(1), st.builds(lambda name, node: {**node, "node-name": name}, _from("f0", "f1"), _nodes(1))
    )
    raw = st.fixed_dictionaries(
        {"driver": st.just("raw"), "file": below},
        optional={"offset": _from(0, 512, 1 << 40), "size": _from(0, 512), **common},
    )
    qcow2 = st.fixed_dictionaries(
        {"driver": st.just("qcow2"), "file": below},
        optional={"backing": st.one_of(NODES, st.none(), _nodes(1)), "read-only": _from(True, False)},
    )
    bad = _from({}, {"driver": "zz"}, {"driver": "file"}, {"driver": "raw"}, {"driver": 5})
    return st.one_of(plain, plain, file, raw, qcow2, bad)


_blockdev = st.one_of(
    st.builds(lambda name, node: ("blockdev-add", {"node-name": name, **node}), NODES, _nodes()),
    st.builds(lambda name, node: ("blockdev-add", {"node-name": name, **node}), ODD, _nodes()),
    _nodes().map(lambda node: ("blockdev-add", node)),
)
_netdev = st.one_of(
    _fixed("netdev_add", {"type": _from("user", "hubport"), "id": NETDEVS, "hubid": st.just(0)}),
    _fixed("netdev_add", {"type": st.just("user"), "id": NETDEVS}),
    _fixed("netdev_add", {"type": st.just("hubport"), "id": NETDEVS, "hubid": _from(0, 1, 2)}),
    _fixed("netdev_add", type=_from("user", "zz", "hubport", 5, "nic", "none"), id=ODD, hubid=ODD),
)
_RATES = _from(0, 1, 5, -1, 10**15 + 1, 1 << 32)
_object = st.one_of(
    _fixed("object-add", {"qom-type": st.just("iothread"), "id": OBJECTS}, poll_max_ns=NUMBERS, poll_grow=NUMBERS),
    _fixed(
        "object-add",
        {"qom-type": st.just("memory-backend-ram"), "id": OBJECTS, "size": SIZES},
        merge=BOOLEANS, prealloc=_from(False), share=BOOLEANS, dump=BOOLEANS,
    ),
    _fixed("object-add", {"qom-type": _from("rng-builtin", "authz-list", "can-bus", "throttle-group"), "id": OBJECTS}),
    _fixed("object-add", {"qom-type": st.just("secret"), "id": OBJECTS}, data=_from("x", 5), format=_from("raw", "zz")),
    _fixed("object-add", {"qom-type": st.just("authz-simple"), "id": OBJECTS}, identity=_from("x", 5)),
    _fixed("object-add", {"qom-type": st.just("rng-random"), "id": OBJECTS}, filename=_from("/dev/zero", "/zz")),
    _fixed(
        "object-add",
        {"qom-type": st.just("memory-backend-ram"), "id": OBJECTS, "size": SIZES},
        policy=_from("default", "bind", "zz"), host_nodes=_from([], [0], [99999], 0), prealloc_threads=NUMBERS,
    ),
    _fixed(
        "object-add",
        {"qom-type": st.just("memory-backend-file"), "id": OBJECTS, "size": SIZES},
        mem_path=_from("/zz/zz", "/tmp", 5), align=_from(0, 3, 4096),
    ),
    _fixed(
        "object-add", {"qom-type": st.just("throttle-group"), "id": OBJECTS},
        x_iops_total=_RATES, x_iops_read=_RATES, x_iops_total_max=_RATES, x_iops_total_max_length=_RATES,
        x_iops_size=_RATES,
        limits=st.dictionaries(_from("bps-total", "bps-write", "iops-size", "bps-write-max"), _RATES),
    ),
    _fixed(
        "object-add", {"qom-type": st.just("secret"), "id": OBJECTS},
        data=_from("x", "Zm9v", "*"), file=_from("/zz", "/"), format=_from("raw", "base64"), keyid=OBJECTS,
        iv=_from("xx", "MDEyMzQ1Njc4OWFiY2RlZg=="),
    ),
    _fixed(
        "object-add",
        {"qom-type": _from("filter-redirector", "rng-egd", "cryptodev-backend-builtin"), "id": OBJECTS},
        netdev=_from("n0", "zz"), indev=_from("c0", "zz"), outdev=_from("c0", "zz"), chardev=_from("zz"),
        queues=_from(0),
    ),
    _fixed("object-add", qom_type=_from("iothread", "zz", "container", "e1000", "memory-backend", 5), id=ODD, zz=ODD),
)  # fmt: skip
_NULL = {"type": "null", "data": {}}
_chardev = st.one_of(
    _fixed("chardev-add", {"id": CHARDEVS, "backend": st.just(_NULL)}),
    _fixed("chardev-add", {"id": CHARDEVS, "backend": st.just({"type": "ringbuf", "data": {"size": 4096}})}),
    _fixed("chardev-add", id=ODD, backend=st.one_of(ODD, st.just(_NULL), st.just({"type": "zz", "data": {}}))),
    _fixed("chardev-remove", {"id": CHARDEVS}),
    _fixed("chardev-remove", {"id": _from("compat_monitor0", "zz", "", 5)}),
)
_going = st.one_of(
    _fixed("device_del", {"id": DEVICES}),
    _fixed("device_del", {"id": DEVICES.map(lambda name: f"{PERIPHERAL}/{name}")}),
    _fixed("device_del", {"id": _from("zz", "", "/machine", "/", "d0/virtio-backend")}),
    _fixed("device_del", {"id": _from("/machine/unattached/device[0]", "/machine/peripheral-anon/device[0]")}),
    _fixed("netdev_del", {"id": _from("n0", "n1", "n2", "zz", "", "d0")}),
    _fixed("blockdev-del", {"node-name": _from("b0", "b1", "b2", "b3", "f0", "zz", "")}),
    _fixed("object-del", {"id": _from("o0", "o1", "o2", "pc.ram", "zz", "", "d0")}),
)
_USERS = _from("d0", "d1", "d2", "s0", "zz", "", "b0", f"{PERIPHERAL}/d0")
_media = st.one_of(
    _fixed("blockdev-open-tray", id=_USERS, force=_from(True, False)),
    _fixed("blockdev-close-tray", id=_USERS),
    _fixed("blockdev-remove-medium", {"id": _USERS}),
    _fixed("blockdev-insert-medium", {"id": _USERS, "node-name": st.one_of(NODES, NODES, _from("zz", ""))}),
    _fixed("eject", id=_USERS, force=_from(True, False)),
    _fixed("eject", device=_USERS),
)
_various = st.one_of(
    _fixed("set_link", {"name": _from("n0", "n1", "d0", "d1", "zz", ""), "up": _from(True, False)}),
    _fixed("balloon", {"value": _from(0, -1, 1, 4096, 5000, 16 << 20, 32 << 20, 1 << 40, "x")}),
    st.just(_request("query-balloon")),
    st.just(_request("system_reset")),
)
QUERIES = (
    "query-block", "query-named-block-nodes", "query-blockstats", "query-chardev", "query-iothreads", "query-memdev",
    "query-rx-filter", "query-pci", "query-memory-devices", "query-memory-size-summary", "query-hotpluggable-cpus",
    "query-cpus-fast", "query-balloon", "query-block-jobs", "query-status",
)  # fmt: skip
_queries = st.one_of(
    _from(*QUERIES).map(lambda name: (name, {})),
    _from(*QUERIES).map(lambda name: (name, {})),
    _fixed("query-blockstats", {"query-nodes": _from(True, False)}),
    _fixed("query-named-block-nodes", {"flat": _from(True, False)}),
    _fixed("query-rx-filter", {"name": _from("d0", "d1", "n0", "zz")}),
)
PATHS = (
    "/", "/machine", "/objects", "/chardevs", "/backend", "/machine/unattached", PERIPHERAL, "/machine/peripheral-anon",
    "/machine/i440fx/pci.0", "/machine/q35/pcie.0", "d0", "d1", "s0", "o0", "c0", "zz", "", "/zz", "d0/d0.0", "s0/s0.0",
    "/machine/peripheral-anon/device[0]", "/machine/peripheral-anon/device[1]", "/objects/o0", "/objects/o1",
    f"{PERIPHERAL}/d0", f"{PERIPHERAL}/d1", f"{PERIPHERAL}/s0", f"{PERIPHERAL}/h0", f"{PERIPHERAL}/d0/virtio-backend",
    f"{PERIPHERAL}/s0/virtio-backend", f"{PERIPHERAL}/h0/h0.0", "/machine/unattached/sysbus", "virtio-backend",
    f"{PERIPHERAL}/d0/bus master[0]", "peripheral", "/backend/console[0]", "/machine/peripheral/d0/d0.0/child[0]",
)  # fmt: skip
NAMES = (
    "type", "realized", "hotplugged", "hotpluggable", "parent_bus", "addr", "legacy-addr", "mac", "netdev", "drive",
    "chardev", "serial", "child[0]", "child[1]", "size", "poll-max-ns", "scsi-id", "lun", "port", "bootindex", "zz",
    "guest-stats", "guest-stats-polling-interval", "multifunction", "logical_block_size", "vectors", "share-rw", "nr",
    "host_mtu", "identity", "d0", "virtio-backend", "bus master[0]", "romfile", "memdev", "merge", "dump", "x-txburst",
)  # fmt: skip
_objects_asked = st.one_of(
    _fixed("qom-list", {"path": _from(*PATHS)}),
    _fixed("qom-get", {"path": _from(*PATHS), "property": _from(*NAMES)}),
    _fixed(
        "qom-set",
        {"path": _from(*PATHS), "property": _from(*NAMES), "value": st.one_of(ODD, NUMBERS, BOOLEANS, DEVICES)},
    ),
    _fixed(
        "qom-set",
        {
            "path": OBJECTS,
            "property": _from("poll-max-ns", "poll-grow", "merge", "share", "size", "policy", "limits", "x-iops-total"),
            "value": st.one_of(NUMBERS, BOOLEANS, _from({}, {"iops-total": -5}, "bind", 1 << 63)),
        },
    ),
)

HUMAN_LINES = (
    "device_add e1000,id=d0", "device_add virtio-blk-pci,id=d1,drive=b0", "device_add e1000,id=1x", "device_add zz",
    "device_add", "device_add scsi-cd,id=d2", "device_add e1000,id=d1,addr=5 x", "device_del d0", "device_del zz",
    "device_del", "netdev_add user,id=n0", "netdev_add hubport,id=n1,hubid=0", "netdev_add zz,id=n2", "netdev_add user",
    "netdev_del n0", "netdev_del zz", "set_link n0 off", "set_link d0 on", "set_link d0", "chardev-add null,id=c0",
    "chardev-add zz,id=c0", "chardev-add null", "chardev-remove c0", "object_add iothread,id=o0", "object_del o0",
    "object_add memory-backend-ram,id=o1,size=16M", "object_add zz,id=o0", "object_add iothread", "eject d0",
    "eject -f d1", "eject", "balloon 16", "balloon zz", "info balloon", "info block", "info chardev", "info block b0",
    "info memory-devices", "info memory_size_summary", "info chardev x", "qom-list o0", "qom-get o0 poll-max-ns",
    "qom-set o0 poll-max-ns 5", "qom-set o0 poll-max-ns -5", "qom-set -j o1 merge false", "qom-set o1 merge x",
    "qom-set d0 mac x", "qom-get d0", "object_add throttle-group,id=o2,x-iops-total=5,x-iops-read=5",
    "object_add secret,id=o2,data=x,keyid=zz", "object_add memory-backend-ram,id=o1,size=1M,policy=bind",
)  # fmt: skip
_human = _from(*HUMAN_LINES).map(lambda line: _request("human-monitor-command", command_line=line))

COMMANDS: Strategy = st.one_of(
    _device(), _device(), _device(), _device(), _blockdev, _blockdev, _netdev, _object, _chardev, _going, _going,
    _media, _various, _queries, _queries, _objects_asked, _objects_asked,
    _human,
)  # fmt: skip

_COLD = (
    ["-fsdev", "synth,id=f0", "-device", "ipmi-bmc-sim,id=m0", "-object", "can-bus,id=o0"],
    ["-device", "virtio-scsi-pci,id=s0"],
    ["-device", "qemu-xhci,id=h0"],
    ["-device", "virtio-balloon-pci"],
    ["-device", "VGA,id=d2"],
    ["-device", "e1000"],
    ["-device", "virtio-serial-pci,id=s0"],
    ["-device", "piix3-usb-uhci,id=h0,addr=1.2"],
    ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,id=d0,mac=52:54:00:11:22:33"],
    ["-blockdev", "driver=null-co,node-name=b0", "-device", "virtio-blk-pci,drive=b0,id=d1"],
    ["-object", "iothread,id=o0"],
    ["-object", "memory-backend-ram,id=o1,size=16M"],
    ["-device", "pcie-root-port,id=h0,chassis=1"],
    ["-device", "pci-bridge,id=d1,chassis_nr=1"],
    ["-device", "isa-debug-exit"],
    ["-device", "pvpanic"],
    ["-chardev", "null,id=c0"],
)
_MACHINES = (
    ["-machine", "pc,accel=tcg", "-m", "32"],
    ["-machine", "pc,accel=tcg", "-m", "32"],
    ["-machine", "pc,accel=tcg", "-m", "32,slots=2,maxmem=256M", "-smp", "1,maxcpus=3"],
    ["-machine", "q35,accel=tcg", "-m", "32"],
    ["-machine", "none"],
)


# Where much can happen from the start.
_SCENES: tuple[tuple[Request, ...], ...] = (
    (),
    (
        _request("blockdev-add", driver="null-co", node_name="b0"),
        ("device_add", {"driver": "virtio-scsi-pci", "id": "s0"}),
        ("device_add", {"driver": "scsi-cd", "id": "d0"}),
        ("device_add", {"driver": "scsi-hd", "id": "d1", "drive": "b0"}),
    ),
    (
        _request("netdev_add", type="user", id="n0"), ("device_add", {"driver": "e1000", "id": "d0", "netdev": "n0"}),
        ("device_add", {"driver": "virtio-net-pci", "id": "d1"}),
    ),
    (
        _request("chardev-add", id="c0", backend=_NULL), ("device_add", {"driver": "virtio-serial-pci", "id": "s0"}),
        ("device_add", {"driver": "virtserialport", "id": "d0", "chardev": "c0"}),
    ),
    (
        ("device_add", {"driver": "qemu-xhci", "id": "h0"}), ("device_add", {"driver": "usb-tablet", "id": "d0"}),
        _request("blockdev-add", driver="null-co", node_name="b1"),
        ("device_add", {"driver": "usb-storage", "id": "d1", "drive": "b1"}),
    ),
    (
        ("device_add", {"driver": "virtio-balloon-pci", "id": "d2"}), ("device_add", {"driver": "e1000", "id": "d1"}),
        ("device_add", {"driver": "pci-bridge", "id": "h0", "chassis_nr": 2}),
    ),
)  # fmt: skip


@st.composite
def examples(draw: st.DrawFn) -> tuple[list[str], list[Request]]:
    """A command line and what is asked."""
    options = [*draw(_from(*_MACHINES)), "-display", "none", "-nodefaults", "-S"]
    if options[1] != "none":
        for words in draw(st.lists(_from(*_COLD), max_size=3, unique_by=tuple)):
            options += words
    # What a q35's own PCI devices are is not known.
    commands = COMMANDS.filter(lambda request: request[0] != "query-pci") if "q35" in options[1] else COMMANDS
    scene = list(draw(_from(*_SCENES)))
    return options, scene + draw(st.lists(commands, min_size=10, max_size=40))
