"""The diagrams: true to the tables, legible, and current where they are shown."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qmpd.cli.graph import main
from qmpd.diagram.layout import arrange
from qmpd.diagram.mermaid import mermaid
from qmpd.diagram.model import DIAGRAMS, StateDiagram, Transition
from qmpd.diagram.svg import svg
from qmpd.machine.live_update import STAGE_TRANSITIONS
from qmpd.machine.run_state import RunState, transitions
from qmpd.qapi import load_release

ROOT = Path(__file__).parent.parent.parent
NAMESPACE = "{http://www.w3.org/2000/svg}"


def of_mermaid(text: str) -> set[tuple[str, str]]:
    """The transitions that the text shows, by arrows and in the boxes."""
    arrows = re.findall(r"^    (\w+) --> (\w+)", text, re.MULTILINE)
    listed = re.findall(r"^    (\w+) : (?:also|in some releases) to (.*)$", text, re.MULTILINE)
    found = set(arrows) | {(source, target) for source, targets in listed for target in targets.split(", ")}
    return {(source.replace("_", "-"), target.replace("_", "-")) for source, target in found}


def test_every_transition_of_the_tables_is_shown() -> None:
    shown = of_mermaid(mermaid(DIAGRAMS["run-states"]()))
    tables = {
        (str(source), str(target))
        for release in ("5.2", "7.2", "10.0")
        for source, targets in transitions(load_release(release).behaviour).items()
        for target in targets
    }
    assert shown == tables
    assert {state for arrow in shown for state in arrow} == set(RunState)
    shown = of_mermaid(mermaid(DIAGRAMS["update-stages"]()))
    assert shown == {(str(source), str(target)) for source, targets in STAGE_TRANSITIONS.items() for target in targets}


def test_what_holds_in_some_releases_alone_is_told_apart() -> None:
    sometimes = {(each.source, each.target) for each in DIAGRAMS["run-states"]().transitions if each.sometimes}
    always = transitions(load_release("7.2").behaviour)
    assert sometimes
    assert not any(RunState(target) in always[RunState(source)] for source, target in sometimes)


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_drawing_shows_each_state_and_arrow_once(name: str) -> None:
    diagram = DIAGRAMS[name]()
    drawing = ElementTree.fromstring(svg(diagram))
    texts = [element.text for element in drawing.iter(f"{NAMESPACE}text") if element.get("class") == "state"]
    assert sorted(map(str, texts)) == sorted(diagram.states)
    heads = [
        element
        for element in drawing.iter(f"{NAMESPACE}path")
        if {"marker-start", "marker-end"} & set(element.keys())
    ]
    assert len(heads) == len(diagram.arrows()) + len(diagram.initial) + len(diagram.final)


@pytest.mark.parametrize("name", DIAGRAMS)
def test_no_boxes_overlap_and_no_text_leaves_its_box(name: str) -> None:
    drawing = ElementTree.fromstring(svg(DIAGRAMS[name]()))
    boxes = []
    for element in drawing.iter(f"{NAMESPACE}rect"):
        if (element.get("class") or "").startswith("box") and element.get("rx") == "7":
            x, y, width, height = (float(element.get(key) or 0) for key in ("x", "y", "width", "height"))
            boxes.append((x, y, x + width, y + height))
    assert len(boxes) == len(DIAGRAMS[name]().states)
    for (left, top, right, bottom), (x0, y0, x1, y1) in combinations(boxes, 2):
        assert right < x0 or x1 < left or bottom < y0 or y1 < top
    limits = [float(drawing.get(key) or 0) for key in ("width", "height")]
    assert all(right < limits[0] and bottom < limits[1] for _, _, right, bottom in boxes)
    for element in drawing.iter(f"{NAMESPACE}text"):
        if element.get("class") == "state":
            x, y = float(element.get("x") or 0), float(element.get("y") or 0)
            half = len(element.text or "") * 7.4 / 2
            assert any(
                left <= x - half and x + half <= right and top < y < bottom for left, top, right, bottom in boxes
            )


def test_arrows_run_from_left_to_right_but_for_those_that_close_a_cycle() -> None:
    sizes = dict.fromkeys("abcd", (50.0, 20.0))
    layout = arrange(sizes, [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"), ("d", "c")], frozenset("a"))
    layers = {name: place.layer for name, place in layout.boxes.items()}
    assert layers == {"a": 0, "b": 1, "c": 2, "d": 1}
    assert [route.backwards for route in layout.routes] == [False, False, True, False, False]
    assert [len(route.places) for route in layout.routes] == [2, 2, 3, 3, 2]


def test_states_that_many_lead_to_are_told_by_letters() -> None:
    states = ["hub", *"abcdefg"]
    diagram = StateDiagram("t", states, [Transition(state, "hub", state == "a") for state in "abcdefg"], frozenset())
    assert diagram.popular() == {"hub": "H"}
    assert diagram.arrows() == []
    assert diagram.letters("a") == [("hub", True)]
    assert diagram.letters("b") == [("hub", False)]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == mermaid(DIAGRAMS["run-states"]())
    assert main(["update-stages", "--format", "svg"]) == 0
    assert capsys.readouterr().out == svg(DIAGRAMS["update-stages"]())
    for arguments, complaint in (
        (
            ["cats"],
            "qmpd graph: cats: no such diagram; "
            "there are 'job-states', 'migration-states', 'run-states' and 'update-stages'\n",
        ),
        (["--format", "png"], "qmpd graph: --format: png: no such format; there are 'mermaid' and 'svg'\n"),
    ):
        assert main(arguments) == 1
        assert capsys.readouterr().err == complaint
    assert main(["--help"]) == 0
    assert "--format" in capsys.readouterr().out


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_pictures_of_the_documentation_are_current(name: str) -> None:
    picture = ROOT / "docs" / "images" / f"{name}.svg"
    assert picture.read_text() == svg(DIAGRAMS[name]()), f"run qmpd graph {name} --format svg again"
