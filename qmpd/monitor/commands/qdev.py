"""QAPI module `qdev`, and 5.2's free-form `object-add`: what they refuse before they would act.

Both take any arguments at all, so it is not the schema's check but the command that finds what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.monitor.commands import command
from qmpd.monitor.commands.unmodelled import refusal
from qmpd.monitor.errors import CommandError

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


def _option_text(value: object) -> str | None:
    """A value as an option list holds it; None where it has no place there."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, str | int | float) else None


def _text(arguments: Arguments, name: str, any_scalar: bool) -> str:
    """The text of an argument.

    :raise CommandError: there is none; one of another type counts as missing, unless scalars are taken for text.
    """
    value = arguments.get(name)
    text = _option_text(value) if any_scalar else value
    if not isinstance(text, str):
        raise CommandError(f"Parameter '{name}' is missing")
    return text


@command("device_add", refuses=True)
def device_add(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    driver = _text(arguments, "driver", dispatcher.release.behaviour.device_options_are_text)
    if "device" not in dispatcher.release.object_types.is_a(driver):
        raise CommandError(f"'{driver}' is not a valid device model name")
    raise refusal("device_add")


@command("device_del", refuses=True)
def device_del(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    name = arguments["id"]
    if any(device.properties.get("id") == name for device in dispatcher.settings.devices):
        raise refusal("device_del")
    raise CommandError(f"Device '{name}' not found", "DeviceNotFound")


@command("object-add", refuses=True)
def object_add(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    if "object-add" in dispatcher.release.names.unchecked:
        kind = _text(arguments, "qom-type", any_scalar=False)
        _text(arguments, "id", any_scalar=False)
        if not isinstance(arguments.get("props", {}), dict):
            raise CommandError("Invalid parameter type for 'props', expected: dict")
        if "object" not in dispatcher.release.object_types.is_a(kind):
            raise CommandError(f"invalid object type: {kind}")
    raise refusal("object-add")
