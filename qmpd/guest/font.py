"""A font for pictures of text: each character is a few strokes on a grid of five columns and eight rows.

It is no copy of a real VGA's font: the letters of a picture are in their places, but look plainer.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HEIGHT = 16
"""Scan lines of a character; each row of the grid takes two."""

# Strokes go through points, a column and a row each; a stroke of one point is a dot.
_STROKES: dict[str, str] = {
    " ": "", "!": "2024 26", '"': "1011 3031", "#": "1016 3036 0242 0444", "$": "413010010213334445361605 2026",
    "%": "0640 0001111000 3536464535", "&": "46121120310405162644", "'": "2021", "(": "30121436", ")": "10323416",
    "*": "2125 0244 0442", "+": "2125 0343", ",": "2517", "-": "0343", ".": "26", "/": "0640",
    "0": "103041453616050110 0541", "1": "112026 1636", "2": "01103041420646", "3": "004022324345361605",
    "4": "36300444", "5": "400002324345361605", "6": "4130100105163645443303", "7": "00402326",
    "8": "13020110304142331304051636454433", "9": "0516364541301001021343", ":": "22 25", ";": "22 2517",
    "<": "300336", "=": "0242 0444", ">": "104316", "?": "01103041422324 26", "@": "4616050110304144242242",
    "A": "0602204246 0444", "B": "06003041423303 3344453606", "C": "4130100105163645", "D": "06003041453606",
    "E": "40000646 0333", "F": "400006 0333", "G": "41301001051636454323", "H": "0006 4046 0343",
    "I": "1030 2026 1636", "J": "4045361605", "K": "0006 4003 0346", "L": "000646", "M": "0600224046", "N": "06004640",
    "O": "103041453616050110", "P": "06003041423303", "Q": "103041453616050110 2446", "R": "06003041423303 2346",
    "S": "413010010213334445361605", "T": "0040 2026", "U": "000516364540", "V": "0003264340", "W": "0006244640",
    "X": "0046 4006", "Y": "002340 2326", "Z": "00400646", "[": "30101636", "\\": "0046", "]": "10303616",
    "^": "022042", "_": "0747", "`": "1021", "a": "1232434616051444", "b": "00063645433202", "c": "421203051646",
    "d": "40461605031242", "e": "044443321203051646", "f": "40302126 1343", "g": "421203041545 42463707",
    "h": "0006 02324346", "i": "20 122226 1636", "j": "30 32362707", "k": "0006 4204 0446", "l": "102026 1636",
    "m": "0602324346 2226", "n": "0602324346", "o": "123243453616050312", "p": "07023243443505",
    "q": "47421203041545", "r": "0602 042242", "s": "4212031434453606", "t": "10152646 0232", "u": "02051646 4246",
    "v": "022642", "w": "0206244642", "x": "0246 4206", "y": "02041545 42463707", "z": "02420646",
    "{": "30202213242636", "|": "2026", "}": "10202233242616", "~": "03123443",
}  # fmt: skip
# What stands for a character that there is none of.
_UNKNOWN = "0040460600"


@functools.cache
def dots(character: str) -> tuple[int, ...]:
    """The scan lines of a character, from the top: of each the dots, the leftmost of eight being the highest bit."""
    rows = [0] * (HEIGHT // 2)
    for stroke in _STROKES.get(character, _UNKNOWN).split():
        for column, row in _points(stroke):
            rows[row] |= 1 << 6 - column
    return tuple(row for row in rows for _ in range(2))


def _points(stroke: str) -> Iterator[tuple[int, int]]:
    """The dots on straight lines from each point of a stroke to the next."""
    corners = [(int(stroke[place]), int(stroke[place + 1])) for place in range(0, len(stroke), 2)]
    yield corners[0]
    for (left, top), (right, bottom) in pairwise(corners):
        steps = max(abs(right - left), abs(bottom - top))
        for step in range(1, steps + 1):
            yield left + round((right - left) * step / steps), top + round((bottom - top) * step / steps)
