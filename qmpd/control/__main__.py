"""Write `schemas/control`: `python -m qmpd.control FOLDER`, after a declaration has changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qmpd.control.whole import interface


def documents() -> dict[str, str]:
    """The folder's files: the introspection, an entry a line, and the JSON Schema."""
    made = interface()
    return {
        "introspection.jsonl": "".join(json.dumps(entry) + "\n" for entry in made.entries),
        "schema.json": json.dumps(made.schema, indent=2) + "\n",
    }


def main(arguments: list[str]) -> int:
    """Write the files; the result is the exit status."""
    if len(arguments) != 1:
        sys.stderr.write(f"usage: {__doc__}\n")
        return 1
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
