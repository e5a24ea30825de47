"""Floor: the least that answers on a Unix socket, a blocking loop that sends back what it receives."""

from __future__ import annotations

import socket
import sys


def main(path: str) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    buffer = memoryview(bytearray(1 << 16))
    while True:
        client, _ = listening.accept()
        with client:
            while size := client.recv_into(buffer):
                client.sendall(buffer[:size])


if __name__ == "__main__":
    main(sys.argv[1])
