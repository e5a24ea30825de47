"""What real QEMU was seen to make of single inputs, and the properties that hold for all input."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.wire import Decoder, ParseError, encode
from qmpd.wire.scanner import Scanner
from qmpd.wire.streamer import MAX_TOKEN_COUNT, MAX_TOKEN_SIZE, ClassicStreamer, PositionsStreamer
from tests.wire.strategies import cut, input_bytes, pipelines, requests

DIALECTS = ("classic", "positions")


def decode(data: bytes, dialect: str = "classic") -> list[Any]:
    """Messages as they are, errors as their text in a tuple."""
    return [(m.message,) if isinstance(m, ParseError) else m for m in Decoder(dialect).feed(data)]


def errors(*texts: str) -> list[Any]:
    return [(text,) for text in texts]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (b'{"execute":"query-status"}', [{"execute": "query-status"}]),
        (b"{'a':'it\\'s \"q\"'}", [{"a": 'it\'s "q"'}]),
        (b'{"a":1}{"b":2} {"c":3}\n\n{"d":4}', [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}]),
        (b'{"a":\n1\r\n}\t', [{"a": 1}]),
        # Numbers and keywords are over only when something else has come.
        (b"17", []),
        (b"17\n", [17]),
        (b"true[]null ", [True, [], None]),
        (b'"x"', ["x"]),
        # 64 bits signed, then unsigned, then double.
        (b"[9223372036854775807,9223372036854775808,18446744073709551615]", [[2**63 - 1, 2**63, 2**64 - 1]]),
        (b"[18446744073709551616,-9223372036854775808,-9223372036854775809]", [[2.0**64, -(2**63), -(2.0**63)]]),
        (b"[-0,-0.0,1e400,-1e400,1e-400]", [[0, -0.0, float("inf"), float("-inf"), 0.0]]),
        (b'["\\u0000","\xc0\x80","\x7f","\\ud83d\\ude00","\xf0\x9f\x98\x80"]', [["\0", "\0", "\x7f", "😀", "😀"]]),
        (b'{"a":{"b":[{"c":[]}]},"d":{}}', [{"a": {"b": [{"c": []}]}, "d": {}}]),
    ],
)
def test_well_formed(data: bytes, messages: list[Any], dialect: str) -> None:
    decoded = decode(data, dialect)
    assert decoded == messages
    assert repr(decoded) == repr(messages)


@pytest.mark.parametrize(
    ("data", "classic", "positions"),
    [
        (b"{]", ["expecting value"], ["1:2: expecting key"]),
        (b"[}", ["expecting value"], ["1:2: expecting value"]),
        (b"[[}]", ["expecting value"] * 2, ["1:3: expecting value", "1:4: expecting value"]),
        (b"[1\n,2 3]", ["expected separator in list"], ["2:4: expected ',' or ']'"]),
        (b'{"a":1 "b"', [], ["1:8: expected ',' or '}'"]),
        (b'{"a":1,"a":[1,\n2]}', ["duplicate key"], ["2:3: duplicate key"]),
        (b'{"a" 1}', ["missing : in object pair"], ["1:6: expecting ':'"]),
        # What stands in place of a key is parsed first, up to 10.0.
        (b"{[1,]:2}", ["expecting value"], ["1:2: expecting key"]),
        (b"{nul:2}", ["invalid keyword 'nul'"], ["1:2: expecting key"]),
        (b"{{}:2}", ["key is not a string in object"], ["1:2: expecting key"]),
        (
            b"[1,2}]",
            ["expected separator in list", "expecting value"],
            ["1:6: expected ',' or ']'", "1:6: expecting value"],
        ),
        (b'"\\u12" ', ['\\u12" is not a valid Unicode character'], ['1:1: \\u12" is not a valid Unicode character']),
        (
            b'"\\ud800\\u0041"',
            ["\\ud800 is not a valid Unicode character"],
            ["1:1: \\ud800 is not a valid Unicode character"],
        ),
        (b'"\\ud83f\\udfff"', ["\\ud83f\\udfff is not a valid Unicode character"], None),
        (b'"\xef\xbf\xbe"', ["invalid UTF-8 sequence in string"], None),
        (b'"\\q\xff', ["stray '\"\\q\ufffd'"], ["1:1: stray '\"\\q\ufffd'"]),
        (
            b"tru\xff",
            ["invalid keyword 'tru'", "stray '\ufffd'"],
            ["1:1: invalid keyword 'tru'", "1:5: stray '\ufffd'"],
        ),
        (
            b"{\x00\x00}",
            ["stray ''", "stray ''", "expecting value"],
            ["1:2: stray ''", "1:4: stray ''", "1:5: expecting value"],
        ),
        (b'"abc\x00def"', ["stray '\"abc'"], ["1:1: stray '\"abc'"]),
        (b"\x80\tx\"'{", ["stray '\ufffd'"], ["1:1: stray '\ufffd'"]),
        (b"1.5e\n", ["stray '1.5e\n'"], ["1:1: stray '1.5e\n'"]),
        (b"1e \n", ["stray '1e '"], ["1:1: stray '1e '"]),
        (b"-0.5E+]\n", ["stray '-0.5E+]'"], ["1:1: stray '-0.5E+]'"]),
        (b'{"execute":"x","id":1.}\n', ["stray '1.}'"], ["1:21: stray '1.}'"]),
        (b"[0.]\n", ["stray '0.]'"], ["1:2: stray '0.]'"]),
        (b"%d ", ["stray '%'"], ["1:1: stray '%'"]),
        (
            b'"a\xc3(\xed\xa0\x80\xf8\x88\x80\x80\x80\xe2\x82\xf0\x9f\x98\x80\x01',
            ["stray '\"a\ufffd(\ufffd\ufffd\ufffd😀\x01'"],
            None,
        ),
        # A complaint is cut to 1023 bytes, a stray's only where it passes the parser.
        (b"k" * 2000 + b" ", ["invalid keyword '" + "k" * 1006], ["1:1: invalid keyword '" + "k" * 1006]),
        (b'"' + b"k" * 2000 + b"\x01", ["stray '\"" + "k" * 2000 + "\x01'"], ["1:1: stray '\"" + "k" * 1015]),
        (
            b'"' + b"k" * 1014 + b"\xc3\xa9\x01",
            ["stray '\"" + "k" * 1014 + "é\x01'"],
            ["1:1: stray '\"" + "k" * 1014 + "\ufffd"],
        ),
    ],
)
def test_errors(data: bytes, classic: list[str], positions: list[str] | None) -> None:
    assert decode(data) == errors(*(f"JSON parse error, {text}" for text in classic))
    if positions is not None:
        assert decode(data, "positions") == errors(*(text.replace(" ", " JSON parse error, ", 1) for text in positions))


def test_zero_with_exponent_is_two_tokens() -> None:
    assert decode(b"0e1\n") == [0, ("JSON parse error, invalid keyword 'e'",), 1]
    assert decode(b'{"a":0e1}') == errors("JSON parse error, expected separator in dict")
    assert decode(b'{"a": -0E1}\n')[0] == ("JSON parse error, stray 'E'",)
    assert decode(b'{"a":"0e1"}') == [{"a": "0e1"}]


def test_after_a_bad_token_input_is_skipped_to_a_place_to_start() -> None:
    # A TAB and anything printable is skipped, a line's end is not.
    assert decode(b"\x80 7 \t8\n9\n") == [("JSON parse error, stray '\ufffd'",), 9]
    assert decode(b'\x80"x"[1]') == [("JSON parse error, stray '\ufffd'",), [1]]
    for byte in b"\xff\xfe":
        assert len(decode(bytes([byte]) * 3)) == 3


def test_the_position_goes_on_over_messages_and_lines() -> None:
    decoder = Decoder("positions")
    assert decoder.feed(b'{"a":1}\r\n  {"b":2}') == [{"a": 1}, {"b": 2}]
    assert decoder.feed(b"]") == [ParseError("2:10: JSON parse error, expecting value")]
    assert decoder.feed(b'\n\n{"a":1}\n') == [{"a": 1}]
    assert decoder.feed(b'{"a":1}\n{"a":1}{"a":1}\n') == [{"a": 1}] * 3
    assert decoder.feed(b'{"a":1}') == [{"a": 1}]
    assert decoder.feed(b"[nul]") == [ParseError("7:9: JSON parse error, invalid keyword 'nul'")]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_deepest_nesting(dialect: str) -> None:
    """1024 containers; and no recursion in Python, whose limit is lower."""
    for opening, inner, closing in ((b"[", b"", b"]"), (b'{"a":', b"0", b"}")):
        [value] = Decoder(dialect).feed(opening * 1024 + inner + closing * 1024)
        depth = 0
        while value not in ([], 0):
            value = value[0] if isinstance(value, list) else value["a"]  # type: ignore[index]
            depth += 1
        assert depth == (1023 if inner == b"" else 1024)
    too_deep = Decoder(dialect).feed(b"[" * 1025 + b"]" * 1025)
    assert too_deep[0] == ParseError("JSON nesting depth limit exceeded")
    # Up to 10.0 the message is over at once, and its ends are new messages; 11.1 skips them.
    assert len(too_deep) == (1 + 1025 if dialect == "classic" else 1)


def test_nesting_limit_holds_in_a_malformed_message_too() -> None:
    assert decode(b"[1 1" + b"[" * 1024) == errors("JSON nesting depth limit exceeded")
    assert decode(b"[1 1" + b"[" * 1024, "positions") == errors("1:4: JSON parse error, expected ',' or ']'")


def streamer_of(decoder: Decoder) -> ClassicStreamer | PositionsStreamer:
    assert decoder._scanner is not None
    return decoder._scanner.streamer


@pytest.mark.parametrize("dialect", DIALECTS)
def test_token_count_limit(dialect: str) -> None:
    """Of 2^21 tokens; the real programs were asked with whole ones, here the first ones are only said to have been."""
    for extra, expected in ((b"[]]", [[[1], []]]), (b"[],[]]", [ParseError("JSON token count limit exceeded")])):
        decoder = Decoder(dialect)
        decoder.feed(b"[[1],")
        streamer_of(decoder).tokens = MAX_TOKEN_COUNT - 3
        messages = decoder.feed(extra)
        assert messages[:1] == expected
        # Up to 10.0 the two ends that are left begin new messages; 11.1 skips them.
        refused = isinstance(expected[0], ParseError) and dialect == "classic"
        assert messages[1:] == [ParseError("JSON parse error, expecting value")] * (2 if refused else 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_token_size_limit(dialect: str) -> None:
    """A string that does not end is cut off when it exceeds 64 MiB, with its quote; then what comes is a keyword."""
    decoder = Decoder(dialect)
    megabyte = b"a" * (1 << 20)
    messages = decoder.feed(b'["')
    for _ in range(63):
        messages += decoder.feed(megabyte)
    messages += decoder.feed(megabyte[:-1])
    assert messages == []
    assert decoder._scanner is not None
    assert len(decoder._scanner.partial) == MAX_TOKEN_SIZE
    assert decoder.feed(b"a") == [ParseError("JSON token size limit exceeded")]
    if dialect == "classic":
        assert decoder.feed(b"bcd,") == [
            ParseError("JSON parse error, invalid keyword 'bcd'"),
            ParseError("JSON parse error, expecting value"),
        ]
    else:
        assert decoder.feed(b"bcd,]") == []
        assert decoder.feed(b"nul ") == [ParseError("1:67108872: JSON parse error, invalid keyword 'nul'")]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_message_size_limit(dialect: str) -> None:
    """The tokens of a message come to less than 64 MiB (so compare the programs of 7.2 and 11.1), white space aside."""
    for size, fits in ((MAX_TOKEN_SIZE - 1, True), (MAX_TOKEN_SIZE, False)):
        decoder = Decoder(dialect)
        decoder.feed(b'["a"' + b" " * 1000 + b",")
        assert streamer_of(decoder).size == 5
        streamer_of(decoder).size += size - 5 - 5
        messages = decoder.feed(b'"bc"]')
        assert (messages[0] == ["a", "bc"]) is fits
        if not fits:
            assert messages[0] == ParseError("JSON token size limit exceeded")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DIALECTS), st.lists(input_bytes, max_size=2), st.lists(st.integers(0, 3000), max_size=6))
def test_any_slicing_gives_the_same(dialect: str, inputs: list[bytes], places: list[int]) -> None:
    """Whole, cut anywhere, and byte by byte, in which case orjson never gets to see a message."""
    data = b"".join(inputs)
    whole, sliced, single = Decoder(dialect), Decoder(dialect), Decoder(dialect)
    messages = whole.feed(data)
    in_slices = [message for part in cut(data, places) for message in sliced.feed(part)]
    in_bytes = [message for byte in data for message in single.feed(bytes([byte]))]
    assert repr(messages) == repr(in_slices) == repr(in_bytes)
    assert whole.snapshot() == sliced.snapshot() == single.snapshot()
    assert whole.idle == single.idle


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DIALECTS), st.one_of(requests, pipelines))
def test_the_plain_way_agrees_with_the_exact_parser(dialect: str, data: bytes) -> None:
    messages = Decoder(dialect).feed(data)
    exact = Scanner(positions=dialect == "positions", line=1, column=1)
    expected: list[object] = []
    # No slice is a whole message, so that orjson never gets to see one.
    for start in range(0, len(data), 3):
        exact.scan(data[start : start + 3], 0, expected)
    assert repr(messages) == repr(expected)


def test_the_plain_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("went token by token")

    monkeypatch.setattr(Scanner, "scan", never)
    decoder = Decoder("positions")
    for ending in (b"", b"\n", b"\r\n"):
        for line in (b'{"execute":"stop"}', b'{"execute": "stop", "id": 1.5}', b'{"a":[{"b":-1}],"c":null,"d":"0x"}'):
            assert decoder.feed(line + ending) == [json.loads(line)]
            assert decoder.feed((line + (ending or b"\n")) * 5) == [json.loads(line)] * 5
            assert decoder.feed(line * 5 + ending) == [json.loads(line)] * 5


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":[{}\n{}]}',
        b'{"a":[{}\n{}]},{}',
        b'{"a":"\n"}',
        b'{"a":"}{"}',
        b'[{}]}\n{"a":[[{}\n{}]}',
        b'{"a":0e1}',
        b'{"a":1e999}',
        b'{"a":"\\ufffe"}',
        b"\x0b{}",
        b"{}\x0c",
        b'{"a":"\xc3\xa9"}\n{"b":1}',
        b'{"a":"\xef\xbf\xbe"}',
        b"{}\n\n{}",
        b"{} {}",
        b"[1\n2]\n{}",
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_orjson_would_read_otherwise(data: bytes, dialect: str) -> None:
    single = Decoder(dialect)
    assert repr(Decoder(dialect).feed(data)) == repr(
        [message for byte in data for message in single.feed(bytes([byte]))]
    )


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DIALECTS), input_bytes, input_bytes, st.integers(0, 3000))
def test_a_restored_decoder_goes_on(dialect: str, first: bytes, second: bytes, place: int) -> None:
    head, tail = cut(first, [place])
    decoder = Decoder(dialect)
    decoder.feed(head)
    snapshot = decoder.snapshot()
    restored = Decoder.restore(json.loads(json.dumps(snapshot)))
    assert restored.snapshot() == snapshot
    assert restored.idle == decoder.idle
    assert repr(restored.feed(tail + second)) == repr(decoder.feed(tail + second))
    assert restored.snapshot() == decoder.snapshot()


def test_a_deep_half_of_a_message_is_restored() -> None:
    decoder = Decoder()
    decoder.feed(b'[1e400,{"x":-1e999},' + b'[1.5,{"a":' * 500)
    restored = Decoder.restore(json.loads(json.dumps(decoder.snapshot())))
    [value] = restored.feed(b"0" + b"}]" * 500 + b"]")
    assert isinstance(value, list)
    assert value[:2] == [float("inf"), {"x": float("-inf")}]
    assert repr(encode(value)).count("1.5") == 500


def test_unknown_dialect() -> None:
    with pytest.raises(ValueError, match="unknown dialect 'klingon'"):
        Decoder("klingon")


def test_a_long_string_in_chunks_is_linear_and_kept_once() -> None:
    chunk = b"a" * 65536

    def seconds(count: int) -> float:
        decoder = Decoder()
        start = time.process_time()
        decoder.feed(b'{"execute":"x","arguments":{"a":"')
        for _ in range(count):
            decoder.feed(chunk)
        [message] = decoder.feed(b'"}}')
        assert isinstance(message, dict)
        assert len(message["arguments"]["a"]) == count * 65536
        return time.process_time() - start

    # 64 times as much takes 64 times as long, and not 4096 times; caches and what else runs make it uneven.
    little = min(seconds(8) for _ in range(5))
    much = min(seconds(512) for _ in range(2))
    assert much < 500 * little
    decoder = Decoder()
    decoder.feed(b'["')
    tracemalloc.start()
    for _ in range(4096):
        decoder.feed(b"a")
    for _ in range(16):
        decoder.feed(chunk)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1.3 * 16 * 65536


@pytest.mark.parametrize(
    ("start", "repeated", "end"),
    [
        # A string that is cut, bad at its end, full of escapes, or full of escaped quotes.
        (b'["', b"a", b""),
        (b'["', b"a", b"\x01\n"),
        (b'["', b"\\n", b'"]'),
        (b"['", b'a\\"', b"']"),
        (b'["', b'\\"', b"\x01\n"),
        # Bad strings, numbers and keywords, one after another.
        (b"", b'"' + b"a" * 900 + b"\x01\n", b""),
        (b"", b"1" * 90 + b".e\n", b""),
        (b"", b"x" * 90 + b"-\n", b""),
        (b"[", b"1" * 98 + b".5,", b"]"),
    ],
)
def test_time_is_linear_in_what_comes_in_one_piece(start: bytes, repeated: bytes, end: bytes) -> None:
    def seconds(size: int) -> float:
        data = start + repeated * (size // len(repeated)) + end
        decoder = Decoder()
        began = time.process_time()
        decoder.feed(data)
        return time.process_time() - began

    # 16 times as much takes 16 times as long, and not 256 times.
    little = min(seconds(1 << 16) for _ in range(3))
    much = min(seconds(1 << 20) for _ in range(2))
    assert much < 120 * little + 0.005


def test_white_space_is_not_kept() -> None:
    decoder = Decoder()
    decoder.feed(b"[1,")
    tracemalloc.start()
    for _ in range(100):
        assert decoder.feed(b" " * 65536) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000
    assert decoder.feed(b"2]") == [[1, 2]]
