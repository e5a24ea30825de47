"""Network backends that come and go: those that have a socket get it from whoever serves the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.common.computer import Asker
    from qmpd.hardware.network import Netdev
    from qmpd.system.system import System

NETWORK = "network"
"""The kind of character device that a backend's socket is to whoever opens it; `chardev-add` knows none like it."""


def add(system: System, values: Mapping[str, Any], asker: Asker) -> None:
    """Add a backend (`netdev_add`).

    :raise Refusal: it is refused, or its socket cannot be had.
    """
    netdev = system.inventory.add_netdev(values, asker)
    try:
        _open(system, netdev)
    except BaseException:
        system.inventory.backends.network.remove(netdev.identifier)
        raise


def remove(system: System, identifier: str) -> None:
    """Take a backend away (`netdev_del`).

    :raise Refusal: there is none.
    """
    network = system.inventory.backends.network
    netdev = network.find(identifier)
    network.remove(identifier)
    if netdev is not None and netdev.has_socket and system.host is not None:
        system.host.close_chardev(_label(netdev))


def open_all(system: System) -> None:
    """Give the backends of a machine that is about to start their sockets.

    :raise Refusal: one cannot be had.
    """
    if system.built is not None:
        for netdev in system.built.backends.network.netdevs:
            _open(system, netdev)


def _open(system: System, netdev: Netdev) -> None:
    if netdev.has_socket and system.host is not None:
        values = {"type": netdev.type, "id": netdev.identifier, **netdev.options}
        system.host.open_chardev(_label(netdev), {"type": NETWORK, "data": values})


def _label(netdev: Netdev) -> str:
    # No character device can be called like this.
    return f"#{NETWORK}:{netdev.identifier}"
