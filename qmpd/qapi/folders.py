"""Where the releases' folders are, and which there are."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import orjson

from qmpd.common.integers import is_digits
from qmpd.qapi.errors import BadRelease, UnknownRelease

PREFIX = "qemu-"
"""What a release's folder is called before its name."""

_PACKAGE = Path(__file__).parent.parent
# An installed wheel has the folders inside the package, a checkout beside it.
_PLACES = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")


def shared_file(name: str) -> Path:
    """Where a file is that is every release's."""
    return next((place / name for place in _PLACES if (place / name).exists()), _PLACES[-1] / name)


def rom_words(build: str) -> dict[str, Any]:
    """What a build of iPXE says otherwise than others."""
    words: dict[str, Any] = orjson.loads(shared_file("option-roms.json").read_bytes())[build]
    return words


def release_names() -> list[str]:
    """The names of the releases that are shipped, oldest first (`5.2`, `7.2`, ...)."""
    for place in _PLACES:
        names = [folder.name.removeprefix(PREFIX) for folder in place.glob(PREFIX + "*")]
        if names:
            return sorted(names, key=_by_number)
    return []


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if is_digits(part) else (-1, part) for part in name.split(".")]


def schema_folder(name: str) -> Path:
    """The folder of this name in `schemas/`.

    :raise BadRelease: there is none.
    """
    for place in _PLACES:
        if (place / name).is_dir():
            return place / name
    raise BadRelease(f"{_PLACES[0] / name}: there is no such folder")


@cache
def common_words() -> dict[str, Any]:
    """The words that refusals have in most releases.

    :raise BadRelease: their file is missing.
    """
    from qmpd.qapi.refusals import FILE

    for place in _PLACES:
        path = place / FILE
        if path.is_file():
            return orjson.loads(path.read_bytes())  # type: ignore[no-any-return]
    raise BadRelease(f"{_PLACES[0] / FILE}: there is no such file")


def folder_of(name: str) -> Path:
    """The folder of the release of this name, or the one whose path this is.

    :raise UnknownRelease: there is neither.
    """
    if name and "/" not in name:
        for place in _PLACES:
            folder = place / (PREFIX + name)
            if is_file(folder / "release.json"):
                return folder
    folder = Path(name)
    if name and is_file(folder / "release.json"):
        return folder
    raise UnknownRelease(name, release_names())


def is_file(path: Path) -> bool:
    """Whether this is a file that can be reached."""
    try:
        return path.is_file()
    except OSError:
        return False  # its name is too long, or the way to it is closed
