"""What the human monitor's `info` shows of what is none of the machine's parts, or refuses to show.

What QMP tells is told in lines (asked of releases 5.2 to 11.1); of the rest the arguments are looked at, and what
refuses them, or that there is nothing to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.hardware.processors import plugged
from qmpd.human.asking import answer, call
from qmpd.human.declared import Shorter, acting, declare
from qmpd.human.various import of_cpu, old_capture, told
from qmpd.monitor.commands.machine import cpus
from qmpd.qapi.introspection import Enumeration

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.human.asking import Part
    from qmpd.qom.node import Node
    from qmpd.system.system import System

    Values = dict[str, Any]
    Show = Callable[[System, Values], str]

_PLACES = ("node-id", "drawer-id", "book-id", "socket-id", "die-id", "cluster-id", "module-id", "core-id", "thread-id")
_IOTHREAD = ("poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch")
_MEMORY = ("size", "merge", "dump", "prealloc", "share", "reserve", "policy")
_TITLES = "Type               Object  Call site  Wait Time (s)         Count  Average (us)\n"
_RULER = "-" * (len(_TITLES) - 1) + "\n"
_USB = "usb-bus"


def _hotpluggable(system: System, values: Values) -> str:
    said = "Hotpluggable CPUs:\n"
    for each in answer(system, "query-hotpluggable-cpus"):
        said += f'  type: "{each["type"]}"\n  vcpus_count: "{each["vcpus-count"]}"\n'
        if "qom-path" in each:
            said += f'  qom_path: "{each["qom-path"]}"\n'
        said += "  CPUInstance Properties:\n"
        said += "".join(f'    {name}: "{each["props"][name]}"\n' for name in _PLACES if name in each["props"])
    return said


def _registers(system: System, values: Values) -> str:
    index = values.get("cpu")
    if index is not None and index not in cpus(system):
        return told(system, "cpu-not-available", index=index)
    raise NotModelled("the command info registers")


def _local_apic(system: System, values: Values) -> str:
    wanted = values.get("apic")
    devices = system.devices.buses.devices.values()
    if wanted is not None and all(number != wanted for number in _apics(system, devices)):
        return told(system, "local-apic-missing")
    raise NotModelled("the command info lapic")


def _apics(system: System, devices: Any) -> list[int]:
    return [node.value("apic-id") for _, node in plugged(devices, system.settings)]


def _trace_events(system: System, values: Values) -> str:
    try:
        call(system, "trace-event-get-state", {"name": values.get("name", "*"), **of_cpu(system, values)})
    except NotModelled:
        raise
    except Refusal as refusal:
        return f"{system.release.refusals.message(refusal)}\n"
    raise NotModelled("the command info trace-events")


def _rocker(name: str) -> Show:
    def show(system: System, values: Values) -> str:
        call(system, name, {"name": values["name"]})
        raise NotModelled(f"what {name} tells")

    return show


def _tree(system: System, values: Values) -> str:
    path = values.get("path", "")
    tree = system.tree
    found = tree.root if not path else tree.find(path) if tree.resolves(path) else None
    if found is None:
        return told(system, "qom-path-unresolved", path=path)
    return "".join(_below(found, 0, found is tree.root))


def _devices(system: System, values: Values) -> str:
    from qmpd.human.device_tree import device_tree

    return device_tree(system, brief=bool(values.get("brief")))


def _below(node: Node, indent: int, is_root: bool = False) -> list[str]:
    lines = [f"{' ' * indent}/{'' if is_root else node.name} ({node.type})\n"]
    for child in sorted(node.children.values(), key=lambda each: each.name):
        lines += _below(child, indent + 2)
    return lines


def _generation(system: System, values: Values) -> str:
    return f"{answer(system, 'query-vm-generation-id')['guid']}\n"


def _secure(system: System, values: Values) -> str:
    if not answer(system, "query-sev")["enabled"]:
        return "SEV is not enabled\n"
    raise NotModelled("the command info sev")


def _replay(system: System, values: Values) -> str:
    if answer(system, "query-replay")["mode"] == "none":
        return told(system, "replay-inactive")
    raise NotModelled("the command info replay")


def _nothing_of(name: str) -> Show:
    """What has lines for each of what a query lists, where that lists nothing."""

    def show(system: System, values: Values) -> str:
        if answer(system, name):
            raise NotModelled(f"what {name} tells")
        return ""

    return show


def _displays(system: System, values: Values) -> str:
    if system.settings.vnc:
        raise NotModelled("the command info vnc")
    return "None\n"


def _spice(system: System, values: Values) -> str:
    if answer(system, "query-spice")["enabled"]:
        raise NotModelled("the command info spice")
    return "Server: disabled\n"


def _enclaves(system: System, values: Values) -> str:
    try:
        answer(system, "query-sgx")
    except Refusal as refusal:
        return f"{system.release.refusals.message(refusal)}\n"
    raise NotModelled("the command info sgx")


def _captures(system: System, values: Values) -> str:
    return old_capture(system, "info capture")


def _statistics(system: System, values: Values) -> str:
    known = system.release.introspection
    targets = known.type(known.object(known.command("query-stats").arguments).member("target").type)
    assert isinstance(targets, Enumeration)
    if values["target"] not in targets.values:
        return told(system, "stats-target", name=values["target"])
    call(system, "query-stats", {"target": values["target"]})
    return ""


def _virtio(name: str) -> Show:
    def show(system: System, values: Values) -> str:
        call(system, f"x-query-{name}", values)
        raise NotModelled(f"the command info {name}")

    return show


def _without_via(system: System, values: Values) -> str:
    return told(system, "via-missing")


def _iothreads(system: System, values: Values) -> str:
    said = ""
    for each in answer(system, "query-iothreads"):
        said += f"{each['id']}:\n  thread_id={each['thread-id']}\n"
        said += "".join(f"  {name}={each[name]}\n" for name in _IOTHREAD if name in each)
    return said


def _backends(system: System, values: Values) -> str:
    said = ""
    for each in answer(system, "query-memdev"):
        if "id" in each:
            said += f"memory backend: {each['id']}\n"
        shown = {name: each[name] for name in _MEMORY if name in each}
        said += "".join(f"  {name}:  {value}\n" if name == "size" else f"  {name}: {_shown(value)}\n"
                        for name, value in shown.items())  # fmt: skip
        said += f"  host nodes: {_ranges(each['host-nodes'])}\n"
    return f"{said}\n"


def _shown(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _ranges(numbers: list[int]) -> str:
    """Numbers as QEMU's visitor for text shows a list of them: `0-2,5`."""
    found: list[list[int]] = []
    for each in sorted(numbers):
        if found and found[-1][1] == each - 1:
            found[-1][1] = each
        else:
            found.append([each, each])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)


def _kvm(system: System, values: Values) -> str:
    known = answer(system, "query-kvm")
    if not known["present"]:
        return "kvm support: not compiled\n"
    return f"kvm support: {'enabled' if known['enabled'] else 'disabled'}\n"


def _accelerators(system: System, values: Values) -> str:
    known = answer(system, "query-accelerators")
    names = [f"[{name}]" if name == known["enabled"] else name for name in known["present"]]
    return f"{' '.join(names)}\n"


def _virtio_devices(system: System, values: Values) -> str:
    listed = answer(system, "x-query-virtio")
    return "".join(f"{each['path']} [{each['name']}]\n" for each in listed) or "No VirtIO devices\n"


def _pages(what: str) -> Show:
    def show(system: System, values: Values) -> str:
        """A CPU that has run nothing has no pages."""
        if not system.settings.board.has_cpus:
            return "No CPU available\n"
        if system.guest is not None and system.guest.starts:
            raise NotModelled(f"the command info {what}")
        return "PG disabled\n"

    return show


def _usb(system: System, values: Values) -> str:
    if system.is_bare or system.devices.buses.first(kind=_USB) is None:
        return _unavailable(system, "USB support not enabled")
    raise NotModelled("the command info usb")


def _user_networks(system: System, values: Values) -> str:
    if not system.is_bare and any(each.type == "user" for each in system.inventory.backends.network.netdevs):
        raise NotModelled("the command info usernet")
    return ""


def _operations(system: System, values: Values) -> str:
    return "[TCG profiler not compiled]\n"


def _profile(system: System, values: Values) -> str:
    return _unavailable(system, "Internal profiler not compiled")


def _unavailable(system: System, text: str) -> str:
    return f"{'Error: ' if system.release.behaviour.inquiry_errors_marked else ''}{text}\n"


def _synchronisation(system: System, values: Values) -> str:
    """Nobody profiles, so there is nothing in the table."""
    return _TITLES + _RULER + _RULER


def _nothing(system: System, values: Values) -> str:
    return ""


_NAME = "name:string"
_SHOWN: dict[str, tuple[str, Show | None]] = {
    "accelerators": ("", _accelerators),
    "capture": ("", _captures),
    "cryptodev": ("", _nothing_of("query-cryptodev")),
    "hotpluggable-cpus": ("", _hotpluggable),
    "iothreads": ("", _iothreads),
    "kvm": ("", _kvm),
    "lapic": ("apic:integer?", _local_apic),
    "mem": ("", _pages("mem")),
    "memdev": ("", _backends),
    "mtree": ("flat:-f dispatch:-d owner:-o disabled:-D", None),
    "opcount": ("", _operations),
    "profile": ("", _profile),
    "qom-tree": ("path:string?", _tree),
    "qtree": ("brief:-b", _devices),
    "rdma": ("", _nothing),
    "registers": ("all:-a cpu:integer?", _registers),
    "replay": ("", _replay),
    "rocker": (_NAME, _rocker("query-rocker")),
    "rocker-of-dpa-flows": (f"{_NAME} table:integer?", _rocker("query-rocker-of-dpa-flows")),
    "rocker-of-dpa-groups": (f"{_NAME} type:integer?", _rocker("query-rocker-of-dpa-groups")),
    "rocker-ports": (_NAME, _rocker("query-rocker-ports")),
    "sev": ("", _secure),
    "sgx": ("", _enclaves),
    "spice": ("", _spice),
    "stats": ("target:string names:string? provider:string?", _statistics),
    "sync-profile": ("mean:-m apart:-n most:integer?", _synchronisation),
    "tlb": ("", _pages("tlb")),
    "tpm": ("", _nothing_of("query-tpm")),
    "trace-events": ("name:string? cpu:integer?", _trace_events),
    "usb": ("", _usb),
    "usernet": ("", _user_networks),
    "via": ("", _without_via),
    "virtio": ("", _virtio_devices),
    "virtio-queue-element": ("path:string queue:integer index:integer?", _virtio("virtio-queue-element")),
    "virtio-queue-status": ("path:string queue:integer", _virtio("virtio-queue-status")),
    "virtio-status": ("path:string", _virtio("virtio-status")),
    "virtio-vhost-queue-status": ("path:string queue:integer", _virtio("virtio-vhost-queue-status")),
    "vm-generation-id": ("", _generation),
    "vnc": ("", _displays),
}
"""What each takes, and what it shows; without that it is not modelled."""

_SHORTER: dict[str, Shorter] = {
    "qtree": Shorter(lambda behaviour: behaviour.device_tree_in_brief, ()),
    "registers": Shorter(lambda behaviour: behaviour.registers_of_one_cpu, declare("all:-a")),
}
"""What some take in releases that lack something."""

INQUIRIES: dict[str, Part] = {
    name: acting(f"the command info {name}", declare(text), show, _SHORTER.get(name))
    for name, (text, show) in _SHOWN.items()
}
"""What `info` shows, by the words after it."""
