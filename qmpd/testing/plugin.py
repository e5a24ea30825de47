"""The pytest plugin: the fixture `qmpd`, and what a failed test shows of its VMs.

    def test_power_button(qmpd):
        vm = qmpd(guest="powerdown-delay=5s", clock="virtual")
        press_power_button(vm.qmp_path)
        vm.clock.advance(5)
        assert vm.wait_until_ended() == 0

pytest loads this module in every run; whatever costs time is imported when a test asks for a VM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from qmpd.testing.asynchronous import AsyncVMFactory
    from qmpd.testing.factory import VMFactory

# The factories of a test, a class, a module or the whole run, each at its own node.
_factories_key = pytest.StashKey["list[VMFactory]"]()

MARKER = "qmpd_releases(*names): run the test, which uses the fixture qmpd, under each of these releases of QEMU."


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("qmpd", "VMs of qmpd")
    group.addoption(
        "--qmpd-release",
        metavar="RELEASE[,RELEASE...]",
        help="run each test that uses the fixture qmpd under these releases of QEMU, as far as its marker allows them",
    )
    group.addoption(
        "--qmpd-artifacts",
        metavar="DIR",
        help="where failed tests leave the transcripts and timelines of their VMs (default: their temporary folder)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and look at the options.

    :raise pytest.UsageError: there is no such release.
    """
    config.addinivalue_line("markers", MARKER)
    asked = _asked(config)
    if asked:
        from qmpd.qapi import BadRelease, UnknownRelease, load_release

        try:
            for name in asked:
                load_release(name)
        except (UnknownRelease, BadRelease) as error:
            raise pytest.UsageError(f"--qmpd-release: {error}") from None


def _asked(config: pytest.Config) -> list[str]:
    option = config.getoption("--qmpd-release")
    return [name for name in (option or "").split(",") if name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each release that is asked for."""
    if "qmpd_release" not in metafunc.fixturenames:
        return
    for parametrize in metafunc.definition.iter_markers("parametrize"):
        names = parametrize.args[0] if parametrize.args else parametrize.kwargs.get("argnames", "")
        if "qmpd_release" in (names.replace(" ", "").split(",") if isinstance(names, str) else names):
            return
    marker = metafunc.definition.get_closest_marker("qmpd_releases")
    asked = _asked(metafunc.config)
    if marker is None and not asked:
        return
    allowed = asked if marker is None else [str(name) for name in marker.args]
    chosen = [name for name in asked if name in allowed] if asked else allowed
    parameters = [pytest.param(name, id=name) for name in chosen]
    if not parameters:
        reason = f"for the releases {', '.join(allowed)} alone"
        parameters = [pytest.param(None, id=",".join(asked), marks=pytest.mark.skip(reason=reason))]
    metafunc.parametrize("qmpd_release", parameters, indirect=True)


@pytest.fixture
def qmpd_release(request: pytest.FixtureRequest) -> str | None:
    """The release that this run of the test is for; None: qmpd's own default."""
    return getattr(request, "param", None)


@pytest.fixture
def qmpd(
    request: pytest.FixtureRequest, qmpd_release: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VMFactory]:
    """Start VMs: `vm = qmpd(machine="pc", guest="boot-time=2s", clock="virtual", options=["-S"])`.

    The arguments are those of `qmpd.testing.start`.  The VMs are closed when the test has ended.  Where it fails, the
    report has their transcripts and says where their timelines are.
    """
    yield from _factory(request, tmp_path_factory, qmpd_release)


@pytest.fixture(scope="class")
def qmpd_class(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VMFactory]:
    """As `qmpd`, for VMs that the tests of a class share."""
    yield from _factory(request, tmp_path_factory, None)


@pytest.fixture(scope="module")
def qmpd_module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VMFactory]:
    """As `qmpd`, for VMs that the tests of a module share."""
    yield from _factory(request, tmp_path_factory, None)


@pytest.fixture(scope="session")
def qmpd_session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VMFactory]:
    """As `qmpd`, for VMs that all tests share."""
    yield from _factory(request, tmp_path_factory, None)


@pytest.fixture
def qmpd_async(qmpd: VMFactory) -> AsyncVMFactory:
    """As `qmpd`, for tests that run under asyncio, anyio or trio: `vm = await qmpd_async(...)`."""
    from qmpd.testing.asynchronous import AsyncVMFactory

    return AsyncVMFactory(qmpd)


def _factory(
    request: pytest.FixtureRequest, temporary: pytest.TempPathFactory, release: str | None
) -> Iterator[VMFactory]:
    from qmpd.testing.factory import VMFactory

    artifacts = request.config.getoption("--qmpd-artifacts")
    factory = VMFactory(request.config, request.node, release, temporary, artifacts)
    request.node.stash[_factories_key] = [*request.node.stash.get(_factories_key, []), factory]
    yield factory
    factory.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the transcripts to the report of a test that has failed."""
    report = yield
    if report.failed:
        for node in item.listchain():
            for factory in node.stash.get(_factories_key, []):
                report.sections.extend(factory.sections(item))
    return report
