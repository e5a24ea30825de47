"""What the human monitor's other commands take (QEMU's hmp-commands.hx), so that a wrong line is refused as there.

Some do what a command of QMP does, and are refused for the same reasons; of the rest the monitor says that it is not
modelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.common.integers import is_digits
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.common.scalars import size_of
from qmpd.human import jobs
from qmpd.human.asking import ask, carry_out, execute
from qmpd.human.errors import Misread
from qmpd.option_language import key_values
from qmpd.qapi.introspection import Builtin, Object

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.qapi.behaviour import Behaviour
    from qmpd.system.deferred import Deferred
    from qmpd.system.system import System

    Values = dict[str, Any]
    Action = Callable[[System, Values], str | Deferred]

FLAG, CHOICE, FORMAT, OPTIONAL = "-", "=", "/", "?"
_FORMATS = frozenset("0123456789bcdiosuxwhgl ")
# Sizes among the parameters of migrations; a bandwidth without a unit is in mebibytes.
_SIZES = (
    "xbzrle-cache-size", "downtime-limit", "max-postcopy-bandwidth", "announce-initial", "announce-max",
    "announce-rounds", "announce-step",
)  # fmt: skip
_BANDWIDTHS = ("max-bandwidth", "avail-switchover-bandwidth")
_PASSWORD_CHOICES = {"protocol": ("vnc", "spice"), "connected": ("keep", "fail", "disconnect")}
_WHAT = {"file": "filename", "device": "block device name", "string": "string"}


class Argument(NamedTuple):
    """One argument: its name, what kind of thing it is, and whether it may be left out."""

    name: str
    kind: str
    optional: bool = False


class Shorter(NamedTuple):
    """What a line takes in releases that lack something, and whether a release has all of it."""

    is_whole: Callable[[Behaviour], bool]
    declared: tuple[Argument, ...]


def declare(text: str) -> tuple[Argument, ...]:
    """The arguments that a text lists, as NAME:KIND, with a question mark where they may be left out."""
    return tuple(
        Argument(name, kind.removesuffix(OPTIONAL), kind.endswith(OPTIONAL))
        for name, kind in (word.split(":") for word in text.split())
    )


_MEMORY = declare("format:/ address:number")
_SAVE = declare("address:number size:integer file:string")
_JOB = declare("device:device")

ARGUMENTS: dict[str, tuple[Argument, ...]] = {
    "block_job_cancel": declare("force:-f device:device"),
    "block_job_complete": _JOB,
    "block_job_pause": _JOB,
    "block_job_resume": _JOB,
    "block_job_set_speed": declare("device:device speed:mebibytes"),
    "block_resize": declare("device:device size:mebibytes"),
    "block_set_io_throttle": declare(
        "device:device bps:number bps_rd:number bps_wr:number iops:number iops_rd:number iops_wr:number"
    ),
    "block_stream": declare("device:device speed:mebibytes? base:string?"),
    "client_migrate_info": declare("protocol:string hostname:string port:integer? tls:integer? subject:string?"),
    "closefd": declare("name:string"),
    "delvm": declare("name:string"),
    "drive_backup": declare("reuse:-n full:-f compress:-c device:device target:string format:string?"),
    "drive_mirror": declare("reuse:-n full:-f device:device target:string format:string?"),
    "expire_password": declare("protocol:string time:string display:-d"),
    "getfd": declare("name:string"),
    "i": declare("format:/ address:integer"),
    "loadvm": declare("name:string"),
    "memsave": _SAVE,
    "migrate_incoming": declare("uri:string"),
    "migrate_set_capability": declare("name:string state:switch"),
    "migrate_set_parameter": declare("name:string value:string"),
    "o": declare("format:/ address:integer value:integer"),
    "pmemsave": _SAVE,
    "print": declare("format:/ value:number"),
    "savevm": declare("name:string?"),
    "set_password": declare("protocol:string password:string display:-d connected:string?"),
    "snapshot_blkdev": declare("reuse:-n device:device file:string? format:string?"),
    "snapshot_blkdev_internal": declare("device:device name:string"),
    "snapshot_delete_blkdev_internal": declare("device:device name:string id:string?"),
    "sum": declare("start:integer size:integer"),
    "x": _MEMORY,
    "xp": _MEMORY,
}
"""The arguments of each command, in their order."""


def read(line: Line, declared: tuple[Argument, ...]) -> Values:
    """The arguments that a line gives.

    :raise Misread: they are not as declared.
    """
    values: Values = {}
    for number, argument in enumerate(declared):
        if argument.kind.startswith(FLAG):
            letter = argument.kind[1]
            later = "".join(each.kind[1] for each in declared[number + 1 :] if each.kind.startswith(FLAG))
            if argument.kind.endswith(CHOICE):
                values[argument.name] = line.choice(letter, later)
            else:
                values[argument.name] = line.flag(letter, later)
        elif not (argument.optional and line.is_at_end()):
            values[argument.name] = _read(line, argument.kind)
    line.end()
    return values


def _read(line: Line, kind: str) -> Any:
    if kind == FORMAT:
        return _format(line)
    if kind == "number":
        return line.number()
    if kind == "integer":
        return line.integer()
    if kind == "switch":
        word = line.word()
        if word not in ("on", "off"):
            raise Misread("Expected 'on' or 'off'")
        return word == "on"
    if kind in ("size", "mebibytes"):
        word = line.word() or ""
        try:
            return size_of(f"{word}M" if kind == "mebibytes" and is_digits(word[-1:]) else word)
        except (ValueError, OverflowError):
            raise Misread("invalid size") from None
    return line.required(_WHAT.get(kind, "string"))


def _format(line: Line) -> str:
    """What follows a stroke: how many, in which form and size."""
    text = line.form()
    for letter in text:
        if letter not in _FORMATS:
            raise Misread(f"invalid char in format: '{letter}'")
    return text


# What they do


def _resize(system: System, values: Values) -> str | Deferred:
    return carry_out(system, "block_resize", values)


def _throttle(system: System, values: Values) -> str:
    return execute(system, "block_set_io_throttle", values)


def _save(name: str) -> Action:
    def action(system: System, values: Values) -> str | Deferred:
        given = {"val": values["address"], "size": values["size"], "filename": values["file"]}
        return carry_out(system, name, given)

    return action


def _client_information(system: System, values: Values) -> str:
    return execute(system, "client_migrate_info", {name: values[name] for name in ("protocol", "hostname")})


def _migrate_incoming(system: System, values: Values) -> str:
    return execute(system, "migrate-incoming", {"uri": values["uri"]})


def _set_capability(system: System, values: Values) -> str:
    known = [each["capability"] for each in ask(system, "query-migrate-capabilities")]
    if values["name"] not in known:
        raise Refusal("human-choice", value=values["name"])
    choice = {"capability": values["name"], "state": values["state"]}
    return execute(system, "migrate-set-capabilities", {"capabilities": [choice]})


def _set_parameter(system: System, values: Values) -> str:
    known = system.release.introspection
    parameters = known.type(known.command("migrate-set-parameters").arguments)
    assert isinstance(parameters, Object)
    if all(each.name != values["name"] for each in parameters.members):
        raise Refusal("human-choice", value=values["name"])
    name, value = values["name"], values["value"]
    member = parameters.member(name)
    kind = known.type(member.type)
    given: object = value
    if isinstance(kind, Builtin) and kind.name == "int":
        given = _parameter(system, name, value)
    elif isinstance(kind, Builtin) and kind.name == "bool":
        given = key_values.boolean(name, value)
    return execute(system, "migrate-set-parameters", {name: given})


def _parameter(system: System, name: str, value: str) -> int:
    """A number of a migration's parameter.

    :raise Refusal: it is none.
    """
    behaviour = system.release.behaviour
    if name in _BANDWIDTHS:
        try:
            return size_of(f"{value}M" if is_digits(value[-1:]) else value, behaviour.size_language)
        except (ValueError, OverflowError):
            raise Refusal("size-invalid", text=value) from None
    if name in _SIZES and (name != "downtime-limit" or behaviour.downtime_is_size):
        return key_values.size(name, value, behaviour.size_language)
    try:
        return key_values.signed_integer(name, value)
    except Refusal:
        # Where this is none either, numbers are read with a sign.
        raise Refusal("parameter-uint64" if behaviour.downtime_is_size else "parameter-int64", name=name) from None


def _snapshot(system: System, values: Values) -> str | Deferred:
    if "file" not in values:
        raise Refusal("snapshot-file-missing")
    given: Values = {"device": values["device"], "snapshot-file": values["file"]}
    if "format" in values:
        given["format"] = values["format"]
    given["mode"] = "existing" if values.get("reuse") else "absolute-paths"
    return carry_out(system, "blockdev-snapshot-sync", given)


def _on_internal(command: str) -> Action:
    """Take or delete an internal snapshot."""

    def action(system: System, values: Values) -> str | Deferred:
        return carry_out(system, command, values)

    return action


def _no_descriptor(system: System, values: Values) -> str:
    """Nobody hands over files with a line."""
    raise Refusal("descriptor-none")


def _close_descriptor(system: System, values: Values) -> str:
    raise Refusal("descriptor-unnamed", name=values["name"])


def _check_password(values: Values) -> None:
    for name, choices in _PASSWORD_CHOICES.items():
        if values.get(name, choices[0]) not in choices:
            raise Refusal("password-protocol", value=values[name], name=name)


def _set_password(system: System, values: Values) -> str:
    _check_password(values)
    names = ("protocol", "password", "connected")
    given: Values = {name: values[name] for name in names if name in values}
    return execute(system, "set_password", given)


def _expire_password(system: System, values: Values) -> str:
    _check_password(values)
    return execute(system, "expire_password", {"protocol": values["protocol"], "time": values["time"]})


_ACTIONS: dict[str, Action] = {
    **jobs.ACTIONS,
    "closefd": _close_descriptor,
    "expire_password": _expire_password,
    "getfd": _no_descriptor,
    "set_password": _set_password,
    "snapshot_blkdev": _snapshot,
    "snapshot_blkdev_internal": _on_internal("blockdev-snapshot-internal-sync"),
    "snapshot_delete_blkdev_internal": _on_internal("blockdev-snapshot-delete-internal-sync"),
    "block_resize": _resize,
    "block_set_io_throttle": _throttle,
    "client_migrate_info": _client_information,
    "memsave": _save("memsave"),
    "migrate_incoming": _migrate_incoming,
    "migrate_set_capability": _set_capability,
    "migrate_set_parameter": _set_parameter,
    "pmemsave": _save("pmemsave"),
}


def part(name: str) -> Part | None:
    """What a line of this command does; None where its arguments are not known."""
    declared = ARGUMENTS.get(name)
    return None if declared is None else acting(f"the command {name}", declared, _ACTIONS.get(name))


def acting(what: str, declared: tuple[Argument, ...], action: Action | None, shorter: Shorter | None = None) -> Part:
    """What a line does that takes these arguments, or fewer in some releases.

    Without an action `what` it would do is not modelled.
    """

    def act(system: System, line: Line) -> str | Deferred:
        is_all = shorter is None or shorter.is_whole(system.release.behaviour)
        values = read(line, declared if shorter is None or is_all else shorter.declared)
        if action is None:
            raise NotModelled(what)
        return action(system, values)

    return act
