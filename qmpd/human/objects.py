"""The human monitor's commands that look at objects and set their properties: `qom-list`, `qom-get`, `qom-set`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Worded
from qmpd.human.asking import call, execute
from qmpd.human.errors import Misread
from qmpd.qom.setting import from_text
from qmpd.wire import encode_pretty
from qmpd.wire.json_text import parse

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System


def _qom_list(system: System, line: Line) -> str:
    path = line.word()
    line.end()
    if path is None:
        return "/\n"
    listed = call(system, "qom-list", {"path": path})
    assert isinstance(listed, list)
    return "".join(f"{each['name']} ({each['type']})\n" for each in listed)


def _qom_get(system: System, line: Line) -> str:
    path, name = line.required(), line.required()
    line.end()
    value = call(system, "qom-get", {"path": path, "property": name})
    return encode_pretty(value, system.release.behaviour.float_format).decode().replace("\r", "") + "\n"


def _qom_set(system: System, line: Line) -> str:
    """A value is text that the property reads in its way, or JSON."""
    is_json = line.flag("j")
    path, name, text = line.required(), line.required(), line.rest()
    if text is None:
        raise Misread(f"{line.title}: string expected")
    if is_json:
        try:
            value = parse(text, system.release.behaviour.json_parser)
        except ValueError as error:
            raise Worded(str(error)) from None
    else:
        tree = system.tree
        value = from_text(tree.require(tree.resolve_unique(path), name), text)
    return execute(system, "qom-set", {"path": path, "property": name, "value": value})


PARTS: dict[str, Part] = {"qom-list": _qom_list, "qom-get": _qom_get, "qom-set": _qom_set}
"""The commands, by their names."""
