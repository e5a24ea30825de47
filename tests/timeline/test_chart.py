from __future__ import annotations

from qmpd.timeline.chart import Chart, Mark
from tests.timeline.scenario import Scenario, full


def texts(chart: Chart, lane: int) -> list[str]:
    return [mark.text for row in chart.rows for mark in row.marks if mark.lane == lane and mark.text]


def styles(marks: list[Mark]) -> list[tuple[int, str]]:
    return [(mark.lane, mark.style) for mark in marks]


def test_everybody_has_a_lane() -> None:
    chart = Chart(full().entries)
    assert [lane.title for lane in chart.lanes] == ["machine", "puppeteer", "client 1", "client 2"]
    assert chart.lanes[2].subtitle == "compat_monitor0"
    assert texts(chart, 0) == [
        "QEMU 7.2, web-1",
        "RESUME",
        "booted",
        "RESET guest=true reason=guest-reset",
        "SHUTDOWN guest=true reason=guest-reset",
        "STOP",
        "ended, exit status 0",
    ]
    assert texts(chart, 1) == ["guest-reboot", "drop-connection on query-block", "reply to query-cpus-fast made up"]
    assert texts(chart, 3) == [
        "connected, greeting 7.2.0",
        "qmp_capabilities",
        "return {}",
        "query-block",
        '‹{"return": [{"io-st\\x00›',
        "disconnected, no reply to query-block",
    ]


def test_an_event_and_those_who_hear_it_at_once_share_a_row() -> None:
    chart = Chart(full().entries)
    (reset,) = [row for row in chart.rows if row.marks and row.marks[0].text.startswith("RESET")]
    assert styles(reset.marks) == [(0, "event"), (2, "heard"), (3, "heard")]
    assert reset.linked


def test_an_event_that_is_heard_late_has_a_row_of_its_own() -> None:
    scenario = Scenario()
    scenario.connect(1)
    scenario.event("STOP", 1)
    scenario.event("RESUME")
    scenario.ask(1, "query-status")
    scenario.add("sent", client=1, message={"event": "RESUME", "timestamp": {}})
    chart = Chart(scenario.entries)
    assert styles(chart.rows[-1].marks) == [(2, "heard")]
    assert chart.rows[-1].marks[0].text == "RESUME"


def test_states_follow_each_other_and_each_has_height() -> None:
    scenario = Scenario()
    scenario.add("started", release="7.2")
    scenario.state("prelaunch", "running")
    scenario.state("running", "paused")
    scenario.state("paused", "running")
    scenario.event("RESUME")
    chart = Chart(scenario.entries)
    names = [(state.name, state.row) for state in chart.states]
    assert names == [("prelaunch", 0), ("running", 1), ("paused", 2), ("running", 3)]
    assert len(chart.rows) == 4


def test_commands_wait_for_the_reply_with_their_id() -> None:
    scenario = Scenario()
    scenario.connect(1)
    for identity in ("a", "b"):
        scenario.add("received", client=1, message={"execute": "query-block", "id": identity})
    scenario.answer(1, [], id="b")
    scenario.answer(1, [], id="a")
    chart = Chart(scenario.entries)
    assert [(work.depth, work.first, work.last) for work in chart.works] == [(0, 1, 4), (1, 2, 3)]
    assert chart.rows[-1].marks[0].text == "return [] (query-block)"


def test_a_command_without_a_reply_is_broken_off_by_the_end_of_the_connection() -> None:
    chart = Chart(full().entries)
    broken = [work for work in chart.works if work.broken]
    assert len(broken) == 1
    assert chart.rows[broken[0].first].marks[0].text == "query-block"
    assert broken[0].last is not None
    assert chart.rows[broken[0].last].marks[0].style == "disconnected"


def test_a_fault_points_at_the_client_that_it_strikes() -> None:
    chart = Chart(full().entries)
    (fault,) = [row for row in chart.rows if row.marks and row.marks[0].style == "fault"]
    assert styles(fault.marks) == [(1, "fault"), (3, "struck")]
    assert fault.linked


def test_a_client_of_which_the_beginning_is_not_known_has_a_lane() -> None:
    scenario = Scenario()
    scenario.ask(7, "stop")
    scenario.answer(7)
    chart = Chart(scenario.entries)
    assert chart.lanes[2].title == "client 7"
    assert chart.lives[0].first is None


def test_many_clients_share_lanes_when_they_are_gone() -> None:
    scenario = Scenario()
    for client in range(1, 21):
        scenario.connect(client)
        if client != 3:
            scenario.add("disconnected", client=client)
    chart = Chart(scenario.entries)
    assert len(chart.lanes) == 10
    assert chart.lanes[2].title == "client 1, 9, 16"
    assert chart.lanes[4].title == "client 3"
    assert "client 16 connected, greeting 7.2.0" in texts(chart, 2)


def test_a_reply_that_comes_in_pieces_is_a_reply_when_it_is_whole() -> None:
    scenario = Scenario()
    scenario.connect(1)
    scenario.ask(1, "query-block")
    scenario.ask(1, "stop")
    scenario.add("sent", client=1, text='{"return')
    scenario.add("sent", client=1, text='": []}\r\n')
    scenario.answer(1)
    chart = Chart(scenario.entries)
    assert [work.last for work in chart.works] == [4, 5]
    assert texts(chart, 2)[-2:] == ['‹": []}\\x0d\\x0a› (query-block)', "return {} (stop)"]
