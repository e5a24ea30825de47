"""The objects of the reference machines, and how paths find them."""

from __future__ import annotations

import json
import shlex
from random import Random
from typing import Any

import orjson
import pytest

from qmpd.capture.client import Program
from qmpd.capture.reference import OPTIONS, OTHER_MEMORY, varied
from qmpd.qapi import load_release
from qmpd.qapi.captured import CapturedError
from qmpd.qapi.object_tree import ObjectTree
from tests.golden import RELEASES
from tests.real_qemu import programs

ONE_CPU: dict[str, int | str] = {"memory": 32 << 20, "cpus": 1}
ODD_PATHS = ["", "/", "//machine/", "machine", "unattached/device[1]", "device[0]/lapic", "device", "type", "irq[0]"]
ODD_PATHS += ["/machine/unattached/device[1]/parent_bus", "/machine/type", "/no/such", "no-such", "/machine/zz/a"]


def ask(name: str, command: str, machine: str = "pc", **arguments: Any) -> Any:
    values: dict[str, int | str] = {"memory": 0, "cpus": 0} if machine == "none" else ONE_CPU
    found = load_release(name).captured(command, arguments, machine, values)
    return orjson.loads(found) if isinstance(found, bytes) else found


@pytest.mark.parametrize("name", RELEASES)
def test_the_tree_begins_at_the_root(name: str) -> None:
    children = {each["name"]: each["type"] for each in ask(name, "qom-list", path="/")}
    assert children["machine"] == f"child<pc-i440fx-{name}-machine>"
    assert children["chardevs"] == "child<container>"
    assert ask(name, "qom-get", path="/", property="machine") == "/machine"
    assert ask(name, "qom-get", path="/machine", property="type") == f"pc-i440fx-{name}-machine"
    assert ask(name, "qom-get", "none", path="/machine", property="type") == "none-machine"


def test_a_path_may_be_partial_and_go_through_links() -> None:
    whole = ask("7.2", "qom-list", path="/machine/unattached/device[0]")
    assert ask("7.2", "qom-list", path="unattached/device[0]") == whole
    assert ask("7.2", "qom-list", path="//machine/unattached/device[0]/") == whole
    bus = ask("7.2", "qom-get", path="device[2]", property="parent_bus")
    assert ask("7.2", "qom-list", path="device[2]/parent_bus") == ask("7.2", "qom-list", path=bus)


def test_what_is_not_there_is_refused_as_the_release_does() -> None:
    assert ask("7.2", "qom-list", path="nope") == CapturedError("DeviceNotFound", "Device 'nope' not found")
    assert ask("7.2", "qom-list", path="") == CapturedError("GenericError", "Path '' is ambiguous")
    assert ask("7.2", "qom-get", path="", property="type") == CapturedError("DeviceNotFound", "Device '' not found")
    missing = CapturedError("GenericError", "Property 'pc-i440fx-7.2-machine.nope' not found")
    assert ask("7.2", "qom-get", path="/machine", property="nope") == missing


def test_the_memory_is_the_vm_s() -> None:
    found = load_release("10.0").captured(
        "qom-get", {"path": "/objects/pc.ram", "property": "size"}, "pc", {"memory": 7 << 20, "cpus": 1}
    )
    assert found == b"7340032"


def test_with_more_cpus_nothing_is_known() -> None:
    release = load_release("7.2")
    assert release.captured("qom-list", {"path": "/machine"}, "pc", {"memory": 1, "cpus": 2}) is None


def test_several_objects_at_once() -> None:
    assert ask("11.1", "qom-list-get", paths=["/machine/peripheral"]) == [
        {"properties": [{"name": "type", "value": "container", "type": "string"}]}
    ]
    assert ask("11.1", "qom-list-get", paths=[]) == []


def test_an_empty_tree_answers_nothing() -> None:
    assert ObjectTree([], "pc").reply("qom-list", {"path": "/"}) is None


@pytest.mark.parametrize("name", RELEASES)
@pytest.mark.parametrize("machine", OPTIONS)
def test_real_qemu_says_the_same(name: str, machine: str) -> None:
    if name not in programs():
        pytest.skip(f"no QEMU {name} here")
    release, random = load_release(name), Random(7)
    objects = release.object_tree(machine).objects
    asked: list[tuple[str, dict[str, Any]]] = [("qom-list", {"path": path}) for path in ODD_PATHS]
    asked += [("qom-list", {"path": path}) for path in random.sample(list(objects), min(60, len(objects)))]
    for path, entry in objects.items():
        each = random.choice(entry["properties"])
        asked.append(("qom-get", {"path": path, "property": each["name"]}))
    asked += [("qom-get", {"path": path, "property": "nope"}) for path in ODD_PATHS]
    if "qom-list-get" in release.commands:
        asked += [("qom-list-get", {"paths": random.sample(list(objects), 3)}) for _ in range(20)]
    values: dict[str, int | str] = {"memory": 0 if machine == "none" else OTHER_MEMORY << 20, "cpus": 1}
    with Program(shlex.join(programs()[name]), varied(machine, OTHER_MEMORY, 1)) as program:
        outcomes = program.client.ask_all(asked)
    unknown = 0
    for (command, arguments), outcome in zip(asked, outcomes, strict=True):
        found = release.captured(command, arguments, machine.partition(" ")[0], values)
        if found is None:
            unknown += 1
        elif isinstance(found, bytes):
            assert outcome.value == found, (command, arguments)
        else:
            said = {"class": outcome.error_class, "desc": outcome.description}
            assert said == {"class": found.error_class, "desc": found.description}, json.dumps(arguments)
    # Addresses of sockets and the time of day are nobody else's.
    assert unknown < len(asked) / 10
