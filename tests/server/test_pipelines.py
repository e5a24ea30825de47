"""Requests in one stream, however they are cut and spelled: each is answered once, in its turn, with its own id.

Played over real sockets, by a server of its own and by one with a puppeteer, whose way through the commands is another.
"""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmpd.monitor.session import QUEUE_LIMIT
from tests.clients.beside import NONE, kinds, running
from tests.clients.programs import PATIENCE, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KINDS = {"alone": (), "with a puppeteer": ("-control", "unix:@c.sock")}


@pytest.fixture(scope="module", params=KINDS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The sockets of a machine's monitors, an ordinary one and one that indents."""
    folder = tmp_path_factory.mktemp("pipelines")
    options = [each.replace("@", f"{folder}/") for each in KINDS[request.param]]
    indented = folder / "pretty.sock"
    more = ["-qmp-pretty", f"unix:{indented},server=on,wait=off", "--release", "7.2", "-machine", "none"]
    with serving(folder / "vm.sock", *options, *more) as server:
        yield server.path, indented


class Stream:
    """A connection that has read its greeting; what comes is read as JSON values, however they are laid out."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._text = ""
        self.take(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def negotiate(self) -> None:
        """Negotiate out-of-band execution."""
        self.socket.sendall(plain(NEGOTIATION))
        self.take(1)

    def take(self, count: int) -> list[Any]:
        """The next `count` messages.  A number with a fraction is given as its text."""
        decoder = json.JSONDecoder(parse_float=str)
        messages: list[Any] = []
        while len(messages) < count:
            try:
                message, end = decoder.raw_decode(self._text.lstrip())
            except ValueError:
                data = self.socket.recv(1 << 16)
                assert data, f"the connection ended after {len(messages)} messages"
                self._text += data.decode()
                continue
            self._text = self._text.lstrip()[end:]
            messages.append(message)
        return messages


NEGOTIATION = {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}, "id": "first"}


def plain(request: dict[str, Any]) -> bytes:
    return json.dumps(request, separators=(",", ":")).encode()


def lines(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def odd(request: dict[str, Any]) -> bytes:
    """As QEMU's own tests spell it: no JSON, and so read by the exact parser."""
    return json.dumps(request).replace('"', "'").encode() + b"\t"


SPELLINGS: list[Callable[[dict[str, Any]], bytes]] = [plain, lines, odd]
FIXED = settings(
    max_examples=60, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


# One request in five overtakes.
OVERTAKES = [False] * 4 + [True]


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The bytes in slices: few, of any size."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@FIXED
@given(st.lists(st.tuples(st.sampled_from(OVERTAKES), st.sampled_from(SPELLINGS)), min_size=15, max_size=80), st.data())
def test_out_of_band_overtakes_and_all_else_keeps_its_order(
    path: tuple[Path, Path], requests: list[tuple[bool, Callable[[dict[str, Any]], bytes]]], data: st.DataObject
) -> None:
    """In-band requests are answered in order, and so are those out-of-band; these overtake no more than eight."""
    in_band = [number for number, (overtakes, _) in enumerate(requests) if not overtakes]
    spelled = b"".join(
        spell({"exec-oob": "migrate-pause", "id": number} if overtakes else {"execute": "query-name", "id": number})
        for number, (overtakes, spell) in enumerate(requests)
    )
    with Stream(path[0]) as stream:
        stream.negotiate()
        for piece in data.draw(pieces(spelled)):
            stream.socket.sendall(piece)
        answered = [message["id"] for message in stream.take(len(requests))]
    assert [each for each in answered if not requests[each][0]] == in_band
    others = [each for each in answered if requests[each][0]]
    assert others == [number for number, (overtakes, _) in enumerate(requests) if overtakes]
    for number in others:
        before = sum(each < number for each in in_band)
        done = sum(not requests[each][0] for each in answered[: answered.index(number)])
        assert before - QUEUE_LIMIT <= done <= before


@FIXED
@given(st.integers(9, 150), st.integers(0, 150), st.sampled_from(SPELLINGS))
def test_what_waits_unread_is_read_in_its_order(
    path: tuple[Path, Path], count: int, place: int, spell: Callable[[dict[str, Any]], bytes]
) -> None:
    """More than may wait in one write, after a negotiation that was not answered yet."""
    requests: list[dict[str, Any]] = [{"execute": "query-name", "id": number} for number in range(count)]
    requests.insert(place, {"exec-oob": "migrate-pause", "id": "oob"})
    with Stream(path[0]) as stream:
        stream.socket.sendall(b"".join(map(spell, [NEGOTIATION, *requests])))
        answered = [message["id"] for message in stream.take(count + 2)]
    assert [each for each in answered if each != "oob"] == ["first", *range(count)]


# --- ids

EDGES = [2**53 + 1, 2**64 - 1, 2**63 - 1, 2**63 + 1, -(2**53) - 1, -(2**63) + 1, 2**62 + 1, 2**53, 2**63, -(2**63)]
integers = st.sampled_from(EDGES) | st.integers(2**53, 2**64 - 1) | st.integers(-(2**63), 2**53)
composites = st.recursive(
    integers | st.booleans() | st.none() | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
identities = integers | integers | composites
COMMANDS = [
    {"execute": "query-name"}, {"execute": "query-status"}, {"execute": "no-such-command"},
    {"execute": "system_reset"}, {"execute": "query-version", "arguments": {"a": 1}}, {"exec-oob": "migrate-pause"},
]  # fmt: skip


@FIXED
@given(st.lists(st.tuples(st.sampled_from(COMMANDS), identities), min_size=8, max_size=20), st.sampled_from(SPELLINGS))
@pytest.mark.parametrize("indented", [False, True])
def test_an_id_comes_back_as_it_was(
    path: tuple[Path, Path],
    indented: bool,
    requests: Sequence[tuple[dict[str, Any], Any]],
    spell: Callable[[dict[str, Any]], bytes],
) -> None:
    named = [
        {**command, "id": identity if "execute" in command else {"overtakes": identity}}
        for command, identity in requests
    ]
    heard: list[Any] = []
    with Stream(path[indented]) as stream:
        stream.negotiate()
        stream.socket.sendall(b"".join(map(spell, named)))
        while len(heard) < len(requests):
            heard += [message["id"] for message in stream.take(1) if "event" not in message]
    for execute in ("execute", "exec-oob"):
        wanted = [each["id"] for each in named if execute in each]
        mine = [each for each in heard if (type(each) is dict and "overtakes" in each) is (execute == "exec-oob")]
        # Members come in QEMU's order; an integer is one, and True is no 1.
        assert json.dumps(mine, sort_keys=True) == json.dumps(wanted, sort_keys=True)


ODD_NUMBERS = [
    b"9007199254740993", b"-9007199254740993", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551615", b"18446744073709551616", b"-9223372036854775808", b"-9223372036854775809",
    b"1e3", b"0.1", b"-0", b"-0.0", b"123456789012345678901234567890",
    b"[9007199254740993, {'a': 18446744073709551615}]",
]  # fmt: skip


@pytest.mark.parametrize("release", ["5.2", "7.2", "11.1"])
def test_numbers_come_back_as_from_the_real_program(release: str) -> None:
    """Integers of 64 bits, with a sign or without, to the digit; beyond that they are numbers with a fraction."""
    said: list[list[bytes]] = []
    with ExitStack() as stack:
        for real in kinds(release):
            side = stack.enter_context(running(release, real=real, options=NONE))
            said.append([side.client.raw(b'{"execute": "query-name", "id": %b}\n' % each) for each in ODD_NUMBERS])
    assert said[0] == said[-1]
    assert said[-1][:4] == [b'{"return": {}, "id": %b}\r\n' % each for each in ODD_NUMBERS[:4]]
