"""Bytes to messages and back: QMP's JSON dialect, as QEMU reads and writes it.

`Decoder` takes a connection's bytes and gives messages and parse errors; `encode` and `encode_pretty` give QEMU's
spelling of a reply or event.
"""

from qmpd.wire.decoder import Decoder
from qmpd.wire.encoder import Encoded, encode, encode_pretty
from qmpd.wire.errors import ParseError

__all__ = ["Decoder", "Encoded", "ParseError", "encode", "encode_pretty"]
