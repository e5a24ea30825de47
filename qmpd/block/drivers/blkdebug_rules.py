"""The rules of a blkdebug node, as its options and its configuration file tell them (QEMU's block/blkdebug.c)."""

from __future__ import annotations

from typing import Any

from qmpd.block.flat import Flat
from qmpd.block.values import text_of
from qmpd.common.dictionary_order import in_order
from qmpd.machine.errors import MachineError
from qmpd.option_language import key_values
from qmpd.option_language.key_values import BOOL, NUMBER, STRING

KINDS = {
    "inject-error": {
        "event": STRING, "state": NUMBER, "iotype": STRING, "errno": NUMBER, "sector": NUMBER, "once": BOOL,
        "immediately": BOOL,
    },
    "set-state": {"event": STRING, "state": NUMBER, "new_state": NUMBER},
}  # fmt: skip
"""The types of their members, by what they do."""


def rules(name: str, branch: Flat) -> list[dict[str, Any]] | dict[str, Any]:
    """Rules told flat: numbered, or one alone (QEMU's qemu_config_parse_qdict).

    :raise Refusal: there is something else among them.
    """
    found: list[dict[str, Any]] = []
    while (number := str(len(found))) in {key.partition(".")[0] for key in branch}:
        alone = branch.get(number)
        one = branch.take(number)
        if alone == {} and one is None:
            one = Flat({})
        elif alone is not None or not isinstance(one, Flat):
            raise MachineError(f"[{name}] section (index {number}) does not consist of keys")
        found.append(_rule(name, one))
        for key in in_order(tuple(one)):
            if key not in KINDS[name]:
                raise MachineError(f"[{name}] section doesn't support the option '{key}'")
    absorbed = {} if found else _rule(name, branch)
    is_one = any(key in KINDS[name] for key in branch) and not found
    for key in in_order(tuple(branch)):
        if not is_one or key not in KINDS[name]:
            raise MachineError(f"{'Unknown' if is_one else 'Unused'} option '{key}' for [{name}]")
    return found or absorbed


def _rule(name: str, told: Flat) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in in_order(tuple(told)):
        value = told[key]
        if key in KINDS[name] and value is not None and not isinstance(value, (dict, list)):
            typed(name, key, text_of(value))
            # It is shown as it was given.
            found[key] = value
    return found


def typed(name: str, key: str, text: str) -> Any:
    """The value of a rule's member.

    :raise Refusal: it is none, or there is no such member.
    """
    kind = KINDS[name].get(key)
    if kind is None:
        raise MachineError(f"Invalid parameter '{key}'")
    return key_values.check_flat_list([(key, text)], {key: kind})[key]


def signed(value: object, bits: int) -> int:
    """A number, which may be text, as C's integers of so many bits have it."""
    number = key_values.number("", text_of(value)) & (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number
