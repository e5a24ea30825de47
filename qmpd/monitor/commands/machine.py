"""QAPI modules `machine` and `machine-target`: the VM's CPUs and memory, and what it is called."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import orjson

from qmpd.hardware import memory, processors, virtual_memory
from qmpd.hardware.numa import Numa, NumaError
from qmpd.hardware.processors import Place
from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.qom.reader import size_of
from qmpd.schedule.clock import SteppedClock
from qmpd.wire import Encoded

if TYPE_CHECKING:
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

NO_UUID = "00000000-0000-0000-0000-000000000000"
_RESET_VECTOR = 0xFFFFFFF0
_TARGET = Encoded(b'{"arch": "x86_64"}')
_KVM = {
    False: Encoded(b'{"enabled": false, "present": true}'),
    True: Encoded(b'{"enabled": true, "present": true}'),
}


def cpu_properties(settings: MachineSettings, index: int) -> dict[str, object]:
    """Where CPU number `index` sits, as `CpuInstanceProperties`."""
    topology = settings.topology
    levels = Place.of_index(topology, index).levels
    properties: dict[str, object] = {f"{name}-id": levels[name] for name in ("socket", "core", "thread")}
    home = settings.node_of_cpu(index)
    if home is not None:
        properties["node-id"] = home
    if topology.dies > 1:
        properties["die-id"] = levels["die"]
    if topology.modules > 1:
        properties["module-id"] = levels["module"]
    return properties


def cpu_path(index: int) -> str:
    """The QOM path of CPU number `index`; the machine's second device is not a CPU (queries.jsonl)."""
    return f"/machine/unattached/device[{index + 1 if index else 0}]"


def cpus(system: System) -> dict[int, str]:
    """The numbers of the CPUs that there are, in the order in which they came, with their paths."""
    settings, inventory = system.settings, system.built
    if not has_cpus(system):
        return {}
    if inventory is None or not inventory.has_devices:
        return {index: cpu_path(index) for index in range(settings.topology.cpus)}
    there = processors.plugged(inventory.devices.buses.devices.values(), settings)
    return {index: node.path for index, node in there}


def has_cpus(system: System) -> bool:
    return system.settings.board.has_cpus


@command("query-cpus-fast")
def query_cpus_fast(system: System, session: Client, arguments: Arguments) -> object:
    settings, behaviour = system.settings, system.release.behaviour
    found: list[dict[str, object]] = []
    for index, path in cpus(system).items():
        cpu: dict[str, object] = {
            "cpu-index": index,
            "qom-path": path,
            "thread-id": system.cpu_thread(index),
            "props": cpu_properties(settings, index),
            "target": "x86_64",
        }
        if behaviour.cpu_info_arch:
            cpu["arch"] = "x86"
        if behaviour.cpu_info_qom_type:
            cpu["qom-type"] = f"{settings.cpu_model}-x86_64-cpu"
        found.append(cpu)
    return found


@command("query-cpus")
def query_cpus(system: System, session: Client, arguments: Arguments) -> object:
    """Releases up to 5.2 have this. No CPU executes anything here, so each is at its reset vector."""
    settings = system.settings
    found: list[dict[str, object]] = []
    for index, path in cpus(system).items():
        cpu: dict[str, object] = {
            "CPU": index,
            "current": index == 0,
            # The first CPU starts the others, which wait until it does.
            "halted": index > 0,
            "qom_path": path,
            "thread_id": system.cpu_thread(index),
            "arch": "x86",
            "pc": _RESET_VECTOR,
        }
        if system.release.behaviour.cpu_info_props:
            cpu["props"] = cpu_properties(settings, index)
        found.append(cpu)
    return found


@command("query-hotpluggable-cpus")
def query_hotpluggable_cpus(system: System, session: Client, arguments: Arguments) -> object:
    if not system.settings.board.lists_cpus:
        raise CommandError(system.release.behaviour.no_hotpluggable_cpus)
    settings = system.settings
    there = {} if system.machine.preconfig else cpus(system)
    found: list[dict[str, object]] = []
    for index in reversed(range(settings.topology.maximum)):
        cpu: dict[str, object] = {
            "type": f"{settings.cpu_model}-x86_64-cpu",
            "vcpus-count": 1,
            "props": cpu_properties(settings, index),
        }
        if index in there:
            cpu["qom-path"] = there[index]
        found.append(cpu)
    return found


@command("query-memory-size-summary")
def query_memory_size_summary(system: System, session: Client, arguments: Arguments) -> object:
    inventory = system.built
    plugged = 0
    if inventory is not None and inventory.has_devices:
        devices = inventory.devices.buses.devices.values()
        plugged = memory.total(inventory.tree, devices) + virtual_memory.total(inventory.tree, devices)
    return {"base-memory": system.settings.memory, "plugged-memory": plugged}


@command("query-current-machine")
def query_current_machine(system: System, session: Client, arguments: Arguments) -> object:
    return {"wakeup-suspend-support": system.machine.wakeup_suspend_support}


@command("query-name")
def query_name(system: System, session: Client, arguments: Arguments) -> object:
    name = system.settings.name
    return EMPTY if name is None else {"name": name}


@command("query-uuid")
def query_uuid(system: System, session: Client, arguments: Arguments) -> object:
    return {"UUID": system.settings.uuid or NO_UUID}


@command("query-target")
def query_target(system: System, session: Client, arguments: Arguments) -> object:
    return _TARGET


@command("query-kvm")
def query_kvm(system: System, session: Client, arguments: Arguments) -> object:
    return _KVM[system.settings.kvm]


@command("query-accelerators")
def query_accelerators(system: System, session: Client, arguments: Arguments) -> object:
    """Those that the program has were captured."""
    found = orjson.loads(bytes(cast("Encoded", answer_unmodelled("query-accelerators")(system, session, arguments))))
    qtest = "qtest" if isinstance(system.machine.clock, SteppedClock) else "tcg"
    return {**found, "enabled": "kvm" if system.settings.kvm else qtest}


@command("x-exit-preconfig")
def exit_preconfig(system: System, session: Client, arguments: Arguments) -> object:
    machine, settings = system.machine, system.settings
    if machine.preconfig and settings.numa:
        numa = _numa(system)
        try:
            numa.check(settings.memory)
        except NumaError as error:
            # QEMU ends with the complaint, and without a reply.
            machine.report(error.message)
            system.exit_status = 1
            return EMPTY
        machine.settings = replace(settings, cpu_nodes=tuple(numa.nodes_of_cpus()))
    machine.exit_preconfig()
    return EMPTY


def _numa(system: System) -> Numa:
    """The NUMA nodes that there are by now."""
    settings = system.settings
    sizes = {
        str(each["id"]): size
        for each in settings.objects
        if str(each["qom-type"]).startswith("memory-backend") and (size := size_of(each.get("size"))) is not None
    }
    numa = Numa(
        settings.topology,
        system.machine.report,
        hmat=settings.machine_options.get("hmat") in ("on", "yes", "true", "y"),
        supported=settings.board.has_cpus,
        takes_memory=False,
        memory_backend=sizes.get,
    )
    for values in settings.numa:
        numa.take(values)
    return numa


@command("set-numa-node")
def set_numa_node(system: System, session: Client, arguments: Arguments) -> object:
    settings = system.settings
    if not system.machine.preconfig:
        has_state = system.release.behaviour.preconfig_run_state == "preconfig"
        when = "in 'preconfig' state" if has_state else "before the machine has been created"
        raise CommandError(f"The command is permitted only {when}")
    numa = _numa(system)
    numa.take(arguments)
    system.machine.settings = replace(
        settings,
        numa=(*settings.numa, dict(arguments)),
        cpu_nodes=tuple(numa.owners()),
        node_memory=tuple(numa.memory_of_nodes()),
    )
    return EMPTY


@command("rtc-reset-reinjection")
def rtc_reset_reinjection(system: System, session: Client, arguments: Arguments) -> object:
    """No clock of a guest's ever lags behind here, so there is no interrupt to forget."""
    return EMPTY
