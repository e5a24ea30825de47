"""The words of a release's refusals, by their codes.

`schemas/refusals.json` has them all: `{code: words}`, where words are a text, with `{name}` for each value, or an
object: `text`, `hint` (the lines of advice that a person reads behind it), `open` (the last of these is not ended),
`before` (the lines that a program prints first) and `class` (its class in QMP, GenericError where it is missing).  A
file `refusals.json` in a release's folder has those that this release says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal, Worded

if TYPE_CHECKING:
    from collections.abc import Mapping

    Words = str | Mapping[str, object]

FILE = "refusals.json"
"""The name of the file, in `schemas/` and in a release's folder."""

GENERIC = "GenericError"


class Wordings:
    """How one release says what it refuses."""

    __slots__ = ("_words",)

    def __init__(self, *tables: Mapping[str, Words]) -> None:
        """A later table's words count more than an earlier one's."""
        self._words: dict[str, Words] = {}
        for table in tables:
            self._words.update(table)

    def message(self, refusal: Refusal) -> str:
        """The sentence that refuses.

        :raise KeyError: nobody has words for the code, or they tell of a value that was not given.
        """
        if isinstance(refusal, Worded):
            return refusal.message
        words = self._words[refusal.code]
        text = words if isinstance(words, str) else words["text"]
        assert isinstance(text, str)
        values = {
            name: self.message(value) if isinstance(value, Refusal) else value for name, value in refusal.values.items()
        }
        return text.format_map(values)

    def hint(self, refusal: Refusal) -> tuple[str, ...]:
        """The lines of advice that a person reads behind the sentence; those of a refusal within it, too."""
        if not refusal.advises:
            return ()
        if isinstance(refusal, Worded):
            return refusal.hint
        words = self._words[refusal.code]
        own = () if isinstance(words, str) else words.get("hint", ())
        assert isinstance(own, (list, tuple))
        inner = [line for value in refusal.values.values() if isinstance(value, Refusal) for line in self.hint(value)]
        return (*inner, *(line.format_map(refusal.values) for line in own))

    def before(self, refusal: Refusal) -> tuple[str, ...]:
        """The lines that a program prints first, without its name."""
        if isinstance(refusal, Worded):
            return refusal.before
        words = self._words[refusal.code]
        lines = () if isinstance(words, str) else words.get("before", ())
        assert isinstance(lines, (list, tuple))
        return tuple(line.format_map(refusal.values) for line in lines)

    def is_open(self, refusal: Refusal) -> bool:
        """Whether no end of the line follows the advice, where nothing else is said; QEMU has forgotten some."""
        words = self._words.get(refusal.code)
        return refusal.advises and isinstance(words, dict) and bool(words.get("open"))

    def error_class(self, refusal: Refusal) -> str:
        """The class in QMP (docs/interop/qmp-spec): GenericError, DeviceNotFound, ..."""
        if isinstance(refusal, Worded):
            return refusal.error_class
        words = self._words[refusal.code]
        return GENERIC if isinstance(words, str) else str(words.get("class", GENERIC))
