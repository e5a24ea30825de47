"""What a release's machines and devices are made of: their objects, each with its properties and what these say.

It is kept in one file of lines, `KIND NAME JSON`, of which only those that are asked for are parsed (`quoted` names):

    shape - {"properties": [[name, type, code], ...], "static": N}
    machine pc {"tree": OBJECT, "cpu": [OBJECT, OBJECT, OBJECT], ...}
    pci pc {"buses": [...]}
    device-memory pc {"names": [...]}
    cpu Nehalem {"values": {...}}
    device e1000 {...}
    alias virtio-net {"type": "virtio-net-pci"}
    qtree isa-fdc {"properties": [name, ...]}
    qtree-of microvm {"virtio-mmio": [{"before": [line, ...], "after": [line, ...]}, ...]}
    texts - {...}

A machine's `buses` are what `query-pci` shows before anything was added and before any firmware has run.
Its `names` are its properties in the order of qom-list where there is a region for memory to be plugged in.

A device's `consoles` are the objects that it adds to `/backend`, its `cold-consoles` those that it adds only where it
is there before the machine is; `cold` is the part of its properties that is then listed in another order.

A device's `hot` is the text that refuses to add it while the machine exists; `hotplug` tells who refuses: the `type`,
before a bus is looked for, or the `device`, after that; where it is missing, the bus.  Its `refusal` is the text that
refuses it where nothing is set; `system`: a device of the system bus for which the board has no place.

What `info qtree` shows of a type of device: `properties` in their order, and the lines `before` and `after` them, where
`«address»` and `«port»` are the device's place; `qtree-of` has those lines of the first devices of some types, in the
order in which they are shown, that a machine has from the start.

An object is `[shape, values, children]`: the number of its shape, the values of those properties that are no children,
and the children, both in the shape's order.  A shape lists the properties as qom-list does.  Where `static` is given
the object gets more properties while it lives: only the first N are listed in that order, the others in the order in
which they were put in (`qmpd.common.hash_table` says how they are walked).

A property's `code` is what qom-set is answered: 0, it is not writable; 1, the device is realized; the name of a type,
what is expected; `*`, it takes an object; `=TEXT`, that very text.

In a value, `«self»` is the path of the device's own object, `«id»` its id, `«memory»`, `«memory below 4 GiB»`,
`«memory above 4 GiB»` (with `, plus N`) and `«cpus»` numbers of the VM's, `«time»` the guest's clock, `«thread»` a
thread's number;
`{"«error»": TEXT}` is a property that cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = "hardware.jsonl.gz"
"""The file's name in a release's folder."""

ERROR = "«error»"
"""The member of a value that stands for the text of an error."""


def quoted(name: str) -> str:
    """A name without blanks."""
    return name.replace("%", "%25").replace(" ", "%20")


def unquoted(name: str) -> str:
    """The name that `quoted` made this of."""
    return name.replace("%20", " ").replace("%25", "%")


class Hardware:
    """The lines of a release's file."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._shapes: list[bytes] = []
        self._lines: dict[tuple[bytes, bytes], bytes] = {}
        for line in lines:
            kind, name, content = line.split(b" ", 2)
            if kind == b"shape":
                self._shapes.append(content)
            else:
                self._lines[kind, name] = content

    def __bool__(self) -> bool:
        """Whether anything was captured at all."""
        return bool(self._lines)

    def shape(self, number: int) -> dict[str, Any]:
        """The shape of this number."""
        return orjson.loads(self._shapes[number])  # type: ignore[no-any-return]

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """What there is of this kind and name; None where nothing was captured."""
        content = self._lines.get((kind.encode(), quoted(name).encode("utf-8", "surrogatepass")))
        return None if content is None else orjson.loads(content)

    @property
    def texts(self) -> dict[str, str]:
        """The texts of refusals that were captured, by the names that `qmpd.common.texts` has for them."""
        return self.find("texts", "-") or {}

    def names(self, kind: str) -> list[str]:
        """The names of all there is of this kind."""
        wanted = kind.encode()
        return [unquoted(name.decode()) for known, name in self._lines if known == wanted]
