"""Tell which mutants mutmut makes: run in the copy's folder, as `python -m endurance.mutants.making FILE...`.

Prints a JSON list of objects with `Mutant`'s members.
"""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name, parse_mutant_key

from endurance.mutants.mutant import Mutant, difference

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGINAL = "__mutmut_orig"


def mutants(path: Path) -> Iterator[Mutant]:
    """The mutants of a file, in their order."""
    source = path.read_text(encoding="utf-8")
    made = mutate_file_contents(str(path), source)
    lines = made.code.split("\n")
    spans = made.line_span_by_function_name
    places = _places(source)

    def text(name: str, shown: str) -> list[str]:
        span = spans[name]
        body = lines[span.start - 1 : span.end]
        start = next(number for number, line in enumerate(body) if line.lstrip().startswith(("def ", "async def ")))
        return [line.replace(name, shown) for line in body[start:]]

    for name in made.mutant_names:
        key = name.rpartition("__mutmut_")[0]
        short, class_name = parse_mutant_key(key)
        function = f"{class_name}.{short}" if class_name else short
        offset, old, new = difference(text(key + ORIGINAL, short), text(name, short))
        yield Mutant(str(path), places[function] + offset, function, old, new, get_mutant_name(path, name))


def _places(source: str) -> dict[str, int]:
    """The lines in which functions begin, by their names."""
    found: dict[str, int] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}": each.lineno for each in node.body if isinstance(each, FUNCTION)}
        elif isinstance(node, FUNCTION):
            found[node.name] = node.lineno
    return found


FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

if __name__ == "__main__":
    json.dump([asdict(mutant) for each in sys.argv[1:] for mutant in mutants(Path(each))], sys.stdout)
