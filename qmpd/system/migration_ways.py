"""Where a machine's migrations go to and come from: the address, the open file that it names, and the credentials."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from qmpd.common.refusals import Refusal, Worded
from qmpd.hardware.credentials import tls_credentials
from qmpd.migration import addresses
from qmpd.migration.channel import Way

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.hardware.inventory import Inventory
    from qmpd.qapi.release import Release
    from qmpd.system.askers import WithFiles

    class System(WithFiles, Protocol):
        """A whole machine (`qmpd.system.system.System`)."""

        built: Inventory | None
        release: Release

_TYPES = ("tls-credentials-client", "tls-credentials-server")


class Settings(Protocol):
    """What was set for a machine's migrations (`qmpd.system.migrations.Migrations`)."""

    def has(self, capability: str) -> bool:
        """Whether a capability is set."""

    def parameter(self, name: str) -> Any:
        """The value of a parameter."""


class MigrationWays:
    """Reads the addresses of one machine's migrations."""

    def __init__(self, system: System, settings: Settings) -> None:
        self._system = system
        self._settings = settings

    @property
    def _release(self) -> Release:
        return self._system.release

    def way(self, arguments: Mapping[str, Any], monitor: str, *, incoming: bool) -> Way:
        """What an address is given as: a URI, or a list of channels.

        :raise Refusal: it is none.
        """
        uri, channels = arguments.get("uri"), arguments.get("channels")
        if bool(channels) == (uri is not None):
            raise Refusal("migration-address-missing")
        if uri is not None:
            address: Mapping[str, Any] = addresses.address_of(str(uri), self._release.behaviour, incoming=incoming)
        else:
            address = addresses.main_channel(cast("list[Mapping[str, Any]]", channels))
        name = str(self._settings.parameter("tls-hostname") or "")
        return Way(address, monitor, partial(self.credentials, address, incoming=incoming), name)

    def check_transport(self, address: Mapping[str, Any]) -> None:
        """:raise Refusal: what is set does not go through there."""
        is_file = address["transport"] == "file"
        if self._settings.has("mapped-ram") and not is_file and address.get("type") != "fd":
            raise Refusal("migration-seekable")
        if self._settings.has("multifd") and not is_file and address["transport"] != "socket":
            raise Refusal("migration-many-channels")

    def with_file(self, way: Way) -> Way:
        """The same, with the number of the open file where it names one.

        :raise Refusal: there is none of that name.
        """
        if way.address.get("type") != "fd":
            return way
        name = way.address["str"]
        files = self._system.descriptors
        number = None if files is None else files.take(way.monitor, name)
        if number is None:
            raise Refusal("descriptor-name-missing", name=name)
        return way._replace(address={**way.address, "number": number})

    @property
    def have_credentials(self) -> bool:
        """Whether there is to be TLS around channels."""
        return bool(self._settings.parameter("tls-creds"))

    def credentials(self, address: Mapping[str, Any], *, incoming: bool) -> Mapping[str, Any] | None:
        """The properties of the object with the credentials; None where there is to be no TLS.

        :raise Worded: there is none of that name, it is for the other end, or there is no name for a certificate.
        """
        if not self.have_credentials:
            return None
        named = self._settings.parameter("tls-hostname") or address.get("host")
        endpoint, built = "server" if incoming else "client", self._system.built
        identifier = str(self._settings.parameter("tls-creds"))
        try:
            if built is None:
                raise Refusal("tls-credentials-missing", id=identifier)
            found = tls_credentials(built.tree, identifier, endpoint=endpoint)
            if not incoming and not named and self._release.migration.course.tls_named_first:
                raise Refusal("migration-tls-name")
        except Refusal as refusal:
            meant = Refusal("migration-tls-endpoint", endpoint=endpoint) if refusal.code in _TYPES else refusal
            raise Worded(self._release.refusals.message(meant)) from None
        return found
