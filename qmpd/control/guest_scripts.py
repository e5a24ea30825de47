"""Reading the file of a guest's script (`qmpd.guest.script`), as `-guest script=` and `guest-set` name it."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from qmpd.guest.script import Script, load
from qmpd.qapi.folders import shared_file

_SCHEMA = "guest-script.json"
MOST = 1 << 20
"""Bytes that such a file may have."""


@cache
def _schema() -> Any:
    return json.loads(shared_file(_SCHEMA).read_text(encoding="utf-8"))


def read(path: str) -> tuple[str, Script]:
    """What is in a file, and the script that this is.

    :raise ValueError: it cannot be read, or something is wrong in it; the text says what, and where.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise ValueError(f"{path}: the file is longer than {MOST} bytes")
        text = data.decode()
        content = tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"Could not open '{path}': {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    fault = best_match(Draft202012Validator(_schema()).iter_errors(content))
    if fault is not None:
        where = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in fault.absolute_path)
        raise ValueError(f"{path}: {where.lstrip('.') or 'file'}: {fault.message}")
    try:
        return text, load(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
