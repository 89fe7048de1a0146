"""What the papers leave open, and what a record says of the other reading (chapter 16).

The questions stand in `book/open_questions.yml`; the differences are computed from the records,
without a network or torch. A question whose other reading was not run stays in the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fmabs_lite.lesson.ledger import LedgerError, numbers
from fmabs_lite.lesson.records import Record, book_yaml, committed
from fmabs_lite.lesson.seeds import Difference, difference

FILE = "book/open_questions.yml"
TEXTS = ("id", "paper", "theme", "question", "paper_says", "why", "ours", "other")
FIELDS = {*TEXTS, "code", "seen", "chapters", "measured"}
PAIR = {"setup", "chapter", "at", "ours", "other", "key", "other_key", "says"}


class QuestionError(ValueError):
    """A line of `book/open_questions.yml` that is wrong, or fits no record."""


class Measured(NamedTuple):
    """Two readings in one record, trained alike: our row minus the other, over its seeds."""

    says: str
    record: str
    gap: Difference


class Question(NamedTuple):
    """One open point of a paper; `code` and `seen` may be empty. See the head of the file."""

    id: str  # A and a number for FMABS, B for AST-MFR
    paper: str
    theme: str
    question: str
    paper_says: str
    why: str
    ours: str
    other: str
    code: str
    seen: str
    chapters: tuple[int, ...]
    measured: tuple[Measured, ...]

    @property
    def status(self) -> str:
        """How much the records know: *measured*, *seen*, or *not run*."""
        return "measured" if self.measured else "seen" if self.seen else "not run"


def read_questions(held: Mapping[str, Record] | None = None) -> list[Question]:
    """Every open question in the order of the file, with what the records measured.

    Args:
        held: records by chapter, to be taken in place of the committed ones.
    Raises:
        QuestionError: for a field, chapter, theme, set-up or row that is unknown or missing.
    """
    book, setups = book_yaml("open_questions.yml"), book_yaml("ledger.yml")["setups"]
    records = {name: (held or {}).get(name) or committed(name) for name in book["chapters"]}
    found: dict[str, Question] = {}
    for entry in book["questions"]:
        place = f"{FILE}, {entry.get('id', 'without id')}"
        _check_entry(entry, book, place)
        if entry["id"] in found:
            raise QuestionError(f"{place}: there are two of them; give each its own id")
        pairs = [_measure(pair, setups, records, place) for pair in entry["measured"]]
        values = {"code": "", "seen": "", **entry, "chapters": tuple(entry["chapters"])}
        found[entry["id"]] = Question(**values | {"measured": tuple(filter(None, pairs))})
    return list(found.values())


def _check_entry(entry: Mapping[str, Any], book: Mapping[str, Any], place: str) -> None:
    """Raise QuestionError unless all fields are known, present, and name what there is."""
    _refuse(set(entry) - FIELDS, f"{place}: unknown field", FIELDS)
    _refuse(FIELDS - {"code", "seen"} - set(entry), f"{place}: missing", FIELDS)
    _refuse({entry["theme"]} - {*book["themes"]}, f"{place}: unknown theme", book["themes"])
    numbered = {int(name[:2]) for name in book["chapters"]}
    _refuse({*entry["chapters"]} - numbered, f"{place}: unknown chapter", numbered)


def _refuse(wrong: set, what: str, known: Any) -> None:
    if wrong:
        names, choices = (", ".join(sorted(map(str, some))) for some in (wrong, known))
        raise QuestionError(f"{what} {names}; there are: {choices}")


def _measure(
    pair: Mapping[str, Any], setups: Mapping, records: Mapping[str, Record | None], place: str
) -> Measured | None:
    """The difference of two rows; None without their record, or where it has a single seed."""
    _refuse(set(pair) - PAIR, f"{place}, measured: unknown field", PAIR)
    if "setup" in pair:
        _refuse({pair["setup"]} - {*setups}, f"{place}, measured: unknown set-up", setups)
    part = setups[pair["setup"]] if "setup" in pair else pair
    needed = {"ours", "other", "says"} - set(pair) | {"chapter", "at"} - set(part)
    _refuse(needed, f"{place}, measured: missing", PAIR)
    _refuse({part["chapter"]} - {*records}, f"{place}, measured: unknown chapter", records)
    record, key = records[part["chapter"]], pair.get("key")
    if record is None:
        return None
    try:
        ours = numbers(record, part["at"], pair["ours"], key, place)
        other = numbers(record, part["at"], pair["other"], pair.get("other_key", key), place)
    except LedgerError as error:
        raise QuestionError(f"{error}; correct {FILE}") from None
    if len(ours) < 2:
        return None
    gap = difference(np.array(ours) / 100, np.array(other) / 100)
    return Measured(pair["says"], f"{record.chapter}.{record.profile}.json", gap)
