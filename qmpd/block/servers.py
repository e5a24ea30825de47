"""The servers that nodes are on: connections that are made ahead of the nodes, so that the main loop need not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.pausing import away
from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from qmpd.block.drivers.nbd import Connector, Nbd

    Options = Mapping[str, Any]


class Servers:
    """The connections of one machine's nodes.

    `connector` connects to a server, `credentials` gives the properties of an object with TLS credentials, `secret` the
    bytes of one that is a secret; they are None where nobody has sockets.
    """

    __slots__ = ("_ahead", "_given", "connector", "credentials", "extended", "is_by_name", "secret")

    def __init__(self) -> None:
        self.connector: Connector | None = None
        self.credentials: Callable[[str], dict[str, Any]] | None = None
        self.secret: Callable[[str], bytes] | None = None
        # Whether an open file is told by its name, which clients give it, and no more by its number.
        self.is_by_name = False
        # Whether lengths of 64 bits are agreed on with servers.
        self.extended = False
        # What was opened ahead, or why it could not be, and what of that was given to a node since.
        self._ahead: dict[str, Nbd | Refusal] = {}
        self._given: list[Nbd] = []

    def take(self, options: Options) -> Nbd:
        """The connection that options name: the one that was made ahead, or a new one.

        :raise Refusal: there is no such server.
        """
        from qmpd.block.drivers.nbd import key_of

        found = self._ahead.pop(key_of(options), None)
        if found is None:
            return away(self.opening(options))
        if isinstance(found, Refusal):
            raise found
        self._given.append(found)
        return found

    def opening(self, options: Options, server: Mapping[str, Any] | None = None) -> Callable[[], Nbd]:
        """What connects to a server, in any thread; `server` is its address where the options name it otherwise.

        :raise Refusal: there are no such credentials, or nobody has sockets.
        """
        from qmpd.block.drivers.nbd import open_nbd

        connector = self.connector
        if connector is None:
            raise NotModelled("disks on servers, of a machine that nobody serves")
        told = options.get("server")
        if self.is_by_name and server is None and isinstance(told, dict) and told.get("type") == "fd":
            raise Refusal("descriptor-name-missing", name=str(told["str"]))
        given = dict(options) if server is None else {**options, "server": server}
        credentials = None
        if options.get("tls-creds") is not None:
            assert self.credentials is not None
            credentials = self.credentials(str(options["tls-creds"]))
        return lambda: open_nbd(given, connector, credentials, extended=self.extended)

    def ahead(self, wanted: Options, server: Mapping[str, Any] | None = None) -> Callable[[], None]:
        """What opens a connection ahead of its node, in any thread, whatever comes of it.

        :raise Refusal: as for `opening`.
        """
        from qmpd.block.drivers.nbd import key_of

        open_it, key = self.opening(wanted, server), key_of(wanted)

        def work() -> None:
            try:
                opened = open_it()
                opened.look_ahead()
            except Refusal as error:
                self._ahead[key] = error
            else:
                self._ahead[key] = opened

        return work

    def settle(self) -> None:
        """The nodes are open, or will not be: what was read ahead is forgotten, and what nobody took is closed."""
        left, self._ahead = self._ahead, {}
        given, self._given = self._given, []
        for each in given:
            each.forget_ahead()
        for one in left.values():
            if not isinstance(one, Refusal):
                one.close()


def wanted_by(value: object) -> Iterator[dict[str, Any]]:
    """The options of all nodes on servers among those of a node and of what is below it."""
    if isinstance(value, dict):
        if value.get("driver") == "nbd":
            yield value
        for each in value.values():
            yield from wanted_by(each)
    elif isinstance(value, list):
        for each in value:
            yield from wanted_by(each)
