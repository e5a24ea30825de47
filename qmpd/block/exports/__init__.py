"""Exports: nodes that others read and write over NBD.

The protocol knows no sockets.  `negotiation` and `transmission` are the server's side of a connection: bytes go in,
events and bytes come out.  `exports` has the rules: which exports there are, who uses them, how they end.
"""
