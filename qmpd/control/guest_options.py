"""What a guest is like, as `-guest` and the control command `guest-set` spell it."""

from __future__ import annotations

import enum
import typing
from typing import TYPE_CHECKING, Any, TypedDict

from qmpd.common.integers import from_digits, is_digits
from qmpd.common.suggestions import suggestion
from qmpd.control.ranges import Range, bounds, spell
from qmpd.control.sizes import Size, size
from qmpd.control.times import Time, nanoseconds, seconds
from qmpd.control.values import wire_name, without_plain_strings
from qmpd.machine.blueprint import AgentFault, Firmware, GuestAction, GuestSettings, GuestUnplug, GuestWakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from qmpd.guest.script import Script

NEVER = "never"
"""The `sleep-time` of a guest that sets no alarm."""


class GuestOptions(TypedDict, total=False):
    """The options of a guest; see `GuestSettings`, whose times are given as `Time` here and ranges as `Range`."""

    firmware: Firmware | str
    firmware_resets: Range
    operating_system: bool
    boot_time: Time
    on_boot: GuestAction | str
    on_powerdown: GuestAction | str
    powerdown_delay: Time
    on_sleep: GuestAction | str
    on_nmi: GuestAction | str
    on_wakeup: GuestWakeup | str
    sleep_time: Time
    debug_exit_value: int
    on_unplug: GuestUnplug | str
    unplug_delay: Time
    balloon: bool
    balloon_delay: Time
    balloon_stats: bool
    failover: bool
    agent: bool
    agent_device: str
    agent_boot_time: Time
    agent_reply_delay: Time
    agent_early_lost: bool
    agent_fault: AgentFault | str
    agent_root: str
    script: str
    on_ctrl_alt_delete: GuestAction | str
    memory_used: Size
    dirty_rate: Size


_TIMES = (
    "boot_time", "powerdown_delay", "sleep_time", "unplug_delay", "balloon_delay", "agent_boot_time",
    "agent_reply_delay",
)  # fmt: skip
_RANGES = {"firmware_resets": 1000}
_LIMITS = {"debug_exit_value": 255}
_SIZES = ("memory_used", "dirty_rate")


def changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as changes of `GuestSettings`; what a script says of an option yields to what is said here.

    :raise ValueError: a value is out of range, or the script is wrong; the text says which.
    """
    text = ""
    if "script" in options:
        from qmpd.control.guest_scripts import read

        text, script = read(options["script"])
        options = {**_of_script(options["script"], script), **options}
    result = dict(options)
    if text:
        result["script_text"] = text
    for name, value in options.items():
        if name in _TIMES:
            result[name] = None if name == "sleep_time" and value == NEVER else nanoseconds(value)
        elif name in _RANGES:
            result[name] = bounds(wire_name(name), value, _RANGES[name])
        elif name in _SIZES:
            result[name] = size(value)
        elif name in _LIMITS and not 0 <= value <= _LIMITS[name]:
            raise ValueError(f"'{wire_name(name)}' is a number from 0 to {_LIMITS[name]}")
    return result


def _of_script(path: str, script: Script) -> dict[str, Any]:
    try:
        return _given(script.options)
    except ValueError as error:
        raise ValueError(f"{path}: guest: {error}") from None


def options(settings: GuestSettings) -> GuestOptions:
    """The options that make these settings; times in seconds, what is not set left out."""
    result: dict[str, Any] = {}
    for name in GuestOptions.__annotations__:
        value = getattr(settings, name)
        if value is None:
            continue
        result[name] = seconds(value) if name in _TIMES else spell(*value) if name in _RANGES else value
    return typing.cast("GuestOptions", result)


def parse(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """The pairs of `-guest` as changes of `GuestSettings`, the last of each.

    :raise ValueError: a key or a value is wrong, in QEMU's words where it has some.
    """
    return changes(_given(pairs))


def _given(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The pairs as options.

    :raise ValueError: a key or a value is wrong.
    """
    hints = {name: without_plain_strings(hint) for name, hint in typing.get_type_hints(GuestOptions).items()}
    result: dict[str, Any] = {}
    for key, text in pairs:
        name = key.replace("-", "_")
        if name not in hints or "_" in key:
            known = [wire_name(each) for each in hints]
            raise ValueError(f"Invalid parameter '{key}'{suggestion(key, known)}")
        result[name] = _value(key, text, hints[name])
    return result


def _value(key: str, text: str, kind: Any) -> object:
    if kind is bool:
        if text in ("on", "yes", "true", "y"):
            return True
        if text in ("off", "no", "false", "n"):
            return False
        raise ValueError(f"Parameter '{key}' expects 'on' or 'off'")
    if kind is int:
        if not is_digits(text):
            raise ValueError(f"Parameter '{key}' expects a number")
        return from_digits(text)
    name = key.replace("-", "_")
    if kind is str or name in _RANGES:
        return text
    if name in _SIZES:
        return _checked(key, text, size)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"Parameter '{key}' does not accept value '{text}'{suggestion(text, kind)}") from None
    return text if key == "sleep-time" and text == NEVER else _checked(key, text, nanoseconds)


def _checked(key: str, text: str, read: Callable[[str], int]) -> str:
    try:
        read(text)
    except ValueError as error:
        raise ValueError(f"Parameter '{key}': {error}") from None
    return text
