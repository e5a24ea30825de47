from __future__ import annotations

import json
import socket

from qmpd.testing import VMTestCase


def power_off(path: str) -> None:
    """The code under test."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        with client.makefile("rw") as monitor:
            for name in ("qmp_capabilities", "system_powerdown"):
                monitor.write(json.dumps({"execute": name}) + "\n")
            monitor.flush()
            for line in monitor:
                if json.loads(line).get("event") == "SHUTDOWN":
                    return


class PowerOff(VMTestCase):
    release = "7.2"

    def test_the_button_is_pressed(self) -> None:
        vm = self.start_vm(guest="boot-time=0,firmware=none", clock="virtual")
        vm.clock.run_until_quiet()  # the guest has started, and heeds the button
        power_off(vm.qmp_path)
        vm.assert_sent("system_powerdown", exactly=True)
        self.assertEqual(vm.wait_until_ended(), 0)
