"""VMs that tests share, VMs of tests that run under an event loop, and VMs of unittest."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import unittest

import pytest

from qmpd.testing import VMTestCase
from tests.testing.client import Client
from tests.testing.test_plugin import plugins, result


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_vms_that_tests_share(pytester: pytest.Pytester, scope: str) -> None:
    pytester.makepyfile(
        f"""
        import os, pytest

        seen = []

        @pytest.fixture(scope="{scope}")
        def vm(qmpd_{scope}):
            return qmpd_{scope}(machine="none")

        class TestShared:
            def test_one(self, vm, qmpd):
                seen.append(vm)
                assert qmpd(machine="none").qmp_path != vm.qmp_path

            def test_two(self, vm):
                assert seen == [vm]
                assert os.path.exists(vm.qmp_path)
                assert vm.wait_for_event("RESUME").name == "RESUME"
                raise AssertionError("to see the report")

        def test_three(vm):
            assert (seen == [vm]) is ("{scope}" != "class")
            assert os.path.exists(seen[0].qmp_path) is ("{scope}" != "class")
        """
    )
    outcome = result(pytester)
    outcome.assert_outcomes(passed=2, failed=1)
    outcome.stdout.fnmatch_lines(["*qmpd transcript*", "*event RESUME*", "timeline: *.html"])


ASYNC_TEST = """
    import pytest

    {mark}
    async def test_reboot(qmpd_async):
        vm = await qmpd_async(guest="boot-time=2s", clock="virtual")
        vm.clock.advance(3)
        vm.guest.reboot()
        assert (await vm.wait_for_event("RESET")).data["guest"]
        await vm.wait_for_run_state("running")
        vm.guest.shut_down()
        assert await vm.wait_until_ended() == 0
        vm.assert_not_sent()
        await vm.close()

    {mark}
    async def test_in_vain(qmpd_async):
        async with await qmpd_async(machine="none") as vm:
            with pytest.raises(AssertionError, match="no command quit within 0.01 s"):
                await vm.wait_for_command("quit", timeout=0.01)
"""


def test_trio(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    pytester.makepyfile(ASYNC_TEST.format(mark=""))
    # Two pytest-trio in one process are one too many.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *plugins()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.search("2 passed", ended.stdout), ended.stdout


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_anyio(pytester: pytest.Pytester, library: str) -> None:
    pytest.importorskip("anyio", reason="anyio is not installed")
    pytester.makeconftest(f"import pytest\n@pytest.fixture\ndef anyio_backend():\n    return {library!r}\n")
    pytester.makepyfile(ASYNC_TEST.format(mark="@pytest.mark.anyio"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:trio", "-q", *plugins()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.search("2 passed", ended.stdout), ended.stdout


class Sample(VMTestCase):
    release = "7.2"

    def test_good(self) -> None:
        vm = self.start_vm(machine="none")
        assert vm.release == "7.2"
        with Client(vm.qmp_path) as client:
            assert client.execute("query-status")["status"] == "running"

    def test_bad(self) -> None:
        self.start_vm(machine="none")
        self.fail("to see the report")


class AsyncSample(VMTestCase, unittest.IsolatedAsyncioTestCase):
    async def test_bad(self) -> None:
        vm = self.start_vm(machine="none")
        await vm.wait_for_event_async("RESET", timeout=0.01)


@pytest.mark.parametrize(("case", "text"), [(Sample, "to see the report"), (AsyncSample, "no event RESET within")])
def test_unittest(case: type[unittest.TestCase], text: str) -> None:
    written = io.StringIO()
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    tests = list(suite)
    outcome = unittest.TextTestRunner(written).run(suite)
    assert outcome.testsRun == len(tests) or outcome.testsRun == suite.countTestCases()
    (told,) = outcome.failures
    assert text in told[1]
    assert "qmpd transcript\n    0.000 000               QEMU" in told[1]
    assert not outcome.errors


# These are only to be run by the test above.
Sample.__test__ = AsyncSample.__test__ = False  # type: ignore[attr-defined]
