from __future__ import annotations

import asyncio

from watcher import wait_for_shutdown

from qmpd.testing import VMFactory


def test_the_end_is_seen_over_a_second_connection(qmpd: VMFactory) -> None:
    async def run() -> None:
        vm = qmpd(guest="boot-time=1s", clock="virtual")
        vm.clock.run_until_quiet()
        vm.faults.drop_connection("after-reply", command="qmp_capabilities", count=1)
        watching = asyncio.create_task(wait_for_shutdown(vm.qmp_path))
        for _ in range(2):
            await vm.wait_for_command_async("qmp_capabilities")
        vm.guest.shut_down()
        assert await watching == "guest-shutdown"

    asyncio.run(run())
