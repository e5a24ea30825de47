"""The mutation run's own logic: which mutants are looked at, what is told of them, and what may not survive."""

from __future__ import annotations

import ast
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from endurance.defects.planting import ROOT, CannotRun
from endurance.mutants import __main__ as program
from endurance.mutants import running
from endurance.mutants.mutant import Equivalent, Mutant, Verdict, difference, verdict
from endurance.mutants.page import Findings, page, table
from endurance.mutants.sampling import FOLDERS, WHOLE, chosen

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "explanation" / "mutants.md"


def mutants(file: str, count: int) -> list[Mutant]:
    return [Mutant(file, each, "run", f"a = {each}", f"a = {each + 1}", f"{file} {each}") for each in range(count)]


TURN, EVENTS, SESSION = WHOLE
SOME = [*mutants("qmpd/wire/lexer.py", 40), *mutants(TURN, 5), *mutants("qmpd/machine/machine.py", 40)]


def test_the_same_seed_chooses_the_same() -> None:
    first = chosen(SOME, 1, 20)
    assert chosen(reversed(SOME), 1, 20) == first == sorted(first)
    assert len(first) == 25
    assert {each for each in first if each.file == TURN} == set(mutants(TURN, 5))
    assert {each.file for each in first} == {each.file for each in SOME}
    others = chosen(SOME, 2, 20)
    assert others != first
    assert len(others) == 25
    assert set(first) < set(chosen(SOME, 1, 30))
    assert chosen(SOME, 1, 1000) == sorted(SOME)
    assert chosen(SOME, 1, 0) == mutants(TURN, 5)


def test_a_change_elsewhere_leaves_the_choice() -> None:
    fewer = [each for each in SOME if each.line != 7]
    assert set(chosen(fewer, 1, 20)) >= {each for each in chosen(SOME, 1, 20) if each.line != 7}


@pytest.mark.parametrize(("status", "found"), [
    (None, None), (2, None), (34, None), (0, Verdict.SURVIVED), (5, Verdict.SURVIVED), (33, Verdict.SURVIVED),
    (1, Verdict.TESTS), (3, Verdict.TESTS), (-24, Verdict.TESTS), (-11, Verdict.TESTS), (37, Verdict.TYPES),
])  # fmt: skip
def test_what_an_exit_status_says(status: int | None, found: Verdict | None) -> None:
    assert verdict(status) is found


@pytest.mark.parametrize(("old", "new", "told"), [
    (["def f(a=1):", "    b", "    c"], ["def f(a=2):", "    b", "    c"], (0, "def f(a=1):", "def f(a=2):")),
    (["f", "  b", "  c"], ["f", "  b", "  d"], (2, "c", "d")),
    (["f", "  b", "  c", "  d"], ["f", "  d"], (1, "b\nc", "")),
    (["f", "  b", "  c", "  d"], ["f", "  x", "  c", "  y"], (1, "b\nc\nd", "x\nc\ny")),
])  # fmt: skip
def test_what_differs(old: list[str], new: list[str], told: tuple[int, str, str]) -> None:
    assert difference(old, new) == told


def findings(left: int = 0) -> Findings:
    """One survives, and one that makes no difference; so many more are chosen and not looked at."""
    found = chosen(SOME, 1, 20)
    verdicts = {each.key: Verdict.TESTS for each in found}
    lexer = [each for each in found if each.file == "qmpd/wire/lexer.py"]
    verdicts |= {lexer[0].key: Verdict.SURVIVED, lexer[1].key: Verdict.TYPES, lexer[2].key: Verdict.SURVIVED}
    same = Equivalent(lexer[2].file, lexer[2].function, lexer[2].old, lexer[2].new, "Nobody looks.")
    return Findings(SOME, chosen(SOME, 1, 20 + left), verdicts, [same])


def test_the_score() -> None:
    found = findings()
    scores = found.scores()
    assert list(scores) == sorted(scores)
    wire = scores["qmpd/wire/lexer.py"]
    assert wire.mutants == 39
    assert wire.by == {Verdict.TYPES: 1, Verdict.SURVIVED: 1, Verdict.TESTS: wire.looked_at - 2}
    assert scores[TURN].percent == "100 %"
    assert len(found.survivors()) == 1
    total = table(found).splitlines()[-1]
    assert total.startswith("| **together** | 84 | 24 | 1 | 22 | 1 | 95.8 % |")
    assert table(Findings(SOME, SOME, {}, [])).splitlines()[-1] == "| **together** | 85 | 0 | 0 | 0 | 0 |  |"


def test_a_score_is_no_hundred_where_one_survived() -> None:
    many = mutants("a", 5000)
    verdicts = {each.key: Verdict.TESTS for each in many} | {many[0].key: Verdict.SURVIVED}
    assert Findings(many, many, verdicts, []).scores()["a"].percent == "99.9 %"


def test_the_page() -> None:
    text = page(findings(left=3), "--seed 7")
    assert "`./scripts/mutants --seed 7`; it did not come to 3 that were chosen" in text
    assert "Nobody looks." in text
    (one,) = findings().survivors()
    assert f"| `qmpd/wire/lexer.py:{one.line}` | run | `{one.old}` | `{one.new}` |" in text
    quiet = page(Findings(mutants(TURN, 1), [], {}, []), "")
    assert "There are none." in quiet
    assert "makes no difference" not in quiet
    odd = replace(mutants("a", 1)[0], old="a = `b` | c\nd", new="")
    lost = page(Findings([odd], [odd], {odd.key: Verdict.SURVIVED}, []), "")
    assert "| `` a = `b` \\| c d `` | (nothing) |" in lost


@pytest.mark.parametrize(("file", "survives", "status"), [
    ("qmpd/wire/lexer.py", False, 0), ("qmpd/wire/lexer.py", True, 0), (TURN, True, 1), (EVENTS, True, 1),
    (SESSION, True, 1), (SESSION, False, 0),
])  # fmt: skip
def test_what_must_not_survive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    file: str, survives: bool, status: int,
) -> None:  # fmt: skip
    """mutmut is not run here; `./scripts/mutants` runs it."""
    made = mutants(file, 3)
    monkeypatch.setattr(program, "copy", lambda _: nullcontext(tmp_path))
    monkeypatch.setattr(running, "configure", lambda *_: None)
    monkeypatch.setattr(running, "made", lambda *_: made)
    monkeypatch.setattr(running, "run", lambda *_: None)
    what = Verdict.SURVIVED if survives else Verdict.TESTS
    found = {each.key: Verdict.TYPES for each in made} | {made[0].key: what}
    monkeypatch.setattr(running, "verdicts", lambda *_: found)
    written = tmp_path / "page.md"
    assert program.main(["-o", str(written)]) == status
    told = capsys.readouterr().out
    assert f"{int(survives)} survived, {'1 that' if status else 'none that'} must not" in told
    assert "no time" not in told
    assert table(Findings(made, made, found, [])) in written.read_text()
    # Whatever is named must not lose any, either.
    assert program.main([file]) == int(survives)
    # What was not looked at may have survived.
    del found[made[0].key]
    assert program.main([]) == int(file in WHOLE)
    assert "no time for 1" in capsys.readouterr().out


def test_what_cannot_be_run_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(*_: object) -> list[Mutant]:
        raise CannotRun("no such thing")

    monkeypatch.setattr(program, "copy", lambda _: nullcontext(tmp_path))
    monkeypatch.setattr(running, "made", fails)
    assert program.main([]) == 2
    assert "no such thing" in capsys.readouterr().err
    assert program.main(["qmpd/nothing.py"]) == 2
    assert "there is no file qmpd/nothing.py" in capsys.readouterr().err


def test_what_is_written_down_is_read(tmp_path: Path) -> None:
    made = mutants("qmpd/a.py", 4)
    assert running.verdicts(tmp_path, made) == {}
    meta = tmp_path / "mutants" / "qmpd" / "a.py.meta"
    meta.parent.mkdir(parents=True)
    meta.write_text('{"exit_code_by_key": {"qmpd/a.py 0": 0, "qmpd/a.py 1": 1, "qmpd/a.py 2": null, "other": 1}}')
    assert running.verdicts(tmp_path, made) == {"qmpd/a.py 0": Verdict.SURVIVED, "qmpd/a.py 1": Verdict.TESTS}


def test_what_is_listed_as_equivalent_is_there() -> None:
    for each in running.equivalents():
        is_there(each)


def is_there(each: Equivalent) -> None:
    source = (ROOT / each.file).read_text(encoding="utf-8")
    names = each.function.split(".")
    body: list[ast.stmt] = ast.parse(source).body
    node: ast.stmt | None = None
    for name in names:
        node = next(each for each in body if getattr(each, "name", None) == name)
        body = getattr(node, "body", [])
    assert node is not None
    text = ast.get_source_segment(source, node)
    assert text is not None
    lines = "\n".join(line.strip() for line in text.split("\n"))
    assert lines.count(each.old) == 1
    assert each.reason.endswith(".")
    assert each.old != each.new


def test_the_files_are_there() -> None:
    assert all((ROOT / each).is_file() and each.startswith(FOLDERS) for each in WHOLE)
    left_out = [option.partition("=")[2].partition("::")[0] for option in running.LEFT_OUT]
    assert all((ROOT / each).exists() for each in [*running.TESTS, *left_out])


@pytest.mark.parametrize("file", WHOLE)
def test_the_page_of_the_documentation_has_no_survivor_that_must_not(file: str) -> None:
    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{file}` |"))
    _, _, there, looked_at, _, _, survived, score, _ = (cell.strip() for cell in row.split("|"))
    assert (looked_at, survived, score) == (there, "0", "100 %")


def test_mutmuts_mutants_have_their_places(tmp_path: Path) -> None:
    pytest.importorskip("mutmut", reason="of the extra `mutants`")
    lines = ["class Thing:", "    @property", "    def size(self):", "        return 1", "", "    def grow(self):",
             "        self.a = 7", "", "def find(a, b=3):", "    # Why.", "    return a + b"]  # fmt: skip
    (tmp_path / "a.py").write_text("\n".join(lines) + "\n")
    running.configure(tmp_path, ["a.py"], 1)
    made = running.made(tmp_path, ["a.py"])
    assert {each.function for each in made} == {"Thing.grow", "find"}
    assert (7, "self.a = 7", "self.a = 8") in {(each.line, each.old, each.new) for each in made}
    assert (9, "def find(a, b=3):", "def find(a, b=4):") in {(each.line, each.old, each.new) for each in made}
    assert (11, "return a + b", "return a - b") in {(each.line, each.old, each.new) for each in made}
    assert all(lines[each.line - 1].strip() == each.old for each in made)
    assert len({each.key for each in made}) == len(made)
