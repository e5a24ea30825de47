"""Results that do not change, kept in the spelling in which they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from qmpd.wire import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.qapi import Release

EMPTY = Encoded(b"{}")
"""What a command without a result returns."""

_kept: WeakKeyDictionary[Release, dict[str, Encoded]] = WeakKeyDictionary()


def kept(release: Release, name: str, make: Callable[[], bytes]) -> Encoded:
    """The result `name` of this release, made when it is first asked for."""
    results = _kept.setdefault(release, {})
    result = results.get(name)
    if result is None:
        result = results[name] = Encoded(make())
    return result


def as_put_in(value: Any) -> Any:
    """A value that was captured, its members in the order in which QEMU put them in, as far as that counts."""
    if isinstance(value, dict):
        return {name: as_put_in(member) for name, member in reversed(value.items())}
    return [as_put_in(element) for element in value] if isinstance(value, list) else value


def version(release: Release) -> dict[str, object]:
    """What `query-version` and the greeting say of the release."""
    major, minor, micro = release.version
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": release.package}


def greeting(release: Release) -> dict[str, object]:
    """What a client hears first (docs/interop/qmp-spec, "Server Greeting")."""
    capabilities = ["oob"] if release.behaviour.out_of_band else []
    return {"QMP": {"version": version(release), "capabilities": capabilities}}
