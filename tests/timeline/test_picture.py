"""What the pictures have to be: well-formed, self-contained, and with nothing on top of anything else."""

from __future__ import annotations

import itertools
import json
import random
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qmpd.cli import timeline
from qmpd.timeline.chart import Chart
from qmpd.timeline.layout import CHARACTER, LABEL, ROW, Layout
from qmpd.timeline.page import html
from qmpd.timeline.picture import svg
from qmpd.timeline.style import MARKS, STATES
from tests.timeline.scenario import Scenario, full

SVG = "{http://www.w3.org/2000/svg}"


def busy(seed: int) -> Scenario:
    """About two hundred marks of several clients, with times from microseconds to minutes."""
    chance = random.Random(seed)
    scenario = Scenario()
    scenario.add("started", release="10.0")
    scenario.state("prelaunch", "running")
    clients: list[int] = []
    for number in range(1, 9):
        scenario.connect(number, after=10 ** chance.uniform(0, 6))
        clients.append(number)
        for _ in range(10):
            client = chance.choice(clients)
            scenario.ask(client, chance.choice(["query-block", "human-monitor-command", "stop"]), text="x" * 60)
            scenario.answer(client, after=10 ** chance.uniform(0, 8))
            if chance.random() < 0.2:
                scenario.event("BALLOON_CHANGE", *clients, data={"actual": 5})
        if chance.random() < 0.5:
            clients.remove(number)
            scenario.add("disconnected", client=number)
    return scenario


@pytest.mark.parametrize("scenario", [full(), busy(1), busy(2)])
def test_nothing_is_on_top_of_anything_else(scenario: Scenario) -> None:
    chart = Chart(scenario.entries)
    layout = Layout(chart)
    assert all(later - y > ROW - 0.01 for y, later in itertools.pairwise(layout.y))
    for row in chart.rows:
        lanes = [mark.lane for mark in row.marks]
        assert len(lanes) == len(set(lanes))
        for mark in row.marks:
            column = layout.columns[mark.lane]
            end = column.line + LABEL + len(layout.label(mark)) * CHARACTER
            assert end <= column.left + column.width
    for gap in layout.breaks:
        assert not any(gap.top < y + ROW / 2 - 0.01 and y - ROW / 2 + 0.01 < gap.top + gap.height for y in layout.y)
    columns = sorted(layout.columns.values(), key=lambda column: column.left)
    assert all(left.left + left.width < right.left + 0.01 for left, right in itertools.pairwise(columns))


def test_long_times_are_breaks_that_say_how_long() -> None:
    layout = Layout(Chart(full().entries))
    assert [gap.text for gap in layout.breaks] == ["2 s", "600 ms", "90 s"]


def test_where_all_is_fast_the_longest_time_is_a_break() -> None:
    scenario = Scenario()
    for after in (1, 2, 1, 400, 2, 1):
        scenario.add("guest", after, step="x")
    assert [gap.text for gap in Layout(Chart(scenario.entries)).breaks] == ["400 µs"]


def test_svg_is_one_whole_picture() -> None:
    picture = svg(full().entries)
    root = ET.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert not re.search(r"(href|src|url\()", picture), "nothing is loaded from anywhere"
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert "QEMU 7.2 · web-1" in texts
    for text in ("running", "paused", "set-action reboot=shutdown", "drop-connection on query-block", "+ 90 s"):
        assert text in texts
    marked = {number for each in root.iter(f"{SVG}g") for number in each.get("data-entry", "").split()}
    assert marked == {str(entry.number) for entry in full().entries}
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for element in root.iter(f"{SVG}text"):
        assert 0 <= float(element.attrib["x"]) <= width
        assert 0 <= float(element.attrib["y"]) <= height


def test_the_legend_has_what_is_there_and_nothing_else() -> None:
    scenario = Scenario()
    scenario.connect(1)
    root = ET.fromstring(svg(scenario.entries))
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert "connected" in texts
    assert not {"fault", "event", "command"} & texts


def test_an_empty_transcript_is_an_empty_picture() -> None:
    ET.fromstring(svg([]))
    assert "Transcript" in html([])


def test_colours_can_be_read() -> None:
    """Every text on its ground has the contrast that WCAG asks for (4.5 to 1)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(one: str, other: str) -> float:
        dark, bright = sorted((luminance(one), luminance(other)))
        return (bright + 0.05) / (dark + 0.05)

    for look in MARKS.values():
        assert contrast(look.colour, "#ffffff") >= 4.5, look
    for colour in STATES.values():
        assert contrast("#1b1f24", colour) >= 4.5


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.scripts = ""
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert "src" not in values
        assert "href" not in values
        if tag == "tr" and values.get("id"):
            self.rows.append(str(values["id"]))
        self._in_script = tag == "script" and values.get("type") == "application/json"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts += data

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


def test_a_page_has_a_table_of_all_entries_and_what_is_behind_them() -> None:
    scenario = full()
    scenario.add("received", client=4, message={"execute": "</script><script>alert(1)</script>"})
    page = Page(html(scenario.entries, "<title>"))
    numbers = [entry.number for entry in scenario.entries]
    assert page.rows == [f"entry-{number}" for number in numbers]
    behind = json.loads(page.scripts)
    assert [behind[str(number)] for number in numbers] == scenario.members


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transcript, picture, page = tmp_path / "t.jsonl", tmp_path / "t.svg", tmp_path / "t.html"
    transcript.write_text("".join(json.dumps(members) + "\n" for members in full().members), encoding="utf-8")
    assert timeline.main([str(transcript), "-o", str(picture), "-title", "A title", "-from", "3", "-to", "9"]) == 0
    root = ET.fromstring(picture.read_text(encoding="utf-8"))
    marked = {int(number) for each in root.iter(f"{SVG}g") for number in each.get("data-entry", "").split()}
    assert marked == set(range(3, 10))
    assert timeline.main(["-o", str(page), str(transcript)]) == 0
    assert "<table>" in page.read_text(encoding="utf-8")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["t.jsonl", "-o", "out.pdf"], "-o takes a name that ends in .svg or .html"),
        (["-o", "out.svg"], "one transcript is drawn (qmpd timeline --help tells more)"),
        (["none.jsonl", "-o", "out.svg"], "none.jsonl: No such file or directory"),
        (["empty.jsonl", "-o", "out.svg"], "empty.jsonl: there is nothing to draw"),
        (["bad.jsonl", "-o", "out.svg"], "bad.jsonl: line 1: it is no JSON object"),
        (["lost.jsonl", "-o", "out.svg"], "lost.jsonl: line 1: an entry of kind 'sent' has a client"),
        (["empty.jsonl", "-o", "out.svg", "-from", "x"], "-from: 'x' is no number"),
        (["empty.jsonl", "-o", "none/out.svg"], "empty.jsonl: there is nothing to draw"),
        (["t.jsonl", "-foo"], "-foo: no such option; there are '--from', '--help', '--title' and '--to'"),
    ],
)
def test_what_the_command_complains_about(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("bad.jsonl").write_text("3\n")
    Path("lost.jsonl").write_text('{"number": 1, "time": 0, "kind": "sent", "client": "x"}\n')
    assert timeline.main(arguments) == 1
    assert capsys.readouterr().err == f"qmpd timeline: {complaint}\n"


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert timeline.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: qmpd timeline")
