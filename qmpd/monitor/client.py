"""What a command may ask of the client that it comes from."""

from __future__ import annotations

from typing import Protocol


class Client(Protocol):
    """One client (`qmpd.monitor.session.Session`).

    `label` is the name of its character device, `negotiated` whether it is in command mode, `owner` its connection.
    """

    label: str
    negotiated: bool
    owner: object

    def negotiate(self, out_of_band: bool) -> None:
        """Leave negotiation mode for command mode."""
