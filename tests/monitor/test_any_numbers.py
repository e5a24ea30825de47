"""What ought to be a number and is none, or is far too large: each command refuses it, and none fails at it."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.support import Monitor
from tests.emulator.support import run
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.testing import VMFactory

# Digits that C does not take (a superscript, an Arabic one), more than Python turns into a number, and a number that
# no system call takes.
TEXTS = ["\u00b2", "\u0663", "9" * 5000, "9" * 30, "-1"]

HUMAN = [
    "balloon {}",
    "netdev_add user,id=u1,hostfwd=tcp::{}-:{}",
    "nbd_server_start 127.0.0.1:{}",
    "nbd_server_start 127.0.0.1:0,to={}",
    'qemu-io nn "read {} {}"',
    "x /{}x 0",
    "p {}",
    "sum {} {}",
    "hostfwd_add tcp::{}-:{}",
    "drive_add {} if=none",
    "migrate_set_parameter max-bandwidth {}",
    "migrate_set_parameter downtime-limit {}",
    "block_resize nn {}",
    "memsave {} {} /nonexistent/x",
    "chardev-add socket,id=z,host=127.0.0.1,port={},server=on,wait=off",
    "chardev-add socket,id=z2,fd={}",
    "chardev-add vc,id=v,cols={}",
    "object_add memory-backend-ram,id=q,size={}",
    "device_add virtio-balloon-pci,addr={}",
    "gdbserver tcp::{}",
    "gva2gpa {}",
    "mce 0 {} 1 1 1 1",
    "mouse_move {} {}",
    "mouse_set {}",
    "sendkey a {}",
    "cpu {}",
    "stopcapture {}",
    "wavcapture /nonexistent/x {}",
    "i /b {}",
    "o /b {} {}",
    "info snapshots",
    "savevm {}",
    "delvm {}",
    "info history",
    "expire_password vnc {}",
    "expire_password vnc +{}",
    "set_link {} on",
    "drive_add 0 if=none,file=/dev/fdset/{}",
    "drive_add 0 if=none,id=d{},stats-intervals={},file=null-co://",
    "drive_add 0 if=none,driver=null-co,size={}",
    "drive_add 0 if=none,driver=quorum,children.{}.driver=null-co,vote-threshold=1",
    "netdev_add socket,id=s1,fd={}",
    "migrate -d tcp:127.0.0.1:{}",
    "migrate -d fd:{}",
    "watchdog_action {}",
    "pmemsave {} {} /nonexistent/x",
    "set_vcpu_dirty_limit {}",
    "calc_dirty_rate {}",
    "block_set_io_throttle nn {} {} {} {} {} {}",
    "snapshot_blkdev nn /x {}",
    "ringbuf_read c {}",
    "trace-event x on {}",
    "announce_self {}",
    "migrate_incoming tcp:127.0.0.1:{}",
    "netdev_add dgram,id=x,local.type=fd,local.str={}",
    "netdev_add stream,id=x9,addr.type=inet,addr.host=127.0.0.1,addr.port={}",
]


def commands(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Commands that take a number as text, by name and arguments."""
    port = {"type": "inet", "host": "127.0.0.1", "port": text}
    vsock = {"type": "vsock", "cid": text, "port": text}
    descriptor = {"type": "fd", "str": text}
    for address in (port, vsock, descriptor):
        inner = {name: value for name, value in address.items() if name != "type"}
        data = {"addr": {"type": address["type"], "data": inner}, "server": True, "wait": False}
        yield "chardev-add", {"id": "c", "backend": {"type": "socket", "data": data}}
        yield "nbd-server-start", {"addr": {"type": address["type"], "data": inner}}
        yield "netdev_add", {"type": "stream", "id": "n", "addr": address}
        yield "netdev_add", {"type": "dgram", "id": "n", "local": address}
        yield "blockdev-add", {"driver": "nbd", "node-name": "f", "server": address}
        yield "migrate", {"channels": [{"channel-type": "main", "addr": {"transport": "socket", **address}}]}
    for uri in ("tcp:127.0.0.1:", "fd:", f"vsock:{text}:", "file:/nonexistent/x,offset="):
        yield "migrate", {"uri": uri + text}
    yield "chardev-add", {"id": "c4", "backend": {"type": "file", "data": {"out": f"/dev/fdset/{text}"}}}
    yield "blockdev-add", {"driver": "file", "node-name": "f", "filename": f"/dev/fdset/{text}"}
    yield "netdev_add", {"type": "socket", "id": "n", "fd": text}
    yield "netdev_add", {"type": "socket", "id": "n", "listen": f"127.0.0.1:{text}"}
    yield "netdev_add", {"type": "user", "id": "n", "hostfwd": [{"str": f"tcp::{text}-:{text}"}]}
    yield "netdev_add", {"type": "user", "id": "n", "net": f"10.0.0.0/{text}"}
    yield "netdev_add", {"type": "tap", "id": "n", "fd": text}
    yield "getfd", {"fdname": text}
    yield "add_client", {"protocol": text, "fdname": text}
    yield "expire_password", {"protocol": "vnc", "time": text}
    yield "expire_password", {"protocol": "vnc", "time": f"+{text}"}
    yield "dump-guest-memory", {"paging": False, "protocol": f"fd:{text}"}
    yield "device_add", {"driver": "virtio-balloon-pci", "addr": text}
    yield "device_add", {"driver": "virtio-balloon-pci", "addr": f"0x1.{text}"}
    yield "device_add", {"driver": "virtio-net-pci", "mac": f"52:54:00:{text}:56:78", "vectors": text}
    for line in HUMAN:
        yield "human-monitor-command", {"command-line": line.replace("{}", text)}


def test_no_number_is_too_strange(qmpd: VMFactory) -> None:
    vm = qmpd(command_line=["-blockdev", "null-co,node-name=nn"], guest="")
    failed = []
    with closing(Monitor(vm.qmp_path)) as monitor:
        for text in TEXTS:
            for name, arguments in commands(text):
                answer = json.dumps(monitor(name, **arguments))
                if "defect of qmpd" in answer:
                    failed.append(f"{name} {str(arguments)[:100]}: {answer[:200]}")
    assert not failed, "\n".join(failed)


def test_no_number_of_a_command_line_is_too_long() -> None:
    done = run("-smbios", "type=" + "9" * 5000)
    assert done.stderr.endswith("out of range!\n")


@pytest.mark.parametrize("what", ["cid", "port"])
@pytest.mark.parametrize("text", ["x", "4294967296", "9" * 30])
def test_a_place_of_virtual_machines_sockets_has_32_bits(qmpd: VMFactory, what: str, text: str) -> None:
    """Each release says so at once, whoever is to be reached or waited for."""
    words = f"Failed to parse {what} '{text}'"
    place = {"cid": "1", "port": "1", what: text}
    uri = f"vsock:{place['cid']}:{place['port']}"
    vm = qmpd(command_line=["-machine", "none", "-nodefaults", "-incoming", "defer"])
    with closing(Monitor(vm.qmp_path)) as monitor:
        server = {"type": "vsock", **place}
        said = monitor("blockdev-add", driver="nbd", node_name="n", server=server)
        assert said["error"]["desc"] == words
        said = monitor("nbd-server-start", addr={"type": "vsock", "data": place})
        assert said["error"]["desc"] == words
        assert monitor("migrate-incoming", uri=uri)["error"]["desc"] == words
    with closing(Monitor(qmpd(machine="none").qmp_path)) as monitor:
        assert monitor("migrate", uri=uri) == {"return": {}}
        wait_until(lambda: monitor("query-migrate")["return"]["status"] != "setup")
        assert monitor("query-migrate")["return"] == {"status": "failed", "error-desc": words}
