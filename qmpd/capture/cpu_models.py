"""Asking for the CPU models (`qmpd.qapi.cpu_models` reads what is written here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.capture.lines import line, spell
from qmpd.qapi.cpu_models import COMMAND
from qmpd.qapi.introspection import Enumeration

if TYPE_CHECKING:
    from qmpd.capture.answers import Ask, Asked
    from qmpd.capture.client import Outcome
    from qmpd.qapi.introspection import Introspection

# The models that stand for what the accelerator can do: management software asks for these, with and without what
# cannot be migrated, and then for the whole of what it was told.
_HOST_LIKE = ("max", "host")
# libvirt asks so what Hyper-V's features could be had.
_WHAT_HYPER_V_COULD = {"migratable": False, "hv-passthrough": True}
_STRANGER = "no-such-thing"


def cpu_models(ask: Ask, introspection: Introspection) -> list[bytes]:
    """The lines of the file of CPU models; none where the program cannot expand them.

    :raise CaptureError: the program does not start.
    """
    if not {COMMAND, "query-cpu-definitions"} <= set(introspection.commands):
        return []
    (definitions,) = ask([("query-cpu-definitions", {})])
    if definitions is None or definitions.value is None:
        return []
    types = {entry["name"]: entry.get("typename", "") for entry in definitions.result}
    kinds = introspection.type(introspection.object(introspection.command(COMMAND).arguments).member("type").type)
    assert isinstance(kinds, Enumeration)
    models: list[dict[str, Any]] = [{"name": name} for name in types]
    models += [
        {"name": name, "props": {"migratable": migratable}}
        for name in _HOST_LIKE
        if name in types
        for migratable in (True, False)
    ]
    models += [{"name": name, "props": dict(_WHAT_HYPER_V_COULD)} for name in _HOST_LIKE[1:] if name in types]
    asked: list[Asked] = [(COMMAND, {"type": kind, "model": model}) for model in models for kind in kinds.values]
    outcomes = ask(asked)
    more: list[Asked] = []
    for (_, arguments), outcome in zip(asked, outcomes, strict=True):
        if arguments["type"] == "static" and arguments["model"]["name"] in _HOST_LIKE and outcome and outcome.value:
            follow_up = (COMMAND, {"type": "full", "model": outcome.result["model"]})
            if follow_up not in more:
                more.append(follow_up)
    outcomes += ask(more)
    lines = [
        line({"execute": COMMAND, "arguments": arguments}, outcome.reply)
        for (_, arguments), outcome in zip(asked + more, outcomes, strict=True)
        if outcome is not None
    ]
    return [*lines, *_unknown(ask, kinds.values[0], types), spell({"types": types})]


def _unknown(ask: Ask, kind: str, types: dict[str, str]) -> list[bytes]:
    """What is said of a model and of a property that does not exist."""
    name = next(iter(types))
    strange = [{"name": _STRANGER}, {"name": name, "props": {_STRANGER: True}}]
    asked: list[Asked] = [(COMMAND, {"type": kind, "model": model}) for model in strange]
    model, unknown_property = ask(asked)
    lines = []
    if model is not None and model.value is None:
        lines.append(line({"unknown": "model"}, _template(model, {_STRANGER: "model.name"})))
    if unknown_property is not None and unknown_property.value is None:
        texts = {types[name]: "type", _STRANGER: "property"} if types[name] else {_STRANGER: "property"}
        lines.append(line({"unknown": "property"}, _template(unknown_property, texts)))
    return lines


def _template(outcome: Outcome, markers: dict[str, str]) -> bytes:
    text = outcome.description
    for said, marker in markers.items():
        text = text.replace(said, f"«{marker}»")
    return spell({"error": {"class": outcome.error_class, "desc": text}})
