"""Character devices: what they are made from, what they refuse, and what their rings hold.

A device is described by its backend as `chardev-add` has it (QAPI's ChardevBackend): `{"type": KIND, "data": {...}}`.
What is a socket or a file in the end is the server's.
"""
