"""The primary questions: what they ask for is there, and the paper's gain is the printed one."""

from __future__ import annotations

import pytest

from fmabs_lite.lesson import planned as module
from fmabs_lite.lesson.planned import planned
from fmabs_lite.lesson.records import RecordError, book_yaml

LINE = {
    "asks": "Does it?", "row": "boosted", "other": "plain", "key": "own", "beats": ["plain", "no"],
    "seeds": 6, "because": "A pilot.",
    "paper": [["fmabs-1", "frames, MNAD+SCA", "Avenue"], ["fmabs-1", "frames, MNAD", "Avenue"]],
}  # fmt: skip


def write(monkeypatch, *lines) -> None:
    """Lines in place of the book's own."""

    def read(name: str):
        return {"11_mnad": list(lines)} if name == "questions.yml" else book_yaml(name)

    monkeypatch.setattr(module, "book_yaml", read)


def test_the_papers_gain_is_the_difference_of_two_printed_cells(monkeypatch):
    write(monkeypatch, LINE, {key: LINE[key] for key in LINE if key != "paper"})
    with_gain, without = planned("11_mnad")
    assert (with_gain.detector, with_gain.trivial) == ("plain", ("no",))
    assert with_gain.paper == pytest.approx(84.9 - 83.5)
    assert without.paper is None
    assert planned("00_start_here") == []


def test_a_line_that_cannot_be_meant_is_refused(monkeypatch):
    write(monkeypatch, *[LINE] * 4)
    with pytest.raises(RecordError, match="4 questions; 3 at most"):
        planned("11_mnad")
    write(monkeypatch, LINE | {"paper": [["fmabs-1", "frames, MNAD+SC", "Avenue"]]})
    with pytest.raises(RecordError, match="no cell"):
        planned("11_mnad")
    write(monkeypatch, {key: LINE[key] for key in LINE if key != "because"})
    with pytest.raises(RecordError, match="because is missing"):
        planned("11_mnad")
    write(monkeypatch, LINE | {"beats": ["plain"]})
    with pytest.raises(RecordError, match="no trivial row after 'plain'"):
        planned("11_mnad")


@pytest.mark.parametrize("change", [{"beats": "plain"}, {"seeds": "six"}, {"row": ["a", "b"]}])
def test_a_value_of_another_type_is_refused(monkeypatch, change):
    write(monkeypatch, LINE | change)
    with pytest.raises(RecordError, match=f"11_mnad: {next(iter(change))} is .*another type"):
        planned("11_mnad")


def test_one_printed_cell_is_no_gain(monkeypatch):
    write(monkeypatch, LINE | {"paper": LINE["paper"][:1]})
    with pytest.raises(RecordError, match="paper names two printed cells"):
        planned("11_mnad")


@pytest.mark.parametrize("chapter", book_yaml("questions.yml"))
def test_every_question_of_the_book_can_be_read(chapter):
    for question in planned(chapter):
        assert question.seeds >= 2
        assert question.detector not in question.trivial
        assert all(name.startswith("trivial") for name in question.trivial)
        assert question.row != question.other
