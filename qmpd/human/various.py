"""The human monitor's commands about keys, logs, pictures and other things of their own (QEMU's hmp-commands.hx).

What they take is declared as in `qmpd.human.declared`; some releases take less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.human.asking import answer, carry_out, execute
from qmpd.human.declared import Shorter, acting, declare
from qmpd.machine import boot_order
from qmpd.monitor.commands.machine import cpus
from qmpd.qapi.introspection import Array, Enumeration

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.human.asking import Part
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System

    Values = dict[str, Any]
    Action = Callable[[System, Values], str | Deferred]

_NO_LOG, _ALL_LOGS, _TRACING = "none", "all", "trace:"
_LARGEST_KEY = (1 << 31) - 1
_DUMP_FORMATS = {"zlib": "kdump-zlib", "lzo": "kdump-lzo", "snappy": "kdump-snappy", "windmp": "win-dmp"}


def told(system: System, code: str, /, **values: object) -> str:
    """A line that says a refusal without marking it as an error."""
    return f"{system.release.refusals.message(Refusal(code, **values))}\n"


# Keys and mice


def _send_key(system: System, values: Values) -> str:
    keys = []
    for name in values["keys"].split("-"):
        key = _key(system, "less" if name == "<" else name)
        if key is None:
            return told(system, "key-unknown", key=name)
        keys.append(key)
    given: Values = {"keys": keys}
    if "time" in values:
        given["hold-time"] = values["time"]
    return execute(system, "send-key", given)


def _key(system: System, name: str) -> Values | None:
    """The key of this name, or of the number behind 0x; None where there is none."""
    if name.startswith("0x"):
        try:
            number = int(name, 16)
        except ValueError:
            return None
        return {"type": "number", "data": number} if number <= _LARGEST_KEY else None
    known = system.release.introspection
    keys = known.type(known.object(known.command("send-key").arguments).member("keys").type)
    assert isinstance(keys, Array)
    code = known.type(known.object(known.object(keys.element).variants["qcode"]).member("data").type)
    assert isinstance(code, Enumeration)
    return {"type": "qcode", "data": name} if name in code.values else None


def _check_choice(system: System, command: str, member: str, value: str) -> None:
    """Refuse what is no value of a QMP command's argument, in the words of this monitor.

    :raise Refusal: it is none.
    """
    known = system.release.introspection
    choices = known.type(known.object(known.command(command).arguments).member(member).type)
    assert isinstance(choices, Enumeration)
    if value not in choices.values:
        raise Refusal("human-choice", value=value)


def _nothing(system: System, values: Values) -> str:
    """What nobody notices."""
    return ""


def _choose_mouse(system: System, values: Values) -> str:
    index = values["index"]
    if all(each["index"] != index for each in answer(system, "query-mice")):
        if system.release.behaviour.device_errors_marked:
            raise Refusal("mouse-missing", index=index)
        return told(system, "mouse-missing", index=index)
    raise NotModelled("the command mouse_set")


# Logs


def _log(system: System, values: Values) -> str:
    items = values["items"]
    if items == _NO_LOG:
        return ""
    known = {*system.release.command_line.choices("log-items"), _ALL_LOGS}
    if all(item in known or item.startswith(_TRACING) for item in items.split(",")):
        raise NotModelled("the command log")
    return system.release.human_monitor.help(["log"])


def _log_file(system: System, values: Values) -> str:
    path = values["file"]
    if path.count("%") > 1 or ("%" in path and "%d" not in path):
        return told(system, "log-template", path=path)
    try:
        if system.computer.is_folder(path):
            return told(system, "log-unwritable", path=path, reason="Is a directory")
        system.computer.check_folder(path)
    except OSError as error:
        return told(system, "log-unwritable", path=path, reason=error.strerror)
    raise NotModelled("the command logfile")


def _trace_event(system: System, values: Values) -> str:
    given = {"name": values["name"], "enable": values["state"], **of_cpu(system, values)}
    try:
        return execute(system, "trace-event-set-state", given)
    except NotModelled:
        raise
    except Refusal as error:
        return f"{system.release.refusals.message(error)}\n"


def of_cpu(system: System, values: Values) -> Values:
    """The CPU that is meant, where a release's events can be traced for one."""
    known = system.release.introspection
    taken = known.object(known.command("trace-event-get-state").arguments).members
    return {"vcpu": values["cpu"]} if "cpu" in values and any(each.name == "vcpu" for each in taken) else {}


# Sound


def old_capture(system: System, command: str) -> str:
    """What is said first of a command that captures sound."""
    if not system.release.behaviour.sound_capture_deprecated:
        return ""
    return f"warning: {system.release.refusals.message(Refusal('capture-deprecated', command=command))}\n"


def _stop_capture(system: System, values: Values) -> str:
    """Nothing is ever captured."""
    return old_capture(system, "stopcapture")


def _capture(system: System, values: Values) -> str:
    name, said = values["audiodev"], old_capture(system, "wavcapture")
    if name not in system.inventory.backends.audiodevs:
        return said + told(system, "vnc-audiodev-missing", audiodev=name)
    raise NotModelled("the command wavcapture")


# Pictures and dumps


def _screendump(system: System, values: Values) -> str | Deferred:
    given: Values = {"filename": values["file"]}
    for name in ("device", "head"):
        if name in values:
            given[name] = values[name]
    if (form := values.get("format")) is not None:
        _check_choice(system, "screendump", "format", form)
        given["format"] = form
    return carry_out(system, "screendump", given)


def _dump(system: System, values: Values) -> str | Deferred:
    formats = [form for name, form in _DUMP_FORMATS.items() if values[name]]
    if len(formats) > 1:
        raise Refusal("memory-dump-flags")
    given: Values = {"paging": values["paging"], "protocol": f"file:{values['file']}"}
    if formats:
        given["format"] = formats[0].replace("kdump-", "kdump-raw-") if values.get("raw") else formats[0]
    if values["detach"]:
        given["detach"] = True
    given |= {name: values[name] for name in ("begin", "length") if name in values}
    return carry_out(system, "dump-guest-memory", given)


# Others


def _commit(system: System, values: Values) -> str | Deferred:
    from qmpd.human.committing import commit

    return commit(system, values["device"])


def _boot_set(system: System, values: Values) -> str:
    order = values["order"]
    try:
        boot_order.choose(system.machine, order)
    except Refusal as refusal:
        return f"{system.release.refusals.message(refusal)}\n"
    return f"boot device list now set to {order}\n"


def _sync_profile(system: System, values: Values) -> str:
    value = values.get("what")
    if value not in (None, "on", "off", "reset"):
        raise Refusal("sync-profile-choice", value=value)
    raise NotModelled("the command sync-profile")


def _inject_error(system: System, values: Values) -> str:
    name = values["device"]
    if all(device.identifier != name for device in system.devices.buses.devices.values()):
        if system.release.behaviour.device_errors_marked:
            raise Refusal("error-device-missing", id=name)
        return told(system, "error-device-missing", id=name)
    raise NotModelled("the command pcie_aer_inject_error")


def _switch(name: str) -> Action:
    """What is switched on, or off."""

    def action(system: System, values: Values) -> str:
        word = values.get("state", "on")
        if word not in ("on", "off"):
            return told(system, "option-unexpected", word=word)
        raise NotModelled(f"the command {name}")

    return action


def _machine_check(system: System, values: Values) -> str:
    if values["cpu"] not in cpus(system):
        return ""
    raise NotModelled("the command mce")


def _command(name: str, *names: str, is_marked: bool = True, then: str = "") -> Action:
    """Do what the QMP command `name` does, with those of the values that have these names, and say something `then`.

    What refuses it is marked as an error, or not.
    """

    def action(system: System, values: Values) -> str | Deferred:
        try:
            return carry_out(system, name, {each: values[each] for each in names if each in values}) or then
        except Refusal as refusal:
            if is_marked or isinstance(refusal, NotModelled):
                raise
            return f"{system.release.refusals.message(refusal)}\n"

    return action


def _no_xen(system: System, values: Values) -> str:
    raise Refusal("xen-events-missing")


def _continue(system: System, values: Values) -> str:
    _check_choice(system, "migrate-continue", "state", values["state"])
    return execute(system, "migrate-continue", values)


_COMMANDS: dict[str, tuple[str, Action | None]] = {
    "announce_self": ("interfaces:string? id:string?", _nothing),
    "boot_set": ("order:string", _boot_set),
    "commit": ("device:device", _commit),
    "dump-guest-memory": (
        "paging:-p detach:-d windmp:-w zlib:-z lzo:-l snappy:-s raw:-R file:file begin:number? length:number?", _dump,
    ),
    "dumpdtb": ("filename:file", _command("dumpdtb", "filename")),
    "gpa2hpa": ("address:number", None),
    "gpa2hva": ("address:number", None),
    "gva2gpa": ("address:number", None),
    "log": ("items:string", _log),
    "logfile": ("file:file", _log_file),
    "mce": (
        "broadcast:-b cpu:integer bank:integer status:number mcg_status:number address:number misc:number",
        _machine_check,
    ),
    "migrate_continue": ("state:string", _continue),
    "mouse_button": ("state:integer", _nothing),
    "mouse_move": ("x:string y:string z:string?", _nothing),
    "mouse_set": ("index:integer", _choose_mouse),
    "one-insn-per-tb": ("state:string?", _switch("one-insn-per-tb")),
    "pcie_aer_inject_error": (
        "advisory:-a correctable:-c device:string error:string h0:integer? h1:integer? h2:integer? h3:integer?"
        " p0:integer? p1:integer? p2:integer? p3:integer?", _inject_error,
    ),
    "replay_break": ("icount:number", _command("replay-break", "icount", is_marked=False)),
    "replay_delete_break": ("", _command("replay-delete-break", is_marked=False)),
    "replay_seek": ("icount:number", _command("replay-seek", "icount", is_marked=False)),
    "screendump": ("file:file format:-f= device:string? head:integer?", _screendump),
    "sendkey": ("keys:string time:integer?", _send_key),
    "singlestep": ("state:string?", _switch("singlestep")),
    "stopcapture": ("number:integer", _stop_capture),
    "sync-profile": ("what:string?", _sync_profile),
    "trace-event": ("name:string state:switch cpu:integer?", _trace_event),
    "wavcapture": ("file:file audiodev:string frequency:integer? bits:integer? channels:integer?", _capture),
    "x_colo_lost_heartbeat": ("", _command("x-colo-lost-heartbeat")),
    "xen-event-inject": ("port:integer", _command("xen-event-inject", "port")),
    "xen-event-list": ("", _no_xen),
}  # fmt: skip
"""What each command takes and does; those without an action do what is not modelled."""

_SHORTER: dict[str, Shorter] = {
    "screendump": Shorter(
        lambda behaviour: behaviour.screendump_has_format, declare("file:file device:string? head:integer?")
    ),
}
"""What some commands take in releases that lack something."""

PARTS: dict[str, Part] = {
    name: acting(f"the command {name}", declare(text), action, _SHORTER.get(name))
    for name, (text, action) in _COMMANDS.items()
}
"""The commands, by their names."""
