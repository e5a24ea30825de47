"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.testing.inner import run_inside

CLIENT = """
import json, socket

def talk(path, *names):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        lines = client.makefile("rb")
        lines.readline()
        for name in ("qmp_capabilities", *names):
            client.sendall(json.dumps({"execute": name}).encode())
            while "event" in (reply := json.loads(lines.readline())):
                pass
        lines.close()
        return reply["return"]
"""


@pytest.fixture
def run(modules_stay: None, pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(client=CLIENT)
    pytester.makeini("[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n")
    return pytester


def plugins() -> list[str]:
    """The option that loads the plugin, where no entry point of an installed qmpd does; and what comes with -O.

    Under `tests.optimized` qmpd is loaded already, and not as pytest would.
    """
    from importlib.metadata import entry_points

    installed = any(point.name == "qmpd" for point in entry_points(group="pytest11"))
    known = () if __debug__ else ("assertions not in test modules", "Module already imported")
    ignored = [word for text in known for word in ("-W", f"ignore:{text}")]
    return ignored if installed else ["-p", "qmpd.testing.plugin", *ignored]


def result(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return run_inside(pytester, *plugins(), "-p", "no:trio", "-p", "no:cacheprovider", *arguments)


def test_vms_are_closed_at_the_end(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import os, pytest
        from client import talk

        paths = []

        def test_two(qmpd):
            first = qmpd(guest="boot-time=2s", clock="virtual", options=["-name", "first"])
            second = qmpd(machine="none", options=["-name", "second"])
            assert talk(first.qmp_path, "query-name") == {"name": "first"}
            assert talk(second.qmp_path, "query-name") == {"name": "second"}
            paths.extend([first.qmp_path, second.qmp_path])
            first.assert_sent("query-name")

        def test_they_are_gone():
            assert len(paths) == 2
            assert not any(os.path.exists(os.path.dirname(path)) for path in paths)
        """
    )
    result(run).assert_outcomes(passed=2)


def test_a_failure_shows_the_transcript_and_where_the_timeline_is(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        from client import talk

        def test_it(qmpd, tmp_path):
            vm = qmpd(machine="none")
            talk(vm.qmp_path, "query-status", "stop")
            vm.assert_not_sent("stop")

        def test_without_a_folder(qmpd):
            talk(qmpd(machine="none").qmp_path, "cont")
            talk(qmpd(machine="none").qmp_path, "stop")
            assert False
        """
    )
    done = result(run)
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(
        [
            "E * stop should not have been sent",
            "E *!! * stop",
            "*- qmpd transcript -*",
            "*QEMU 10.0",
            "* client 1  -> stop",
            "* event STOP",
            "timeline: */test_it0/qmpd.html",
            "*- qmpd transcript of VM 1 -*",
            "* client 1  -> cont",
            "timeline: */qmpd-1.html",
            "*- qmpd transcript of VM 2 -*",
            "timeline: */qmpd-2.html",
        ]
    )
    pages = [Path(path) for path in re.findall("timeline: (.*)", done.stdout.str())]
    assert len(set(pages)) == 3
    for page in pages:
        assert "<svg" in page.read_text()
        assert page.with_suffix(".jsonl").read_text().count('"kind": "started"') == 1


def test_artifacts_go_where_they_are_wanted(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("name", ["a/b", "c"])
        def test_it(qmpd, name):
            qmpd()
            assert name == "c"
        """
    )
    result(run, "--qmpd-artifacts", "art").assert_outcomes(failed=1, passed=1)
    made = sorted(str(path.relative_to(run.path)) for path in Path(run.path, "art").rglob("*.*"))
    name = "test_artifacts_go_where_they_are_wanted.py-test_it-a-b"
    assert made == [f"art/{name}", f"art/{name}/qmpd.html", f"art/{name}/qmpd.jsonl"]


def test_failures_in_fixtures_and_expected_ones(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import pytest

        @pytest.fixture
        def broken(qmpd):
            qmpd()
            raise LookupError

        def test_setup(broken):
            pass

        @pytest.fixture
        def late(qmpd):
            qmpd()
            yield
            raise LookupError

        def test_teardown(late):
            pass

        @pytest.mark.xfail(strict=True)
        def test_expected(qmpd):
            qmpd()
            assert False
        """
    )
    done = result(run)
    done.assert_outcomes(errors=2, passed=1, xfailed=1)
    assert done.stdout.str().count("- qmpd transcript -") == 2


def test_releases_by_marker_and_by_option(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import pytest
        from client import talk

        def version(vm):
            version = talk(vm.qmp_path, "query-version")["qemu"]
            return f"{version['major']}.{version['minor']}"

        @pytest.mark.qmpd_releases("7.2", "10.0")
        def test_marked(qmpd, qmpd_release):
            assert version(qmpd()) == qmpd_release

        def test_all(qmpd, request):
            print("version", version(qmpd()))

        def test_explicit(qmpd):
            assert version(qmpd(release="5.2")) == "5.2"

        def test_another():
            pass
        """
    )
    done = result(run, "-v", "-s")
    done.assert_outcomes(passed=5)
    done.stdout.fnmatch_lines(["*::test_marked?7.2? PASSED*", "*::test_marked?10.0? PASSED*"])
    done.stdout.fnmatch_lines(["*test_all version 10.0*"])

    done = result(run, "-v", "-s", "--qmpd-release", "10.0,11.1")
    done.assert_outcomes(passed=6)
    done.stdout.fnmatch_lines(
        [
            "*::test_marked?10.0? PASSED*",
            "*::test_all?10.0? version 10.0*",
            "*::test_all?11.1? version 11.1*",
        ]
    )

    done = result(run, "-rs", "--qmpd-release", "11.1")
    done.assert_outcomes(passed=3, skipped=1)
    done.stdout.fnmatch_lines(["SKIPPED * for the releases 7.2, 10.0 alone"])


def test_a_parametrization_of_ones_own_goes_before(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("qmpd_release", ["5.2"], indirect=True)
        def test_it(qmpd):
            assert qmpd().release == "5.2"
        """
    )
    result(run, "--qmpd-release", "10.0,11.1").assert_outcomes(passed=1)


def test_a_release_that_does_not_exist(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(): pass")
    done = result(run, "--qmpd-release", "1.0")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --qmpd-release: *1.0*"])


def test_help_and_markers(run: pytest.Pytester) -> None:
    done = result(run, "--help")
    done.stdout.fnmatch_lines(["VMs of qmpd:", "*--qmpd-release=RELEASE*", "*--qmpd-artifacts=DIR*"])
    result(run, "--markers").stdout.fnmatch_lines(["@pytest.mark.qmpd_releases(*"])
    run.makepyfile("def test_it(qmpd): pass")
    result(run, "--fixtures").stdout.fnmatch_lines(["*qmpd -- *", "*Start VMs: *"])


def test_no_thread_is_left_by_a_run(run: pytest.Pytester) -> None:
    import threading

    before = set(threading.enumerate())
    run.makepyfile("def test_it(qmpd): qmpd()\n\ndef test_again(qmpd): qmpd(); qmpd()")
    result(run).assert_outcomes(passed=2)
    # Threads of disks end shortly after their VM.
    deadline = time.monotonic() + 10
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def test_a_run_that_uses_no_vm_imports_nothing_of_them(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import sys

        def test_it():
            ours = {name for name in sys.modules if name.startswith("qmpd.")}
            assert ours <= {"qmpd.testing", "qmpd.testing.plugin"}
            assert not {"trio", "jsonschema", "orjson", "asyncio"} & set(sys.modules)
        """
    )
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:trio", "-p", "no:hypothesispytest", "-p", "no:anyio"]
    done = subprocess.run([*line, *plugins()], cwd=run.path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_asynchronous_tests(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
        import asyncio, trio

        def test_asyncio(qmpd):
            async def scenario():
                vm = qmpd(machine="none")
                reader, writer = await asyncio.open_unix_connection(vm.qmp_path)
                assert b"QMP" in await reader.readline()
                writer.write(b'{"execute": "qmp_capabilities"}{"execute": "stop"}')
                await vm.wait_for_event_async("STOP")
                writer.close()
                await writer.wait_closed()
            asyncio.run(scenario())

        def test_trio(qmpd):
            async def scenario():
                vm = qmpd(machine="none")
                async with await trio.open_unix_socket(vm.qmp_path) as stream:
                    await stream.send_all(b'{"execute": "qmp_capabilities"}{"execute": "stop"}')
                    await vm.wait_for_event_async("STOP")
            trio.run(scenario)
        """
    )
    result(run).assert_outcomes(passed=2)
