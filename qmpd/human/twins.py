"""The human monitor's `info` of what QMP tells as well, in lines: CPUs, iothreads, memory, accelerators, virtio; and of
what a program without TCG's profiler has nothing to tell of.  (Asked of releases 5.2 to 11.1.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled
from qmpd.human.asking import answer
from qmpd.human.declared import acting, declare

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.human.asking import Part
    from qmpd.system.system import System

    Values = dict[str, Any]
    Show = Callable[[System, Values], str]

_IOTHREAD = ("poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch")
_MEMORY = ("size", "merge", "dump", "prealloc", "share", "reserve", "policy")
_TITLES = "Type               Object  Call site  Wait Time (s)         Count  Average (us)\n"
_RULER = "-" * (len(_TITLES) - 1) + "\n"
_USB = "usb-bus"


def _cpus(system: System, values: Values) -> str:
    """A monitor looks at the first CPU, where it is not told another (`cpu`), which is told nowhere."""
    said = ""
    for each in answer(system, "query-cpus-fast"):
        model = f" model={system.settings.cpu_model}" if system.release.behaviour.cpu_info_qom_type else ""
        index = each["cpu-index"]
        said += f"{' ' if index else '*'} CPU #{index}: thread_id={each['thread-id']}{model}\n"
    return said


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


def _virtio(system: System, values: Values) -> str:
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


_SHOWN: dict[str, tuple[str, Show]] = {
    "accelerators": ("", _accelerators),
    "cpus": ("", _cpus),
    "iothreads": ("", _iothreads),
    "kvm": ("", _kvm),
    "mem": ("", _pages("mem")),
    "memdev": ("", _backends),
    "opcount": ("", _operations),
    "profile": ("", _profile),
    "rdma": ("", _nothing),
    "sync-profile": ("mean:-m apart:-n most:integer?", _synchronisation),
    "tlb": ("", _pages("tlb")),
    "usb": ("", _usb),
    "usernet": ("", _user_networks),
    "virtio": ("", _virtio),
}

INQUIRIES: dict[str, Part] = {
    name: acting(f"the command info {name}", declare(text), show) for name, (text, show) in _SHOWN.items()
}
"""What `info` shows, by the words after it."""
