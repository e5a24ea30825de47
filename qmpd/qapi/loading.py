"""Getting a release by its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qmpd.qapi.errors import UnknownRelease
from qmpd.qapi.folders import folder_of, is_file
from qmpd.qapi.release import Release

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_RELEASE = "10.0"
"""The release that qmpd is unless told otherwise."""

_loaded: dict[tuple[str, ...], Release] = {}


def load_release(name: str, extensions: Iterable[str] = ()) -> Release:
    """The release of this name (`7.2`), or the one whose folder this is; the same object each time.

    Where it is the name of a file, that is a twin's (`qmpd.qapi.twin`).

    `extensions` are those that it is given beside its own (`qmpd.qapi.extension`).

    :raise UnknownRelease: there is neither.
    :raise UnknownExtension: there is no such extension.
    :raise BadRelease: the folder's release.json, or the file, cannot be read.
    """
    key = (name, *sorted(set(extensions)))
    release = _loaded.get(key)
    if release is None:
        release = _open(name)
        if release.extensions or extensions:
            from qmpd.qapi.extension import ExtendedRelease

            release = ExtendedRelease(release, key[1:])
        _loaded[key] = release
    return release


def _open(name: str) -> Release:
    try:
        return Release(folder_of(name))
    except UnknownRelease:
        path = Path(name)
        if not is_file(path):
            raise
        from qmpd.qapi.twin import Twin

        return Twin(path, load_release)
