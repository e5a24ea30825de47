"""Asking for the texts of refusals (`qmpd.common.texts` has their names and what they mean)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.capture.client import Gone, Program, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.capture.client import Client

Asked = tuple[str, dict[str, Any]]

_MACHINE = ["-machine", "pc", "-accel", "tcg", "-m", "32", "-display", "none", "-nodefaults", "-S"]


class Question(NamedTuple):
    """What is refused with the text: the last of `asked`; `parts` are the words in it that vary, by their name."""

    text: str
    asked: list[Asked]
    parts: dict[str, str]


def _device(driver: str, identifier: str | None = None, **properties: Any) -> Asked:
    named = {} if identifier is None else {"id": identifier}
    return "device_add", {"driver": driver, **named, **{name.replace("_", "-"): of for name, of in properties.items()}}


def _null(node: str) -> Asked:
    return "blockdev-add", {"driver": "null-co", "node-name": node}


def _chardev(identifier: str) -> Asked:
    return "chardev-add", {"id": identifier, "backend": {"type": "null", "data": {}}}


def _object(identifier: str) -> Asked:
    return "object-add", {"qom-type": "iothread", "id": identifier}


# What is asked on the command line: a property that does not take `zq`.
_OPTIONS = {"unsigned-option": ("virtio-net-pci", "vectors"), "signed-option": ("virtio-net-pci", "x-txburst")}

_QUESTIONS = (
    Question(
        "property-not-writable",
        [("qom-set", {"path": "/machine/unattached", "property": "sysbus", "value": ""})],
        {"type": "container", "name": "sysbus"},
    ),
    Question(
        "enum-refusal",
        [("qom-set", {"path": "/machine", "property": "smm", "value": "zqvalue"})],
        {"name": "smm", "value": "zqvalue"},
    ),
    Question("device-abstract", [_device("pci-device")], {}),
    Question("device-not-pluggable", [_device("PIIX4_PM")], {}),
    Question("device-id-duplicate", [_device("e1000", "zqone"), _device("e1000", "zqone")], {"id": "zqone"}),
    Question(
        "slot-in-use",
        [_device("rtl8139", "zqthere", addr="1e.0"), _device("e1000", "zqtwo", addr="1e.0")],
        {"slot": "30", "function": "0", "driver": "e1000", "there": "rtl8139", "id": "zqthere"},
    ),
    Question(
        "bus-full",
        [_device("virtio-rng-pci", "zqfull"), _device("virtio-net-device", "zqnone")],
        {"bus": "virtio-bus", "driver": "virtio-net-device"},
    ),
    Question("device-is-none", [("device_del", {"id": "/machine"})], {"id": "/machine"}),
    Question("chardev-duplicate", [_chardev("zqchardev"), _chardev("zqchardev")], {"id": "zqchardev"}),
    Question(
        "chardev-in-use",
        [
            _chardev("zqused"),
            _device("virtio-serial-pci", "zqserial"),
            _device("virtserialport", "zqport", chardev="zqused"),
            _device("virtserialport", "zqother", chardev="zqused"),
        ],
        {"owner": "virtserialport.chardev", "id": "zqused"},
    ),
    Question("node-duplicate", [_null("zqnode"), _null("zqnode")], {"node": "zqnode"}),
    Question("node-name", [_null("1zqnode")], {"node": "1zqnode"}),
    Question("node-missing", [("blockdev-del", {"node-name": "zqnone"})], {"node": "zqnone"}),
    Question(
        "device-or-node-missing",
        [("block_resize", {"device": "zqgone", "node-name": "zqnone", "size": 512})],
        {"device": "zqgone", "node": "zqnone"},
    ),
    Question(
        "node-conflict",
        [
            _null("zqshared"),
            _device("virtio-scsi-pci", "zqscsi"),
            _device("scsi-hd", "zqfirst", drive="zqshared"),
            _device("scsi-hd", "zqsecond", drive="zqshared"),
        ],
        {"node": "zqshared", "user": "zqfirst", "other": "zqsecond"},
    ),
    Question(
        "node-conflict-shared",
        [
            _null("zqfree"),
            _device("virtio-scsi-pci", "zqscsi2"),
            ("device_add", {"driver": "scsi-hd", "id": "zqfourth", "drive": "zqfree", "share-rw": True}),
            _device("scsi-hd", "zqfifth", drive="zqfree"),
        ],
        {"node": "zqfree", "user": "zqfourth", "other": "zqfifth"},
    ),
    Question(
        "raw-offset",
        [
            ("blockdev-add", {"driver": "null-co", "node-name": "zqsmall", "size": 1 << 20}),
            ("blockdev-add", {"driver": "raw", "node-name": "zqraw2", "file": "zqsmall", "offset": 1 << 40}),
        ],
        {"offset": str(1 << 40), "size": str(1 << 20)},
    ),
    Question(
        "netdev-duplicate",
        [("netdev_add", {"type": "hubport", "hubid": 0, "id": "zqnet"})] * 2,
        {"id": "zqnet"},
    ),
    Question("netdev-type", [("netdev_add", {"type": "none", "id": "zqnone"})], {"type": "none"}),
    Question("balloon-size", [_device("virtio-balloon-pci", "zqballoon"), ("balloon", {"value": 0})], {}),
    Question("object-duplicate", [_object("zqthread"), _object("zqthread")], {"id": "zqthread"}),
    Question("object-type", [("object-add", {"qom-type": "zqtype", "id": "zqa"})], {"type": "zqtype"}),
    Question("object-missing", [("object-del", {"id": "zqnone"})], {"id": "zqnone"}),
    Question("object-in-use", [("object-del", {"id": "pc.ram"})], {"id": "pc.ram"}),
    Question(
        "can-bus-stays",
        [("object-add", {"qom-type": "can-bus", "id": "zqcan"}), ("object-del", {"id": "zqcan"})],
        {"id": "zqcan"},
    ),
)


def texts(command: str, report: Callable[[str], None]) -> dict[str, str]:
    """The texts that the program has, by name; one that cannot be had is left out.

    :raise CaptureError: the program does not start.
    """
    found: dict[str, str] = {}
    for text, (driver, name) in _OPTIONS.items():
        device = f"{driver},{name}=zq"
        try:
            Program(command, [*_MACHINE, "-device", device]).close()
        except Refused as error:
            said = [line.partition(f"-device {device}: ")[2] for line in error.said if device in line]
            if said:
                found[text] = said[-1].replace(f"'{name}'", "'{name}'")
    program = Program(command, _MACHINE)
    try:
        for question in _QUESTIONS:
            try:
                refused = _ask(program.client, question)
            except Gone:
                report(f"asking for the text '{question.text}' ends the program")
                program.close()
                program = Program(command, _MACHINE)
                continue
            if refused is not None:
                found[question.text] = refused
        line = {"command-line": "drive_del zqnone"}
        answered = program.client.ask("human-monitor-command", line)
        if answered.value is not None:
            found["drive-missing"] = answered.result.strip().replace("zqnone", "{id}")
    finally:
        program.close()
    return found


def _ask(client: Client, question: Question) -> str | None:
    outcomes = [client.ask(*asked) for asked in question.asked]
    if outcomes[-1].value is not None:
        return None
    text = outcomes[-1].description.replace("{", "{{").replace("}", "}}")
    for name, part in question.parts.items():
        text = re.sub(rf"(?<![\w-]){re.escape(part)}(?![\w-])", f"{{{name}}}", text)
    return text
