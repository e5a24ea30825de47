"""Measuring a release's behaviours (`qmpd.qapi.behaviour`) on the running program.

One function for each reason to start it; each gives the fields that it found out. A field that none of them finds
keeps the value of the nearest release that is known, and the release file says so.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from subprocess import SubprocessError
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.capture import guests
from qmpd.capture.client import Client, Gone, Program, Refused
from qmpd.capture.option_behaviour import measure_options
from qmpd.capture.reference import NO_MACHINE, OPTIONS, PC
from qmpd.machine.boards import USUAL
from qmpd.qapi.behaviour import Behaviour
from qmpd.qapi.differences import ABOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    Found = dict[str, Any]

# Seconds in which a guest boots and does its one thing; it takes a quarter of one.
_GUEST_PATIENCE = 15.0
# Seconds in which a program notices that a client has left.
_LEAVING = 0.2
# Milliseconds for which a device keeps what it used after it has gone, where it does: 51 to 77 were measured.
_LAG = 55
# Types whose devices some release never gets rid of.
_SUSPECTS = ("qemu-xhci", "nec-usb-xhci", "intel-hda", "lsi53c895a", "bochs-display", "i82801b11-bridge")
_MEMORY_UNPLUG = "MEM_UNPLUG_ERROR"
_UNPLUG_REFUSAL = "DEVICE_UNPLUG_GUEST_ERROR"
# The number of a file that no program has open.
_NO_FILE = 1000
# A slot of a device that there is not.
_SLOT = "type=41,designation=x,pcidev=zqnone"
# Every level of CPU topology that some release knows, outermost first.
_LEVELS = ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")


def measure(command: str, report: Callable[[str], None]) -> Found:
    """What the fields of `Behaviour` are for the program that `command` starts, as far as it can be asked.

    `report` is told what goes wrong where something can't be measured.

    :raise CaptureError: the program does not start.
    """
    found: Found = {}
    questions = (
        _protocol, _reset, _preconfig, _machine, _refusals, _topology, _chardevs, _config_files, _network, _hot_plug,
        _display, _events, _files, _suspend, _panic, _debug_exit, _end_key, _firmware, measure_options,
    )  # fmt: skip
    for ask in questions:
        try:
            found.update(ask(command))
        except (Refused, Gone, KeyError, IndexError, AttributeError, OSError, SubprocessError) as error:
            report(f"{ask.__name__.strip('_')} cannot be measured: {error}")
    return {name: found[name] for name in ABOUT if name in found}


def describe(found: Found, nearest: Behaviour, nearest_name: str | None) -> dict[str, Any]:
    """The `behaviour` member of a release file: what was found, and for the rest what the nearest release has.

    A value of another release has a note that says so. `nearest_name` is None where it is the very same build.
    """
    described = {}
    for name, about in ABOUT.items():
        taken = nearest_name is not None and name not in found
        kept = {"note": f"not measured: as in release {nearest_name}"} if taken else {}
        described[name] = {"value": found.get(name, getattr(nearest, name)), "about": about, **kept}
    return described


def _template(text: str, **parts: str) -> str:
    """The text with `{name}` in place of each part."""
    for name, part in parts.items():
        text = text.replace(part, "{" + name + "}")
    return text


def _protocol(command: str) -> Found:
    with Program(command, [*OPTIONS[NO_MACHINE], "-S"]) as program:
        client = program.client
        found: Found = {}
        found["singlestep_in_status"] = "singlestep" in client.ask("query-status").result
        client.send(b'{"execute": "query-name", "id": 0.1}')
        found["float_format"] = "g17" if b"0.10000000000000001" in client.line() else "f"
        client.send(b'{"execute" "query-name"}')
        complaint = orjson.loads(client.line())["error"]["desc"]
        found["json_parser"] = "positions" if re.match(r"\d+:\d+: ", complaint) else "classic"
        refused = client.ask("watchdog-set-action", {"action": "no-such-value"}).description
        found["enum_refusal"] = _template(refused, value="no-such-value", name="action")
        refused = client.ask("qom-set", {"path": "/machine", "property": "type", "value": ""}).description
        found["property_not_writable"] = refused.replace("none-machine.type", "{type}.{name}")
        found["no_hotpluggable_cpus"] = client.ask("query-hotpluggable-cpus").description
        found["no_nmi"] = client.ask("inject-nmi").description
        listed = client.ask("query-machines").result
        found["usual_machine"] = next(each["name"] for each in listed if USUAL in (each["name"], each.get("alias")))
        found["exit_preconfig_refusal"] = client.ask("x-exit-preconfig").description
        found["migrate_pause_refusal"] = client.ask("migrate-pause").description
        line = {"command-line": "watchdog_action no-such-action"}
        said = client.ask("human-monitor-command", line).result.strip()
        found["unknown_watchdog_action"] = _template(said, action="no-such-action")
        found["out_of_band"] = "oob" in client.greeting["capabilities"]
        # The last question: what else comes of it, nobody reads.
        client.send(b"\x01\n")
        complaint = orjson.loads(client.line())["error"]["desc"]
        found["lexical_error"] = "" if "JSON parse error" in complaint else complaint
        return found


def _reset(command: str) -> Found:
    with Program(command, OPTIONS[NO_MACHINE]) as program:
        client = program.client
        client.ask("stop")
        client.events.clear()
        client.ask("system_reset")
        found: Found = {"reply_after_turn": bool(client.events)}
        found["reset_keeps_state"] = client.ask("query-status").result["status"] == "paused"
        found["events_carry_cause"] = "data" in client.events[0]
        found["wakeup_refused"] = client.ask("system_wakeup").value is None
        return found


def _preconfig(command: str) -> Found:
    with Program(command, [*OPTIONS[NO_MACHINE], "-preconfig"]) as program:
        refused = program.client.ask("stop").description
        return {
            "preconfig_run_state": program.client.ask("query-status").result["status"],
            "preconfig_refusal": refused.replace("'stop'", "'{command}'"),
        }


def _machine(command: str) -> Found:
    # A TCP port of the host's choice: a path would have to exist in the program's own root.
    listener = ["-chardev", "socket,id=listener,host=127.0.0.1,port=0,server=on,wait=off"]
    with Program(command, [*OPTIONS[PC], "-smp", "2", *listener]) as program:
        client = program.client
        cpu = client.ask("query-cpus-fast").result[0]
        places = [each["props"] for each in client.ask("query-hotpluggable-cpus").result]
        names = {each["label"]: each["filename"] for each in client.ask("query-chardev").result}
        flag = re.search(r":\d+,server(.*)$", names["listener"])
        assert flag is not None
        older = client.ask("query-cpus")
        found: Found = {} if older.value is None else {"cpu_info_props": "props" in older.result[0]}
        return {
            **found,
            "cpu_info_arch": "arch" in cpu,
            "cpu_info_qom_type": "qom-type" in cpu,
            "smp_prefers_cores": any(place["core-id"] for place in places),
            "chardev_flag": flag[1],
        }


def _complaint(command: str, options: list[str]) -> str:
    """What the program says of these options, without its name and the option; empty where it says nothing."""
    try:
        with Program(command, options) as program:
            said = program.close()
    except Refused as error:
        said = error.said
    said = [line for line in said if "deprecated, use '-object'" not in line and "terminating on signal" not in line]
    return re.sub(r"^[^ ]+: (-\w+ [^ ]+: )?", "", said[0]) if said else ""


def _refusals(command: str) -> Found:
    common = OPTIONS[NO_MACHINE][2:]
    machine = _complaint(command, ["-machine", "no-such-thing", *common])
    incoming = _complaint(command, [*OPTIONS[NO_MACHINE], "-incoming", "no-such-thing"])
    path = "/no-such-folder/file"
    pid_file = _complaint(command, [*OPTIONS[NO_MACHINE], "-pidfile", path])
    reason = "No such file or directory"
    return {
        "unknown_machine": _template(machine, name="no-such-thing"),
        "unknown_incoming": _template(incoming, uri="no-such-thing"),
        "pid_file_refusal": _template(pid_file.removeprefix("cannot create PID file: "), path=path, reason=reason),
        "smbios_slots_checked_early": bool(_complaint(command, [*OPTIONS[PC], "-smbios", _SLOT])),
        "keyval_options": not _complaint(command, [*OPTIONS[NO_MACHINE], "-action", "panic=none"]),
    }


def _topology(command: str) -> Found:
    levels = {level: _complaint(command, [*OPTIONS[NO_MACHINE], "-smp", f"cpus=1,{level}=1"]) for level in _LEVELS}
    known = [level for level, said in levels.items() if not re.search("Invalid parameter|is unexpected", said)]
    zero = _complaint(command, [*OPTIONS[NO_MACHINE], "-smp", "cpus=1,cores=0"])
    found: Found = {"smp_levels": ",".join(known)}
    found["smp_zero"] = "ignored" if not zero else "warned" if zero.startswith("warning") else "refused"
    for level in known:
        refused = _complaint(command, [*OPTIONS[PC], "-smp", f"cpus=2,maxcpus=2,{level}=2"])
        if "not supported" in refused and level in refused:
            found["unsupported_smp_level"] = _template(refused, level=level)
            break
    return found


def _chardevs(command: str) -> Found:
    def said(options: str) -> str:
        return _complaint(command, [*OPTIONS[NO_MACHINE], "-chardev", f"{options},id=zqdevice"])

    alias = said("tty,path=/no-such-thing")
    taken = "warned" if alias.startswith("warning") else "taken"
    found: Found = {"chardev_aliases": "refused" if "not a valid" in alias else taken}
    found["chardev_without_address"] = "FD" in said("socket")
    found["client_wait_refused"] = not said("socket,path=/no-such-thing,wait=off").startswith("warning")
    negative = "exact" if "out of range" in said("ringbuf,size=-1") else "strict"
    found["size_language"] = "floating" if "power" in said("ringbuf,size=1e3") else negative
    with Program(command, OPTIONS[NO_MACHINE]) as program:
        line = {"command-line": "drive_del no-such-thing"}
        found["drive_errors_marked"] = program.client.ask("human-monitor-command", line).result.startswith("Error: ")
    with Program(command, [*OPTIONS[NO_MACHINE], "-chardev", "null,id=zqdevice,mux=on"]) as program:
        found["multiplexers_always_busy"] = program.client.ask("chardev-remove", {"id": "zqdevice"}).value is None
    return found


def _config_files(command: str) -> Found:
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write("[machine]\n  zqnothing\n[zqgroup]\n")
        file.flush()
        try:
            with Program(command, [*OPTIONS[NO_MACHINE], "-readconfig", file.name]) as program:
                said = program.close()
        except Refused as error:
            said = error.said
    if any("Could not open" in line for line in said):
        return {}  # it does not see the files that there are here
    return {"config_faults_at_option": any(" -readconfig " in line and "read config" not in line for line in said)}


def _network(command: str) -> Found:
    def said(options: str) -> str:
        return _complaint(command, [*OPTIONS[NO_MACHINE], "-netdev", f"{options},id=zqnet"])

    return {
        "tap_ways_apart": "ifname" not in said("tap,fd=0,fds=1"),
        "socket_kind_first": "SO_TYPE" in said(f"socket,fd={_NO_FILE}"),
        "guest_forwards_to_host": "onflict" not in said("user,guestfwd=tcp:10.0.2.2:80-cmd:true"),
    }


def _hot_plug(command: str) -> Found:
    with Program(command, [*OPTIONS[PC], "-smp", "1,maxcpus=2"]) as program:
        client = program.client
        free = next(each for each in client.ask("query-hotpluggable-cpus").result if "qom-path" not in each)
        client.ask("device_add", {"driver": free["type"], "id": "cpu", **free["props"]})
        found: Found = {"cpu_unplug_needs_guest": client.ask("device_del", {"id": "cpu"}).value is None}
        client.ask("device_add", {"driver": "e1000", "id": "card"})
        if "identifier" in client.ask("device_add", {"driver": "no-such-thing", "id": "1card"}).description:
            again = client.ask("device_add", {"driver": "no-such-thing", "id": "card"}).description
            found["device_id_check"] = "options" if "card" in again else "identifier"
        else:
            odd = client.ask("device_add", {"driver": "e1000", "id": "1card"})
            found["device_id_check"] = "none" if odd.value is not None else "late"
        found["empty_device_id_found"] = client.ask("device_del", {"id": ""}).error_class != "DeviceNotFound"
        client.ask("device_del", {"id": "card"})
        found["unplug_asked_once"] = client.ask("device_del", {"id": "card"}).value is None
        found["unplug_lag"] = _unplug_lag(client)
        found["adding_ends_lag"] = found["unplug_lag"] > 0 and _adding_ends_lag(client)
        text = {"driver": "e1000", "multifunction": "on"}
        blocks = {"driver": "virtio-blk-pci", "logical_block_size": 1023}
        found["block_sizes_apart"] = "not a power" in client.ask("device_add", blocks).description
        queue = {"driver": "virtio-net-pci", "tx_queue_size": 3}
        found["send_queue_limit"] = int(client.ask("device_add", queue).description.rpartition(" ")[2])
        unlimited = {"driver": "virtio-rng-pci", "max-bytes": 0}
        found["rng_without_bytes"] = client.ask("device_add", unlimited).value is not None
        found["device_options_are_text"] = client.ask("device_add", text).value is not None
        hub = {"type": "hubport", "hubid": 0, "id": "1hub"}
        found["netdev_ids_checked"] = client.ask("netdev_add", hub).value is None
    port = ["-machine", "q35,accel=tcg", *OPTIONS[PC][2:], "-device", "pcie-root-port,id=root0,chassis=1"]
    with Program(command, port) as program:
        client = program.client
        said = [client.ask("device_add", {"driver": "e1000", "bus": "root0"}) for _ in range(2)]
        found["pci_function_check"] = "asked" if said[1].value is not None else "always"
    found["untold_devices"] = _untold(command)
    found["unpowered_slots_let_go"] = _lets_go_unpowered(command, port)
    return found


def _lets_go_unpowered(command: str, port: list[str]) -> bool:
    """Whether a port of PCI Express, where ACPI leaves it alone, lets a device go that nobody has used."""
    try:
        program = Program(command, [*port, "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"])
    except Refused:
        return False  # ACPI never serves these ports, as in releases before all this
    with program:
        program.client.ask("device_add", {"driver": "virtio-rng-pci", "bus": "root0", "id": "zqrng"})
        program.client.ask("device_del", {"id": "zqrng"})
        return program.client.ask("device_del", {"id": "zqrng"}).error_class == "DeviceNotFound"


def _unplug_lag(client: Client) -> int:
    """How long a device that the bus lets go of at once is on its way: one length stands for all that are not none."""
    client.ask("device_add", {"driver": "virtio-serial-pci"})
    lags = []
    for _ in range(3):
        client.ask("device_add", {"driver": "virtserialport", "id": "zqport"})
        time.sleep(4 * _LAG / 1000)  # what is on its way by now takes others along
        client.events.clear()
        client.ask("device_del", {"id": "zqport"})
        began = time.monotonic()
        while not client.events:
            client.ask("query-status")
            time.sleep(0.001)
        lags.append(1000 * (time.monotonic() - began))
    return _LAG if sorted(lags)[1] > _LAG / 2 else 0


def _untold(command: str) -> str:
    """The types whose devices are never told of once a reset has let go of them."""
    return ",".join(driver for driver in _SUSPECTS if not _is_told(command, driver))


def _is_told(command: str, driver: str) -> bool:
    with Program(command, OPTIONS[PC]) as program:
        client = program.client
        if client.ask("device_add", {"driver": driver, "id": "zqcard"}).value is None:
            return True
        client.ask("device_del", {"id": "zqcard"})
        client.events.clear()
        try:
            client.ask("system_reset")
            time.sleep(4 * _LAG / 1000)
            client.ask("query-status")
        except Gone:
            return False  # some releases do not survive that
        return any(event.get("data", {}).get("device") == "zqcard" for event in client.events)


def _adding_ends_lag(client: Client) -> bool:
    for name in ("zqport", "zqother"):
        client.ask("device_add", {"driver": "virtserialport", "id": name})
        if name == "zqport":
            client.events.clear()
            client.ask("device_del", {"id": name})
    return bool(client.events)


def _run_guest(command: str, action: bytes, device: list[str], until: str) -> tuple[list[dict[str, Any]], Any]:
    """Let a guest act until an event or the program's end; gives the events, and then the run state after `stop`."""

    def seen(client: Client) -> bool:
        return any(event["event"] == until for event in client.events)

    with (
        guests.disk(action) as (inherit, disk),
        Program(command, [*OPTIONS[PC], *device, *disk], inherit, _GUEST_PATIENCE) as program,
    ):
        client = program.client
        try:
            client.ask("cont")
            while not seen(client):
                client.events.append(orjson.loads(client.line()))
            client.ask("stop")
            state = client.ask("query-status").result["status"]
        except Gone as error:
            if "no answer" in str(error):
                raise
            state = None
        return client.events, state


def _display(command: str) -> Found:
    """What a display and a character device refuse."""
    displays = ["-vnc", "none,password=on", "-device", "VGA"]
    with Program(command, [*OPTIONS[PC], *displays]) as program:
        ask = program.client.ask
        vnc = {"protocol": "vnc", "password": "none"}
        found: Found = {
            "password_connected_refusal": ask("set_password", {**vnc, "connected": "fail"}).description,
            "password_expiry_refusal": "",
        }
        shown = ask("human-monitor-command", {"command-line": "info pci"}).result
        found["unmapped_regions_told"] = "(not mapped)" in shown
        late = ask("expire_password", {"protocol": "vnc", "time": "no-time"})
        for name in ("zqfirst", "zqsecond"):
            ask("device_add", {"driver": "virtio-rng-pci", "id": name})
        refused = ask("human-monitor-command", {"command-line": "info usb"}).result
        found["inquiry_errors_marked"] = refused.startswith("Error: ")
        listed = ask("x-query-virtio").value or b""
        found["virtio_listed_by_tree"] = 0 <= listed.find(b"zqfirst") < listed.find(b"zqsecond")
        if late.value is None:
            found["password_expiry_refusal"] = _template(late.description, time="no-time")
    with Program(command, OPTIONS[PC]) as program:
        ask = program.client.ask
        socket = {"type": "socket", "data": {"addr": {"type": "fd", "data": {"str": "no-file"}}}}
        refused = ask("chardev-add", {"id": "no-device", "backend": socket}).description
        reason = "File descriptor named 'no-file' has not been found"
        found["chardev_failure"] = _template(refused, id="no-device", reason=reason)
        found["vnc_expiry_missing"] = ask("expire_password", {"protocol": "vnc", "time": "now"}).description
    with Program(command, [*OPTIONS[PC], "-vnc", "none"]) as program:
        found["vnc_password_disabled"] = program.client.ask("set_password", vnc).description
    return found


def _events(command: str) -> Found:
    with Program(command, OPTIONS[NO_MACHINE]) as program:
        listed = program.client.ask("query-qmp-schema").result
    known = {each["name"]: each for each in listed if each["meta-type"] == "event"}
    change = next(each for each in listed if each["name"] == known["MEMORY_DEVICE_SIZE_CHANGE"]["arg-type"])
    return {
        "memory_change_tells_path": any(member["name"] == "qom-path" for member in change["members"]),
        "unplug_refusal_event": _UNPLUG_REFUSAL if _UNPLUG_REFUSAL in known else "",
        "memory_unplug_event": _MEMORY_UNPLUG if _MEMORY_UNPLUG in known else "",
    }


def _files(command: str) -> Found:
    """What becomes of open files that a client hands over."""
    found: Found = {}
    with open(os.devnull, "rb") as file:
        with Program(command, [*OPTIONS[NO_MACHINE], "-S"]) as program:
            client = program.client
            identifier = client.hand_over("add-fd", {}, file.fileno()).result["fdset-id"]
            client.ask("remove-fd", {"fdset-id": identifier})
            found["removed_files_close_at_once"] = client.ask("query-fdsets").result == []
            client.hand_over("getfd", {"fdname": "zqfile"}, file.fileno())
            refused = client.ask("add_client", {"protocol": "zqnone", "fdname": "zqfile"}).description
            found["client_files_checked"] = "socket" in refused
        # A monitor that somebody can connect to when nobody is connected any more.
        chardev = "socket,id=zqmonitor,host=127.0.0.1,port=0,server=on,wait=off"
        monitor = ["-chardev", chardev, "-mon", "chardev=zqmonitor,mode=control"]
        with Program(command, [*OPTIONS[NO_MACHINE], *monitor]) as program:
            client = program.client
            listed = client.ask("query-chardev").result
            port = _port(listed, "zqmonitor")
            client.hand_over("add-fd", {}, file.fileno())
            client.close()
            time.sleep(_LEAVING)
            with socket.create_connection(("127.0.0.1", port)) as connection:
                found["unused_files_close"] = Client(connection).ask("query-fdsets").result == []
    return found


def _suspend(command: str) -> Found:
    _, state = _run_guest(command, guests.SUSPEND, [], "SUSPEND")
    return {"stop_affects_suspended": state == "paused"}


def _panic(command: str) -> Found:
    events, _ = _run_guest(command, guests.PANIC, ["-device", "pvpanic"], "SHUTDOWN")
    panics = [event for event in events if event["event"] == "GUEST_PANICKED"]
    return {"panic_reported_twice": len(panics) > 1}


def _debug_exit(command: str) -> Found:
    events, _ = _run_guest(command, guests.DEBUG_EXIT, ["-device", "isa-debug-exit"], "SHUTDOWN")
    return {"debug_exit_announced": any(event["event"] == "SHUTDOWN" for event in events)}


def _end_key(command: str) -> Found:
    """Whether somebody is told where the emulator is ended by the keys C-a and x."""
    shared = ["-chardev", "socket,id=zqshared,host=127.0.0.1,port=0,server=on,wait=off,mux=on"]
    with Program(command, [*OPTIONS[NO_MACHINE], *shared, "-mon", "chardev=zqshared"]) as program:
        client = program.client
        port = _port(client.ask("query-chardev").result, "zqshared-base")
        with socket.create_connection(("127.0.0.1", port), _GUEST_PATIENCE) as keys:
            keys.sendall(b"\x01x")
            while keys.recv(1 << 12):
                pass
        return {"end_key_announced": b'"SHUTDOWN"' in _rest(client)}


def _firmware(command: str) -> Found:
    """What SeaBIOS says of itself where it has no screen."""
    port = ["-chardev", "socket,id=zqport,host=127.0.0.1,port=0,server=on,wait=off", "-serial", "chardev:zqport"]
    with Program(command, [*OPTIONS[PC], *port, "-machine", "graphics=off"]) as program:
        number = _port(program.client.ask("query-chardev").result, "zqport")
        with socket.create_connection(("127.0.0.1", number), _GUEST_PATIENCE) as console:
            program.client.ask("cont")
            said = b""
            while b"\n" not in said and (data := console.recv(1 << 12)):
                said += data
    greeting = re.search(rb"SeaBIOS \(version [^)]*\)", said)
    return {} if greeting is None else {"seabios_greeting": greeting[0].decode()}


def _port(listed: list[dict[str, Any]], label: str) -> int:
    """The port at which a character device listens."""
    place = next(each["filename"] for each in listed if each["label"] == label)
    port = re.search(r":(\d+)(,|$)", place)
    assert port is not None
    return int(port[1])


def _rest(client: Client) -> bytes:
    """What is still said until the program has ended."""
    said = b""
    try:
        while True:
            said += client.line()
    except Gone:
        return said
