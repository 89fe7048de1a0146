"""The open questions: complete, checked, and computed from the records."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from tiny_book import ROOT, make_book

from fmabs_lite.lesson import questions
from fmabs_lite.lesson.questions import QuestionError, in_full, read_questions, told_apart, verdict
from fmabs_lite.lesson.records import Record, book_yaml, committed
from fmabs_lite.press.plan import _book_files_read, toc

PAIR = dict(setup="three", ours="plain", other="more", key="auroc", says="AUROC")
TEXT = {name: "A sentence." for name in ("question", "paper_says", "why", "ours", "other")}
ENTRY = dict(id="A1", paper="Paper", theme="loss", chapters=[3], measured=[PAIR], **TEXT)
ROWS = {
    "plain": [{"auroc": 0.90, "ap": 0.5}, {"auroc": 0.80, "ap": 0.1}, {"auroc": 0.70, "ap": 0.3}],
    "more": [{"auroc": 0.92}, {"auroc": 0.81}, {"auroc": 0.73}],
    "one": [{"auroc": 0.9}],
}


def record(**results) -> Record:
    """A record of the small book that was never written."""
    return Record("03_three", "cpu", {}, results or {"rows": ROWS}, "cpu", 1.0, {}, {}, "")


HELD = {"03_three": record()}


@pytest.fixture
def book(tmp_path: Path, monkeypatch):
    """Write entries into a small book; returns the writer."""
    repo = make_book(tmp_path / "small")
    setups = {"three": {"chapter": "03_three", "at": ["rows"]}}
    (repo / "book" / "ledger.yml").write_text(yaml.safe_dump({"setups": setups}))
    monkeypatch.chdir(repo)

    def write(*entries: dict) -> Path:
        content = {"themes": ["loss"], "chapters": ["03_three"], "questions": list(entries)}
        (repo / "book" / "open_questions.yml").write_text(yaml.safe_dump(content))
        return repo

    return write


def measured(**changes) -> dict:
    """The entry with one pair, some of whose fields are changed."""
    return ENTRY | {"measured": [PAIR | changes]}


def without(name: str) -> dict:
    return {key: value for key, value in ENTRY.items() if key != name}


def test_all_questions_of_both_papers_stand_in_order():
    found = read_questions()
    wanted = [f"A{n}" for n in range(1, 29)] + [f"B{n}" for n in range(1, 20)]
    assert [question.id for question in found] == wanted
    for question in found:
        assert question.paper == {"A": "FMABS", "B": "AST-MFR"}[question.id[0]]
        assert question.question.endswith("?") and len(question.question) < 80
        assert all(isinstance(text, str) and text for text in question[:8])
        assert question.paper == "FMABS" or not question.code  # AST-MFR has released none
    assert {question.theme for question in found} == {*book_yaml("open_questions.yml")["themes"]}


def test_chapters_are_those_of_the_book():
    assert {*book_yaml("open_questions.yml")["chapters"]} <= {*toc(ROOT)}


def test_every_pair_finds_its_rows_in_the_committed_records():
    pairs = {q["id"]: len(q["measured"]) for q in book_yaml("open_questions.yml")["questions"]}
    found = {question.id: question for question in read_questions()}
    assert {name: len(question.measured) for name, question in found.items()} == pairs
    base, copied = (
        [run["pro"] for run in committed("08_the_loss").results["rows"][row]]
        for row in ("base", "copied")
    )
    by_hand = 100 * sum(a - b for a, b in zip(base, copied, strict=True)) / len(base)
    pro = [one for one in found["A12"].measured if "PRO" in one.says]
    assert [one.gap.mean for one in pro] == [pytest.approx(by_hand)]
    assert pro[0].record == "08_the_loss.cpu.json" and found["A12"].status == "measured"


def test_texts_hold_no_result_of_ours():
    """Numbers belong to records: only a setting, or a number of the papers, stands in a text."""
    texts = " ".join(text for question in read_questions() for text in question[3:10])
    assert {*re.findall(r"(?<!Section )\b\d+\.\d+", texts)} == {"0.3", "0.5"}  # masking rates
    assert re.findall(r"\d+ ?%", texts) == ["30 %"]  # of PRO


def test_a_difference_is_ours_minus_the_other_in_points(book):
    book(ENTRY)
    (question,) = read_questions(HELD)
    (one,) = question.measured
    assert one.says == "AUROC" and one.record == "03_three.cpu.json"
    assert one.gap.mean == pytest.approx(-2.0) and one.gap.seeds == 3  # of −2, −1 and −3
    half = 4.302653 * 1 / 3**0.5  # Student's t with two degrees of freedom, deviation 1
    assert one.gap.low == pytest.approx(-2 - half, abs=1e-5)
    assert one.gap.high == pytest.approx(-2 + half, abs=1e-5)


def test_the_other_row_may_have_another_metric(book):
    book(measured(ours="more", other="plain", key="auroc", other_key="ap"))
    assert read_questions(HELD)[0].measured[0].gap.mean == pytest.approx(52.0)  # of 42, 71 and 43


def test_a_pair_may_name_a_part_of_a_record_itself(book):
    pair = {**PAIR, "chapter": "03_three", "at": ["deep", "rows"]}
    del pair["setup"]
    book(ENTRY | {"measured": [pair]})
    held = {"03_three": record(deep={"rows": ROWS})}
    assert read_questions(held)[0].measured[0].gap.mean == pytest.approx(-2.0)


def test_without_a_record_a_question_is_not_run(book):
    book(ENTRY, ENTRY | {"id": "A2", "seen": "In a figure."})
    one, other = read_questions()
    assert one.measured == () and one.status == "not run" and one.code == ""
    assert other.status == "seen"


def test_a_single_seed_measures_nothing(book):
    book(measured(ours="one"))
    assert read_questions(HELD)[0].measured == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (ENTRY | {"colour": "red"}, "A1: unknown field colour"),
        (without("why"), "A1: missing why"),
        (without("chapters"), "A1: missing chapters"),
        (without("id"), "without id: missing id"),
        (ENTRY | {"theme": "weather"}, "A1: unknown theme weather; there are: loss"),
        (ENTRY | {"chapters": [3, 4]}, "A1: unknown chapter 4; there are: 3"),
        (measured(row="plain"), "A1, measured: unknown field row"),
        (measured(setup="four"), "A1, measured: unknown set-up four; there are: three"),
        (measured(other="less"), "A1: record 03_three.cpu: there is no 'less'; .* correct"),
        (measured(key="pro"), "there is no 'pro'; there are: auroc, ap; correct"),
        (ENTRY | {"measured": [{**PAIR, "setup": "three"} | {"says": "x"}, {"says": "x"}]},
         "measured: missing at, chapter, other, ours"),
        (ENTRY | {"measured": [{"ours": "a", "other": "b", "says": "c", "at": [],
                                "chapter": "04_four"}]}, "unknown chapter 04_four"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(book, entry, message):
    book(entry)
    with pytest.raises(QuestionError, match=f"open_questions.yml, .*{message}"):
        read_questions(HELD)


def test_the_verdict_follows_from_the_intervals(book):
    seen = ENTRY | {"id": "A2", "measured": [], "seen": "In a figure."}
    book(ENTRY, seen, ENTRY | {"id": "A3", "measured": []})
    one, other, third = read_questions(HELD)
    assert not told_apart(one) and verdict(one) == "not told apart"  # -4.5 to +0.5
    assert (verdict(other), verdict(third)) == ("seen in another way", "not run")
    far = [{"auroc": run["auroc"] + 0.1} for run in ROWS["more"]]
    (one, *_) = read_questions({"03_three": record(rows=ROWS | {"more": far})})
    assert told_apart(one) and verdict(one) == "told apart"


def test_a_question_in_full_has_what_is_known_and_no_more(book, monkeypatch):
    said = []
    monkeypatch.setattr(questions, "say", said.append)
    book(ENTRY | {"paper_says": "nothing"})
    found = read_questions(HELD)
    lines = in_full(found[0]).splitlines()
    assert lines[0] == "- **The paper:** nothing"
    assert lines[2] == "- **Our reading:** A sentence. (in 03)"
    assert lines[-1].startswith("- **Ours minus the other,** AUROC: -2.0 points (95 % interval")
    assert not any("authors' code" in line or "Seen" in line for line in lines)
    questions.unfold(found, "loss")
    assert said[0].startswith("<details><summary><b>A1</b> <i>not told apart</i> A sentence.<")
    assert in_full(found[0]) in said[0] and said[0].endswith("</details>")
    questions.unfold(found, "score")
    assert said[1] == ""


def test_two_questions_with_one_id_are_refused(book):
    book(ENTRY, ENTRY)
    with pytest.raises(QuestionError, match="A1: there are two of them"):
        read_questions(HELD)


def test_a_wrong_line_is_named_without_its_record_too(book):
    """A misspelt name must not pass for a record that is still to come."""
    book(measured(setup="thee"))
    with pytest.raises(QuestionError, match="unknown set-up thee"):
        read_questions()


def test_a_chapter_on_the_questions_depends_on_every_record(book):
    repo = book(ENTRY)
    shutil.copytree(ROOT / "book" / "records", repo / "book" / "records")
    (repo / "book" / "paper_tables.yml").write_text("tables: {}\n")
    code = "from fmabs_lite.lesson.questions import Question"
    notebook = new_notebook(cells=[new_code_cell(code)])
    read = _book_files_read(repo, "17_open_questions", notebook, "quick")
    yamls = {"paper_tables.yml", "ledger.yml", "open_questions.yml"}
    assert set(read) == {path.name for path in (ROOT / "book" / "records").glob("*.json")} | yamls
    ledger = new_notebook(cells=[new_code_cell("import fmabs_lite.lesson.ledger")])
    assert "open_questions.yml" not in _book_files_read(repo, "16_ledger", ledger, "quick")


def test_the_wheel_carries_the_questions():
    assert '"book/open_questions.yml" = "fmabs_lite/_book/' in (ROOT / "pyproject.toml").read_text()


def test_reading_needs_no_torch():
    code = "import sys; from fmabs_lite.lesson.questions import read_questions; read_questions(); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
