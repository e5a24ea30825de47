"""The character devices of a machine that is served: sockets, files, terminals."""
