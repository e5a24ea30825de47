"""The further channels of a migration: of `multifd` and of `postcopy-preempt`, as real connections."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from qmpd.migration import stream
from tests.migration.support import PATIENCE, without_passes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.migration.support import Side, Sides

RELEASES = ("5.2", "7.2", "10.0", "11.1")


class Listener:
    """Plays who waits for a machine; has the connections in the order in which they were made."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._stack = stack
        self.connections: list[socket.socket] = []
        self._arriving: list[stream.Arriving] = []
        # Which connection is the further channel of which number.
        self.places: dict[int, int] = {}
        self._socket = stack.enter_context(socket.socket(socket.AF_UNIX))
        self._socket.bind(str(path))
        self._socket.listen(16)
        self._socket.settimeout(PATIENCE)

    def accept(self, number: int) -> None:
        for _ in range(number):
            connection, _ = self._socket.accept()
            connection.settimeout(PATIENCE)
            self.connections.append(self._stack.enter_context(connection))
            self._arriving.append(stream.Arriving())

    def sections(self, number: int, until: str) -> list[str]:
        """The sections that come over a connection, up to one of this name."""
        found = list[str]()
        while until not in found:
            for name, value in self._arriving[number].take(self.connections[number].recv(1 << 16)):
                found.append(name)
                if name == "channel":
                    self.places[value["number"]] = number
        return found

    def has_more(self) -> bool:
        self._socket.settimeout(0.1)
        try:
            self._socket.accept()[0].close()
        except TimeoutError:
            return False
        return True


def _parameters(side: Side, channels: int) -> None:
    assert side("migrate-set-parameters", multifd_channels=channels, max_bandwidth=4096) == {}


@pytest.mark.parametrize("release", ["7.2", "11.1"])
def test_memory_goes_over_as_many_connections_as_are_asked_for(sides: Sides, tmp_path: Path, release: str) -> None:
    here = sides.one(release)
    here.capabilities("multifd")
    _parameters(here, 3)
    with ExitStack() as stack:
        there = Listener(stack, tmp_path / "m.sock")
        here("migrate", uri=f"unix:{tmp_path}/m.sock")
        there.accept(4)
        assert not there.has_more()
        others = there.connections[1:]
        for number in range(1, 4):
            assert there.sections(number, "channel") == ["channel"]
        assert here.migration["status"] == "setup"
        for each in others:
            each.sendall(stream.head() + stream.section("taken", {}))
        assert there.sections(0, "start") == ["start"]
        assert sorted(there.places) == [0, 1, 2]
        assert there.sections(there.places[1], "pages") == ["pages"]
        assert without_passes(here.until("active")) == ["setup", "active"]
        others[2].close()
        assert here.until("failed")[-1] == "failed"
        assert here.migration == {"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"}
        assert here.state == "running"


@pytest.mark.parametrize("release", RELEASES)
def test_a_machine_goes_over_many_connections(sides: Sides, tmp_path: Path, release: str) -> None:
    there, here = sides.one(release, "-incoming", "defer"), sides.one(release)
    for each in (there, here):
        each.capabilities("multifd")
        _parameters(each, 5)
        each("migrate-set-parameters", max_bandwidth=0)
    place = f"unix:{tmp_path}/m.sock"
    assert there("migrate-incoming", uri=place) == {}
    here("migrate", uri=place)
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    assert (here.state, there.state) == ("postmigrate", "running")
    assert here.migration["ram"]["multifd-bytes"] > 0
    assert not (tmp_path / "m.sock").exists()


# Measured on the real programs, whose target does not even answer any more where it waits (10.0 and 11.1).
@pytest.mark.parametrize(
    ("release", "mine", "theirs", "here_is", "there_is"),
    [
        *((release, 2, 4, "active", "inmigrate") for release in RELEASES),
        *((release, 0, 2, "active", "inmigrate") for release in RELEASES),
        ("5.2", 4, 2, "failed", "inmigrate"),
        ("7.2", 4, 2, "failed", "inmigrate"),
        ("10.0", 4, 2, "setup", "inmigrate"),
        ("11.1", 4, 2, "setup", "inmigrate"),
        *((release, 2, 0, "failed", "gone") for release in RELEASES),
        ("11.1", 4, 0, "setup", "inmigrate"),
    ],
)
def test_channels_that_nobody_waits_for_or_that_never_come(
    sides: Sides, tmp_path: Path, release: str, mine: int, theirs: int, here_is: str, there_is: str
) -> None:
    there, here = sides.one(release, "-incoming", "defer"), sides.one(release)
    for side, number in ((here, mine), (there, theirs)):
        if number:
            side.capabilities("multifd")
            _parameters(side, number)
    place = f"unix:{tmp_path}/m.sock"
    there("migrate-incoming", uri=place)
    here("migrate", uri=place)
    if here_is != "setup":
        here.until(here_is)
    for _ in range(3):
        assert here.migration["status"] == here_is
    if there_is == "gone":
        assert there.is_at_end()
    else:
        assert there.state == there_is
    assert here.state == "running"
    assert here("migrate_cancel") == {}
    if here_is != "failed":
        here.until("cancelled")


def test_memory_that_is_asked_for_has_a_connection_of_its_own(sides: Sides, tmp_path: Path) -> None:
    there, here = sides.one("7.2", "-incoming", "defer"), sides.one("7.2")
    for each in (there, here):
        each.capabilities("postcopy-ram", "postcopy-preempt")
        each("migrate-set-parameters", max_bandwidth=4096)
    with ExitStack() as stack:
        between = Listener(stack, tmp_path / "m.sock")
        there("migrate-incoming", uri=f"unix:{tmp_path}/n.sock")
        here("migrate", uri=f"unix:{tmp_path}/m.sock")
        between.accept(1)
        here.until("active")
        between.connections[0].sendall(stream.head() + stream.section("accepted", {}))
        assert not between.has_more()
        here("migrate-start-postcopy")
        between.accept(1)
        assert between.sections(1, "channel") == ["channel"]
    here.until("failed")
    # The other side waits for it, too.
    here("migrate", uri=f"unix:{tmp_path}/n.sock")
    here.until("active")
    here("migrate-start-postcopy")
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"


def test_memory_that_is_asked_for_goes_beside_many_connections(sides: Sides, tmp_path: Path) -> None:
    """Of the releases here 11.1 alone has both."""
    there, here = sides.one("11.1", "-incoming", "defer"), sides.one("11.1")
    for each in (there, here):
        assert each.capabilities("multifd", "postcopy-ram", "postcopy-preempt") == {}
        _parameters(each, 2)
    place = f"unix:{tmp_path}/m.sock"
    there("migrate-incoming", uri=place)
    here("migrate", uri=place)
    here.until("active")
    here("migrate-start-postcopy")
    here("migrate-set-parameters", max_postcopy_bandwidth=0)
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"
    assert (here.state, there.state) == ("postmigrate", "running")


@pytest.mark.parametrize("release", RELEASES)
def test_a_number_of_connections_that_is_set_too_late(sides: Sides, tmp_path: Path, release: str) -> None:
    """Those that there are go on."""
    there, here = sides.one(release, "-incoming", "defer"), sides.one(release)
    for each in (there, here):
        each.capabilities("multifd", "pause-before-switchover")
        each("migrate-set-parameters", multifd_channels=2, max_bandwidth=0)
    place = f"unix:{tmp_path}/m.sock"
    there("migrate-incoming", uri=place)
    here("migrate", uri=place)
    here.until("pre-switchover")
    assert here("migrate-set-parameters", multifd_channels=9) == {}
    here("migrate-continue", state="pre-switchover")
    assert here.until("completed")[-1] == there.until("completed")[-1] == "completed"


@pytest.mark.parametrize("release", RELEASES)
def test_nobody_is_there_to_whom_it_goes(sides: Sides, release: str) -> None:
    """Where not a byte has gone out later releases say that it came to nothing as it was set up."""
    here = sides.one(release)
    own, other = socket.socketpair()
    other.close()
    with own:
        here.give("f", own.fileno())
    here("migrate", uri="fd:f")
    here.until("failed")
    late = release in ("5.2", "7.2")
    why = "Unable to write to socket: Broken pipe" if late else "ram_save_setup failed: Input/output error"
    assert here.migration == {"status": "failed", "error-desc": why}


# Measured on the real programs.
@pytest.mark.parametrize("release", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("capability", ["return-path", "postcopy-ram"])
def test_a_command_that_ends_at_once_is_lost_as_one_that_answers(sides: Sides, release: str, capability: str) -> None:
    here = sides.one(release)
    here.capabilities(capability)
    here("migrate", uri="exec:false")
    here.until("failed")
    late = release == "7.2"
    why = "Unable to write to command: Broken pipe" if late else "Channel error: Input/output error"
    assert here.migration == {"status": "failed", "error-desc": why}


@pytest.mark.parametrize("release", ["10.0", "11.1"])
def test_somebody_is_there_who_takes_nothing(sides: Sides, tmp_path: Path, release: str) -> None:
    """Whether the first bytes have gone out by the time that the other side ends is no matter, as none is read."""
    here = sides.one(release)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "m.sock"))
        listener.listen()
        listener.settimeout(10)
        for late in (False, True):
            here("migrate", uri=f"unix:{tmp_path}/m.sock")
            with listener.accept()[0] as there:
                if late:
                    assert there.recv(1, socket.MSG_PEEK)
                    here("query-status")
                there.shutdown(socket.SHUT_RDWR)
                here.until("failed")
            assert here.migration["error-desc"] == "ram_save_setup failed: Input/output error"
