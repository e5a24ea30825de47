"""The deliberate defects: each can be planted, and those that are noticed are told from those that are not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from endurance.defects import __main__ as program
from endurance.defects import planting
from endurance.defects.catalogue import DEFECTS
from endurance.defects.planting import ROOT, Defect


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_it_can_be_planted(defect: Defect) -> None:
    source = (ROOT / defect.file).read_text(encoding="utf-8")
    text = planting.planted(defect, source)
    assert text != source
    compile(text, defect.file, "exec")
    assert re.fullmatch(r"[a-z-]+", defect.name)
    assert defect.tests
    assert all((ROOT / test.partition("::")[0]).exists() for test in defect.tests)


def test_the_documentation_tells_of_all_of_them() -> None:
    page = (ROOT / "docs/explanation/endurance.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([a-z-]+) \| ([a-z -]+) \| (.*) \| `(\w+)` \|$", page, re.MULTILINE)
    assert [row[:3] for row in told] == [(defect.name, defect.part, defect.what) for defect in DEFECTS]
    for defect, row in zip(DEFECTS, told, strict=True):
        places = [ROOT / test.partition("::")[0] for test in defect.tests]
        paths = [path for place in places for path in (sorted(place.rglob("*.py")) or [place])]
        assert any(f"def {row[3]}(" in path.read_text(encoding="utf-8") for path in paths), row


def test_names_are_apart() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 20


def test_code_that_has_changed_is_told() -> None:
    with pytest.raises(planting.DoesNotApply, match=r"is there 0 times"):
        planting.planted(replace(DEFECTS[0], old="no such line\n"), "some other line\n")


def test_what_is_noticed_and_what_is_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    planted = next(defect for defect in DEFECTS if defect.name == "one-limit-for-all")
    harmless = replace(planted, name="harmless", new=planted.old + "        # harmless\n")
    monkeypatch.setattr(program, "DEFECTS", (planted, harmless))
    assert program.main(["one-limit-for-all"]) == 0
    assert "all are noticed" in capsys.readouterr().out
    assert program.main(["harmless"]) == 1
    assert "not noticed: harmless" in capsys.readouterr().out
    assert program.main(["unknown"]) == 2
