"""What the fuzz sends: random bytes, commands made from a release's introspection, and damaged ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from endurance import plugging
from qmpd.qapi.introspection import Alternate, Array, Builtin, Enumeration, Object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random
    from typing import Protocol

    from qmpd.qapi.introspection import Introspection

    class Described(Protocol):
        """A release, or the control socket's interface."""

        @property
        def introspection(self) -> Introspection:
            """The types."""

        @property
        def commands(self) -> Mapping[str, Any]:
            """The commands by name."""


WORDS = ["", "a", "id", "running", "/machine", "disk0", "é", "\x00", "\U0001f600", "x" * 300, "none", "-1", "%s"]
NUMBERS = [0, 1, -1, 7, 255, 256, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1]
FRAGMENTS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\\", b"\\u12", b"\\ud83d\\ude00", b"\\u0000", b"null", b"nul",
    b"tru", b"0e1", b"1e999", b"-", b"-0", b"00", b"1.5", b"\r\n", b"\n", b"\t", b"\x00", b"\xff", b"\xc3", b"\xe2\x82",
    b"\xef\xbf\xbf", b"\xfe", b"%", b"%d", b"{}", b"[]", b'{"execute":"query-name"}', b'{"execute":', b'"id":',
    b'{"a":1,"a":2}', b"[" * 1030, b'{"a":' * 40, b'{"exec-oob":"migrate-pause"}', b'"arguments":{}', b"\\/", b"\x1b[A",
]  # fmt: skip
LIVELY = (
    "query-status", "stop", "cont", "system_reset", "system_powerdown", "system_wakeup", "inject-nmi", "set-action",
    "query-name", "query-qmp-schema", "query-commands", "human-monitor-command", "x-exit-preconfig",
)  # fmt: skip
# These would write files of any name.
WRITING = ("screendump", "chardev-add")
# These would leave open files behind that nobody knows of.
KEEPING = ("getfd",)
GHOSTS = ("ghost0", "ghost1")
"""What character devices are called that cannot be made."""

FAILING_BACKENDS = (
    {"type": "file", "data": {"out": "/nonexistent/out"}},
    {"type": "file", "data": {"out": "/nonexistent/out", "in": "/dev/null"}},
    {"type": "file", "data": {"out": "/dev/null", "in": "/nonexistent/in"}},
    {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "/nonexistent/s"}}, "server": False}},
    {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "/nonexistent/s"}}, "wait": False}},
    {"type": "pipe", "data": {"device": "/nonexistent/pipe"}},
)
SHORTEST_DEPTH = 4


def spell(value: object) -> bytes:
    """JSON text of `value`."""
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")


class Maker:
    """Makes inputs with one source of chance."""

    def __init__(self, random: Random) -> None:
        self.random = random

    # Values

    def value(self, depth: int = 0) -> Any:
        """Any JSON value."""
        random = self.random
        kind = random.randrange(8 if depth < SHORTEST_DEPTH else 6)
        if kind == 0:
            return random.choice([None, True, False])
        if kind == 1:
            return random.choice(NUMBERS)
        if kind == 2:
            return random.uniform(-1e10, 1e10) if random.random() < 0.5 else random.choice([0.0, -0.0, 1e300, 5e-324])
        if kind < 6:
            return self.text()
        count = random.randrange(4)
        if kind == 6:
            return [self.value(depth + 1) for _ in range(count)]
        return {self.text(): self.value(depth + 1) for _ in range(count)}

    def text(self) -> str:
        """Some string."""
        random = self.random
        if random.random() < 0.6:
            return random.choice(WORDS)
        return "".join(chr(random.choice([random.randrange(32, 127), random.randrange(1, 0xD800)])) for _ in range(5))

    def of_type(self, release: Described, name: str, depth: int = 0) -> Any:
        """A value of a type of the release's introspection."""
        random, introspection = self.random, release.introspection
        found = introspection.type(name)
        if isinstance(found, Builtin):
            return self._builtin(found.name, depth)
        if isinstance(found, Enumeration):
            return random.choice(found.values) if found.values else ""
        if isinstance(found, Array):
            count = random.randrange(3) if depth < SHORTEST_DEPTH else 0
            return [self.of_type(release, found.element, depth + 1) for _ in range(count)]
        if isinstance(found, Alternate):
            return self.of_type(release, random.choice(found.branches), depth + 1)
        return self._object(release, found, depth)

    def _builtin(self, name: str, depth: int) -> Any:
        if name == "int":
            return self.random.choice(NUMBERS[:8])
        if name == "number":
            return self.random.uniform(-10, 1000)
        if name == "bool":
            return self.random.random() < 0.5
        if name == "null":
            return None
        return self.text() if name == "str" else self.value(depth)

    def _object(self, release: Described, found: Object, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for member in found.members:
            if not member.optional or (depth < SHORTEST_DEPTH and self.random.random() < 0.4):
                value[member.name] = self.of_type(release, member.type, depth + 1)
        branch = found.variants.get(str(value.get(found.tag or "")))
        if branch is not None and depth < 2 * SHORTEST_DEPTH:
            value |= self.of_type(release, branch, depth + 1)
        return value

    # Commands

    def command(self, release: Described, lively: float = 0.4) -> bytes:
        """A command of the release: valid, nearly so, or wrong; `lively` is the share of those that do something."""
        random = self.random
        name, arguments = self._chosen(release, lively)
        if name == "chardev-add" and arguments is not None and arguments["id"] in GHOSTS:
            # Nothing else may come of it: it could write a file.
            return spell({"execute": name, "arguments": arguments})
        message: dict[str, Any] = {"exec-oob" if random.random() < 0.08 else "execute": name}
        if arguments is not None:
            message["arguments"] = arguments
        if random.random() < 0.6:
            message["id"] = random.randrange(100) if random.random() < 0.7 else self.value()
        for _ in range(random.choice([0, 0, 0, 1, 1, 2])):
            self._spoil(message)
        text = spell(message)
        return self.damage(text) if random.random() < 0.2 else text

    def _chosen(self, release: Described, lively: float) -> tuple[str, dict[str, Any] | None]:
        random = self.random
        if random.random() < 0.3:
            if "device_add" in release.commands:
                return plugging.command(random)
            if "guest-release-device" in release.commands:
                return plugging.guest_part(random)
        if random.random() < 0.03 and "chardev-add" in release.commands:
            return "chardev-add", {
                "id": random.choice(GHOSTS),
                "backend": random.choice(FAILING_BACKENDS),
            }
        name = random.choice(LIVELY) if random.random() < lively else random.choice(list(release.commands))
        if name in WRITING or name in KEEPING or (name == "quit" and random.random() < 0.8):
            name = "stop"
        if name not in release.commands or random.random() < 0.05:
            return name, None
        return name, self.of_type(release, release.introspection.command(name).arguments)

    def with_files(self) -> bytes:
        """A few commands that take open files which come with them, or leave them."""
        parts = [b'{"execute":"qmp_capabilities"}']
        for _ in range(self.random.choice([1, 1, 2, 3])):
            name = self.random.choice(("add-fd", "getfd", "query-name"))
            arguments = {"getfd": {"fdname": self.random.choice(("fuzz0", "fuzz1", "fuzz2"))}}.get(name)
            parts.append(spell({"execute": name} | ({"arguments": arguments} if arguments else {})))
        return b"\n".join(parts)

    def _spoil(self, message: dict[str, Any]) -> None:
        """Make one thing about a value wrong."""
        random = self.random
        place: Any = message
        while random.random() < 0.7:
            members = place.values() if isinstance(place, dict) else place
            inner = [each for each in members if isinstance(each, dict | list)]
            if not inner:
                break
            place = random.choice(inner)
        if isinstance(place, list):
            place.append(self.value(2))
            return
        what = random.randrange(4)
        if what == 0 or not place:
            place[self.text()] = self.value(2)
        else:
            key = random.choice(list(place))
            if what == 1:
                del place[key]
            elif what == 2:
                place[key] = self.value(2)
            else:
                place[key.replace("-", "_") + random.choice(["", "x"])] = place.pop(key)

    def damage(self, text: bytes) -> bytes:
        """Bytes that are nearly `text`."""
        random = self.random
        data = bytearray(text)
        for _ in range(random.randrange(1, 4)):
            where = random.randrange(len(data) + 1)
            what = random.randrange(5)
            if what == 0:
                data[where:where] = random.choice(FRAGMENTS)
            elif what == 1:
                del data[where : where + random.randrange(1, 8)]
            elif what == 2:
                data[where : where + 1] = bytes([random.randrange(256)])
            elif what == 3:
                end = where + random.randrange(1, 20)
                data[where:where] = data[where:end]
            else:
                del data[where:]
        return bytes(data)

    def noise(self) -> bytes:
        """Bytes that mean nothing: any, or pieces of JSON."""
        random = self.random
        if random.random() < 0.4:
            return random.randbytes(random.randrange(1, 60))
        return b"".join(random.choice(FRAGMENTS) for _ in range(random.randrange(1, 12)))

    def stream(self, release: Described, negotiated: bool = True) -> bytes:
        """What one client may send."""
        random = self.random
        parts = []
        if negotiated:
            enable = random.choice([b"", b"", b',"arguments":{"enable":["oob"]}', b',"arguments":{"enable":[]}'])
            parts.append(b'{"execute":"qmp_capabilities"%b}' % enable)
        for _ in range(random.choice([1, 1, 2, 4, 12])):
            parts.append(self.noise() if random.random() < 0.12 else self.command(release))
            parts.append(random.choice([b"", b"\n", b"\r\n", b" ", b"\n\n"]))
        if random.random() < 0.01:
            parts.append(spell({"execute": "query-name", "arguments": {"x": "y" * random.choice([70_000, 1_100_000])}}))
        return b"".join(parts)

    def slices(self, data: bytes) -> list[bytes]:
        """The same bytes in pieces."""
        random = self.random
        if random.random() < 0.4 or len(data) < 2:
            return [data]
        cuts = sorted({random.randrange(1, len(data)) for _ in range(random.choice([1, 2, 5, 20]))})
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
