"""QEMU's spelling, as recorded and as measured on the real programs."""

from __future__ import annotations

import enum
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.common.dictionary_order import bucket, in_order
from qmpd.wire import Decoder, Encoded, encode, encode_pretty
from tests.golden import GROUPS, RELEASES, load


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("", '""'),
        ("it's <b>&</b> /", '"it\'s <b>&</b> /"'),
        ('"\\\b\f\n\r\t', r'"\"\\\b\f\n\r\t"'),
        ("\0\x01\x0b\x1f\x7f", r'"\u0000\u0001\u000B\u001F\u007F"'),
        ("é€\ufffd\uffef", r'"\u00E9\u20AC\uFFFD\uFFEF"'),
        ("😀\U0010fffd", r'"\uD83D\uDE00\uDBFF\uDFFD"'),
        # Nothing that the decoder gives, but a command line can hold such bytes.
        ("\ufffe\ufdd0\ud800\U0001ffff", r'"\uFFFD\uFFFD\uFFFD\uFFFD"'),
        (r"\u00e9\\uabcd" + "\x1f", r'"\\u00e9\\\\uabcd\u001F"'),
    ],
)
def test_strings(text: str, spelt: str) -> None:
    assert encode(text) == spelt.encode()
    assert encode({text: text}) == f"{{{spelt}: {spelt}}}".encode()
    assert encode([text, {"a": [text]}]) == f'[{spelt}, {{"a": [{spelt}]}}]'.encode()


@pytest.mark.parametrize("character", [*map(chr, range(0x81)), "\ufffe", "\ud800", "é", "😀"])
def test_a_long_string_is_spelt_as_its_parts_are(character: str) -> None:
    spelt = b'"' + b"a" * 2000 + encode(character)[1:]
    assert encode("a" * 2000 + character) == spelt
    assert encode({"a": "a" * 2000 + character}) == b'{"a": ' + spelt + b"}"


@pytest.mark.parametrize(
    ("number", "g17", "fixed"),
    [
        (0.1, "0.10000000000000001", "0.1"),
        (1.0, "1", "1"),
        (1.5, "1.5", "1.5"),
        (-0.0, "-0", "-0"),
        (100.0, "100", "100"),
        (1e-7, "9.9999999999999995e-08", "0"),
        (-1e-7, "-9.9999999999999995e-08", "-0"),
        (1e16, "10000000000000000", "10000000000000000"),
        (1e17, "1e+17", "100000000000000000"),
        (2.0**64, "1.8446744073709552e+19", "18446744073709551616"),
        (3.141592653589793, "3.1415926535897931", "3.141593"),
        (12345678901234567890123.0, "1.2345678901234568e+22", "12345678901234567741440"),
        (5e-324, "4.9406564584124654e-324", "0"),
        (float("inf"), "inf", "inf"),
        (float("-inf"), "-inf", "-inf"),
    ],
)
def test_floats(number: float, g17: str, fixed: str) -> None:
    assert encode(number) == encode(number, "g17") == g17.encode()
    assert encode([number], "f") == f"[{fixed}]".encode()
    assert encode({"a": number}, "f") == f'{{"a": {fixed}}}'.encode()


def test_other_scalars() -> None:
    assert (
        encode([None, True, False, 0, -1, 2**64 - 1, {}, []])
        == b"[null, true, false, 0, -1, 18446744073709551615, {}, []]"
    )
    members = {"a": None, "b": True, "c": False, "d": 7, "e": {}, "f": [], "g": [1], "h": {"i": 0}}
    assert json.loads(encode(members)) == members


def test_derived_types() -> None:
    class Name(enum.StrEnum):
        RUNNING = "running"

    class Number(enum.IntEnum):
        SEVEN = 7

    class Dictionary(dict[str, object]):
        pass

    class Text(Encoded):
        pass

    value = [Name.RUNNING, Number.SEVEN, Dictionary(a=Name.RUNNING), (1, 2), Text(b"[3]"), (), Dictionary()]
    assert encode(value) == b'["running", 7, {"a": "running"}, [1, 2], [3], [], {}]'
    nested: object = value
    for _ in range(200):
        nested = [nested]
    assert encode(nested) == b"[" * 200 + encode(value) + b"]" * 200


def test_what_is_no_json_value() -> None:
    with pytest.raises(TypeError, match="no JSON value: set"):
        encode({"a": {1}})
    with pytest.raises(TypeError, match="no JSON value: bytes"):
        encode([b"x"])
    with pytest.raises(KeyError):
        encode(1.0, "e")


def test_encoded_is_spliced_as_it_is() -> None:
    reply = {"return": Encoded(b'{"z":  1}'), "id": [Encoded(b"2.50")]}
    assert encode(reply) == b'{"return": {"z":  1}, "id": [2.50]}'
    assert encode(Encoded(b"null")) == b"null"
    assert encode_pretty({"return": Encoded(b'{"b": [], "a": 1}')}) == (
        b'{\r\n    "return": {\r\n        "b": [\r\n        ],\r\n        "a": 1\r\n    }\r\n}'
    )


_INFINITE = re.compile(r"\binf\b")


def test_order_of_members() -> None:
    assert encode({"b": 1, "a": 2, "zz": 3, "c": 4}) == b'{"a": 2, "zz": 3, "b": 1, "c": 4}'
    keys = [f"k{number}" for number in range(1, 11)]
    assert in_order(tuple(keys)) == ["k5", "k8", "k1", "k4", "k10", "k7", "k3", "k6", "k9", "k2"]
    # Within a bucket the newest comes first, and a key that is put in again stays in its place.
    assert bucket("key1") == bucket("key2") == bucket("key3")
    members = {"key1": 1, "key3": 3, "key2": 2}
    assert encode(members) == b'{"key2": 2, "key3": 3, "key1": 1}'
    members["key1"] = 4
    assert encode(members) == b'{"key2": 2, "key3": 3, "key1": 4}'
    # Keys count as their bytes in modified UTF-8 (all of these were put to the real programs).
    assert encode({"\0": 1, "é": 2, "€uro": 3, "": 4}) == b'{"": 4, "\\u00E9": 2, "\\u0000": 1, "\\u20ACuro": 3}'


def test_the_order_of_every_recorded_object() -> None:
    objects = 0

    def check(pairs: list[tuple[str, object]]) -> None:
        nonlocal objects
        objects += 1
        buckets = [bucket(key) for key, _ in pairs]
        assert buckets == sorted(buckets)

    for release in RELEASES:
        for group in GROUPS:
            for row in load(release, group):
                for line in (line for step in row["steps"] for line in step["recv"] if "[" * 100 not in line):
                    json.loads(
                        _INFINITE.sub("1e999", line.replace('"timestamp": T', '"timestamp": 0')),
                        object_pairs_hook=check,
                    )
    assert objects > 45_000


def test_recorded_replies_are_spelt_alike() -> None:
    """A recorded line, decoded and encoded, is the line: members that share a bucket are put in newest last."""
    lines = 0
    for row in load("7.2", "queries"):
        for step in row["steps"]:
            for line in step["recv"]:
                value = json.loads(line, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
                assert encode(value).decode() == line
                lines += 1
    assert lines > 100


def test_pretty() -> None:
    """As printed by 7.2 with -qmp-pretty; 5.2 and 11.1 print the same."""
    value = {"return": {}, "id": {"a": [], "b": {}, "c": [1, {"x": [[]]}, 's, [\\"', 1.5]}}
    lines = [
        '{\n    "return": {\n    },\n    "id": {\n        "a": [\n        ],\n        "b": {\n        },',
        '        "c": [\n            1,\n            {\n                "x": [\n                    [',
        '                    ]\n                ]\n            },\n            "s, [\\\\\\"",',
        "            1.5\n        ]\n    }\n}",
    ]
    assert encode_pretty(value) == "\n".join(lines).replace("\n", "\r\n").encode()
    assert encode_pretty(1.5, "f") == b"1.5"


def test_nesting_deeper_than_python_recurses() -> None:
    value: object = {"b": 1, "a": [True, 1.5, "é"]}
    for level in range(1022):
        value = [value] if level % 2 else {"k": value, "j": [], "l": {}}
    spelt = encode(value)
    assert spelt.startswith(b'[{"j": [], "k": [{"j": [], "k": ')
    assert b'{"a": [true, 1.5, "\\u00E9"], "b": 1}' in spelt
    assert encode(Decoder().feed(spelt)[0]) == spelt
    assert encode_pretty(value).count(b"\r\n") > 1022


strings = st.text(
    st.one_of(st.characters(max_codepoint=0xFF), st.characters(exclude_categories=["Cs", "Cn"])), max_size=12
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        # %.17g of a whole number looks like an integer; kept apart so that the round trip is exact.
        st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer()),
        strings,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(strings, inner, max_size=6)),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(json_values, st.sampled_from(("classic", "positions")))
def test_round_trip(value: object, dialect: str) -> None:
    """What is encoded decodes to the same, in either form, and the text is plain JSON in ASCII."""
    spelt = encode([value])
    assert spelt.isascii()
    assert json.loads(spelt) == [value]
    assert Decoder(dialect).feed(spelt) == [[value]]
    assert Decoder(dialect).feed(encode_pretty([value])) == [[value]]


@given(st.floats(allow_nan=False))
def test_floats_read_back(number: float) -> None:
    [message] = Decoder().feed(b"[%s]" % encode(number).replace(b"inf", b"1e999"))
    assert message == [number]
    assert abs(float(encode(number, "f")) - number) <= 5.1e-7 or abs(number) == float("inf")
