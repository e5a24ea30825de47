"""One client's session, without a socket: negotiation, command queue, out-of-band, replies, events."""
