"""Writing objects down: shapes that many objects share are kept once (`qmpd.qapi.hardware` reads them)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.capture.lines import spell
from qmpd.qapi.hardware import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.capture.hardware.insertion import Names
    from qmpd.capture.hardware.walk import Seen

# Values of these types are of one moment or one process only.
PASSING = {"struct tm": "«time»", "SocketAddress": "«address»"}
# And these of one process, by the types of their objects.
_OF_PROCESS = {("thread-context", "thread-id"): "«thread»"}
ERROR = "«error»"


class Shapes:
    """The shapes of objects, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def lines(self) -> Iterable[bytes]:
        """What was kept, as lines; an object names its shape by the number of the line."""
        return (b"shape - " + shape for shape in self._numbers)

    def number(self, properties: list[list[Any]], static: int | None) -> int:
        """The number of a shape."""
        shape: dict[str, Any] = {"properties": properties}
        if static is not None:
            shape["static"] = static
        return self._numbers.setdefault(spell(shape), len(self._numbers))

    def node(self, seen: Seen, growing: dict[int, tuple[int, Names]], left_out: Iterable[Seen | None] = ()) -> Any:
        """An object and all below it: `[shape, values, children]`.

        `growing` says of objects (by their `id`) that get more properties while they live how many of their
        properties are their class's, and in which order the others came.  What is `left_out` becomes null.
        """
        omitted = {id(each) for each in left_out if each is not None}
        kinds = dict(seen.properties)
        static, names = None, seen.names()
        if id(seen) in growing:
            static, order = growing[id(seen)]
            names = [*names[:static], *order]
        properties: list[list[Any]] = []
        values: list[Any] = []
        children: list[Any] = []
        for name in names:
            kind = kinds[name]
            child = seen.children.get(name)
            if child is not None:
                properties.append([name, kind])
                children.append(None if id(child) in omitted else self.node(child, growing, left_out))
                continue
            properties.append([name, kind, seen.codes.get(name, 0)])
            value = seen.values.get(name)
            if name in seen.errors:
                value = {ERROR: seen.errors[name]}
            values.append(_OF_PROCESS.get((seen.type, name), PASSING.get(kind, value)))
        return [self.number(properties, static), values, children]


def entry(kind: str, name: str, content: Any) -> bytes:
    """A line about something that has a name."""
    return f"{kind} {quoted(name)} ".encode() + spell(content)
