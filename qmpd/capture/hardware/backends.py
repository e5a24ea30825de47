"""What backends are made of: the objects that `object-add` makes, and character devices."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qmpd.capture.client import Gone, Program, Refused
from qmpd.capture.hardware.notation import Shapes, entry
from qmpd.capture.hardware.walk import Seen, replace_in, try_setting, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.capture.client import Client

_ID = "zqobject"
_MACHINE = [
    "-machine", "pc", "-accel", "tcg", "-m", "32", "-display", "none", "-nodefaults", "-S",
    "-netdev", "hubport,hubid=0,id=zqnet", "-chardev", "null,id=zqchardev",
]  # fmt: skip
# What an object may have to be given; tried one at a time, then together.
_FILLERS: tuple[dict[str, Any], ...] = (
    {"size": 1 << 20},
    {"netdev": "zqnet"},
    {"data": "zq"},
    {"endpoint": "server"},
    {"identity": "zq"},
    {"filename": "/dev/zero"},
    {"size": 1 << 20, "mem-path": "/dev/shm"},
    {"chardev": "zqchardev"},
    {"netdev": "zqnet", "file": "/dev/null"},
    {"if": "/dev/null"},
    {"netdev": "zqnet", "outdev": "zqchardev"},
)
# A file that there is everywhere.
_NODES: tuple[dict[str, Any], ...] = (
    {"driver": "null-co", "node-name": "zqnull"},
    {"driver": "file", "node-name": "zqfile", "filename": "/etc/passwd", "read-only": True},
)
_CHARDEVS: dict[str, dict[str, Any]] = {
    "null": {"type": "null", "data": {}},
    "ringbuf": {"type": "ringbuf", "data": {}},
    "socket": {
        "type": "socket",
        "data": {
            "addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}, "server": True, "wait": False,
        },
    },
    "udp": {
        "type": "udp",
        "data": {"remote": {"type": "inet", "data": {"host": "127.0.0.1", "port": "9"}}},
    },
    "file": {"type": "file", "data": {"out": "/dev/null"}},
    "testdev": {"type": "testdev", "data": {}},
}  # fmt: skip


def backend_lines(command: str, shapes: Shapes, report: Callable[[str], None]) -> Iterator[bytes]:
    """What objects and character devices are.

    :raise CaptureError: the program does not start.
    """
    program = Program(command, _MACHINE)
    try:
        asked = {"implements": "user-creatable"}
        types = sorted(each["name"] for each in program.client.ask("qom-list-types", asked).result)
        with tempfile.TemporaryDirectory() as folder:
            _make_credentials(folder)
            for name in types:
                try:
                    line, is_gone = _object(program, name, shapes, folder)
                    yield line
                    if not is_gone:
                        # What it uses is not free for those that follow.
                        program.close()
                        program = Program(command, _MACHINE)
                except Gone:
                    report(f"making an object of type {name} ends the program")
                    program.close()
                    program = Program(command, _MACHINE)
        for backend in _CHARDEVS.values():
            added = program.client.ask("chardev-add", {"id": _ID, "backend": backend})
            if added.value is None:
                continue
            seen = walk(program.client, f"/chardevs/{_ID}")
            if seen is not None:
                try_setting(program.client, f"/chardevs/{_ID}", seen)
                yield entry("chardev", seen.type, {"tree": shapes.node(seen, {})})
            program.client.ask("chardev-remove", {"id": _ID})
        yield from _nodes(program.client)
    except Refused as error:
        report(f"backends cannot be captured: {error}")
    finally:
        program.close()


def _nodes(client: Client) -> Iterator[bytes]:
    """What queries say of block nodes, a line for each driver."""
    for node in _NODES:
        client.ask("blockdev-add", node)
    statistics = {each["node-name"]: each for each in client.ask("query-blockstats", {"query-nodes": True}).result}
    for each in client.ask("query-named-block-nodes").result:
        of = statistics.get(each["node-name"], {})
        shown = {"info": each, "stats": {key: value for key, value in of.items() if key != "node-name"}}
        yield entry("block", each["drv"], shown)


def _make_credentials(folder: str) -> None:
    """Put TLS credentials into a folder, as far as this computer can make them."""
    with open(os.path.join(folder, "keys.psk"), "w", encoding="ascii") as keys:
        keys.write("qemu:00112233445566778899aabbccddeeff\n")
    if shutil.which("openssl") is not None:
        words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj",
                 "/CN=authority", "-addext", "keyUsage=critical,keyCertSign"]  # fmt: skip
        subprocess.run(["openssl", "req", *words], cwd=folder, check=False, capture_output=True)


def _object(program: Program, name: str, shapes: Shapes, folder: str) -> tuple[bytes, bool]:
    """The line of a type, and whether no object of it is left."""
    facts: dict[str, Any] = {}
    is_gone = True
    client = program.client
    identifier = f"{_ID}-{name}"
    for words in ({}, *_FILLERS, {"dir": folder, "endpoint": "client"}):
        added = client.ask("object-add", {"qom-type": name, "id": identifier, **words})
        if added.value is None:
            if not words:
                facts["refusal"] = added.description.replace(identifier, "«id»")
            continue
        if words:
            facts["with"] = replace_in(words, {folder: ""})
        path = f"/objects/{identifier}"
        seen = walk(client, path)
        if seen is not None:
            try_setting(client, path, seen)
            marked = _relative(seen, path, identifier, folder)
            # What is named after the id is the only property of its own that an object has.
            places = [place for place, each in enumerate(marked.names()) if "«id»" in each]
            growing = {id(marked): (places[0], marked.names()[: places[0] - 1 : -1])} if places else {}
            facts["tree"] = shapes.node(marked, growing)
        # Not all of them can be taken away again.
        is_gone = client.ask("object-del", {"id": identifier}).value is not None
        break
    return entry("object", name, facts), is_gone


def _relative(seen: Seen, path: str, identifier: str, folder: str) -> Seen:
    """The object with markers for its path and its id, and without the name of a folder that it was given."""
    table = {path: "«self»", identifier: "«id»", folder: ""}
    return replace(
        seen,
        properties=[(name.replace(identifier, "«id»"), kind) for name, kind in seen.properties],
        values=replace_in(seen.values, table),
        errors=replace_in(seen.errors, table),
        codes={name.replace(identifier, "«id»"): code for name, code in replace_in(seen.codes, table).items()},
        children={
            name.replace(identifier, "«id»"): _relative(child, path, identifier, folder)
            for name, child in seen.children.items()
        },
    )
