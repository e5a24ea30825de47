"""A fleet's counts over HTTP: right on their paths, and at nobody's expense however clients behave."""

from __future__ import annotations

import http.client
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.control.client import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent


class Fleet:
    """`qmpd fleet` as a process, with metrics."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "fleet.sock")
        self.errors = folder.parent / "stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qmpd", "fleet", "--count", "3", "--dir", str(folder), "--metrics", "0"],
                stdout=subprocess.PIPE, stderr=errors, cwd=ROOT,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()
        found = re.fullmatch(rb"counts: http://127\.0\.0\.1:(\d+)/metrics\n", self.process.stdout.readline())
        assert found is not None, self.errors.read_text()
        self.port = int(found[1])

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
        """Status, type and content."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("content-type", ""), answer.read().decode()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    running = Fleet(tmp_path_factory.mktemp("metrics") / "fleet")
    try:
        yield running
        running.process.terminate()
        assert running.process.wait(PATIENCE) == 0
        assert running.errors.read_text().count("\n") == 1
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()


def test_two_paths_and_no_other(fleet: Fleet) -> None:
    status, kind, text = fleet.get("/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "qmpd_machines 3.0\n" in text
    status, kind, text = fleet.get("/metrics?name[]=x", accept="application/openmetrics-text")
    assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert fleet.get("/healthz") == (200, "text/plain", "ok\n")
    assert fleet.get("/healthz", "HEAD") == (200, "text/plain", "")
    assert fleet.get("/healthz", "POST")[0] == 405
    for path in ("/", "/metrics/", "/metric", "/healthz/x", "//metrics", "*", "/%C3%A9"):
        assert fleet.get(path)[0] == 404


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # without its host
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 100_000, b"200"),
        (b"\x16\x03\x01\x02\x00\x01\x00", None),  # it speaks TLS, and waits
        (b"GET /" + b"x" * (1 << 20), b"4"),
        (b"", None),
    ],
)
def test_whatever_is_sent(fleet: Fleet, sent: bytes, status: bytes | None) -> None:
    with fleet.connect() as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            answer = client.makefile("rb").readline()
        except ConnectionError:
            answer = b""
    if status is None:
        assert answer[:12] in (b"", b"HTTP/1.1 400")
    elif answer or status != b"4":
        assert answer.startswith(b"HTTP/1.1 " + status)
    assert fleet.get("/healthz")[0] == 200


def test_clients_that_are_slow_silent_or_many_cost_nobody_anything(fleet: Fleet) -> None:
    files = f"/proc/{fleet.process.pid}/fd"
    before = len(os.listdir(files))
    with ExitStack() as stack:
        clients = [stack.enter_context(fleet.connect()) for _ in range(200)]
        for client in clients[::2]:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost")
        for client in clients[:20]:
            # Reset rather than closed.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        for _ in range(5):
            began = time.monotonic()
            assert fleet.get("/metrics")[0] == 200
            assert time.monotonic() - began < 1
        assert len(os.listdir(files)) <= before + 17
        # The last one has not been sent away yet, and is so in its time.
        clients[-1].settimeout(PATIENCE)
        began = time.monotonic()
        assert clients[-1].recv(1) == b""
        assert time.monotonic() - began < 10
    assert fleet.get("/metrics")[0] == 200


def test_counts_are_told_while_machines_come_and_go(fleet: Fleet) -> None:
    done = threading.Event()
    answers: list[tuple[int, str, str]] = []

    def scrape() -> None:
        while not done.is_set():
            answers.append(fleet.get("/metrics"))

    threads = [threading.Thread(target=scrape) for _ in range(3)]
    for thread in threads:
        thread.start()
    with Client(fleet.path) as control:
        for number in range(200):
            assert "return" in control.ask({"execute": "create", "arguments": {"name": f"m{number}"}})
        for number in range(200):
            assert "return" in control.ask({"execute": "destroy", "arguments": {"name": f"m{number}"}})
    done.set()
    for thread in threads:
        thread.join()
    assert len(answers) > 10
    assert {status for status, _, _ in answers} == {200}
    assert "qmpd_machines 3.0\n" in fleet.get("/metrics")[2]
