"""The qtest protocol, as programs built on QEMU's libqtest use it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from tests.emulator.support import connect, running

if TYPE_CHECKING:
    from pathlib import Path


def test_a_test_program_plays_cpu_and_clock(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        # libqtest listens, and the program connects.
        listening.bind(str(tmp_path / "qtest"))
        listening.listen()
        listening.settimeout(10)
        qmp = tmp_path / "qmp"
        options = ["-qtest", f"unix:{tmp_path}/qtest", "-qtest-log", "none", "-qmp", f"unix:{qmp},server=on,wait=off"]
        options += [
            "-display",
            "none",
            "-nodefaults",
            "-accel",
            "qtest",
            "-device",
            "ib700",
            "-watchdog-action",
            "pause",
        ]
        with running(*options), listening.accept()[0] as test, connect(qmp) as client:
            test.settimeout(10)
            answers = test.makefile("rb")
            messages = client.makefile("rb")
            messages.readline()
            client.sendall(b'{"execute": "qmp_capabilities"}')
            messages.readline()

            def ask(line: str) -> str:
                test.sendall(line.encode() + b"\n")
                return answers.readline().decode().rstrip("\n")

            assert ask("endianness") == "OK little"
            assert ask("writel 0x1000 0x12345678") == "OK"
            assert ask("readb 0x1000") == "OK 0x0000000000000078"
            assert ask("read 0x0fff 4") == "OK 0x00785634"
            assert ask("write 0x2000 3 0xabcdef") == "OK"
            assert ask("b64read 0x2000 3") == "OK q83v"
            assert ask("memset 0x2001 1 0x11") == "OK"
            assert ask("readw 0x2000") == "OK 0x00000000000011ab"
            assert ask("inb 0x1234") == "OK 0x00ff"
            assert ask("irq_intercept_in ioapic") == "OK"
            assert ask("clock_step 1000") == "OK 1000"
            assert ask("nonsense 1") == "FAIL Unknown command 'nonsense'"
            assert ask("outb 0x443 14") == "OK"
            assert ask("clock_step 1999999999") == "OK 2000000999"
            assert ask("clock_step") == "OK 2000001000"
            event = json.loads(messages.readline())
            assert (event["event"], event["data"]) == ("WATCHDOG", {"action": "pause"})
            assert json.loads(messages.readline())["event"] == "STOP"
            answers.close()
            messages.close()
