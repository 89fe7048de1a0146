"""What the papers leave open, and what a record says of the other reading (chapter 17).

The questions stand in `book/open_questions.yml`; the differences are computed from the records,
without a network or torch. A question whose other reading was not run stays in the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fmabs_lite.lesson.ledger import records_asked
from fmabs_lite.lesson.parts import LedgerError, Part
from fmabs_lite.lesson.plots import say
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
    book, ledger = book_yaml("open_questions.yml"), book_yaml("ledger.yml")
    setups = ledger["setups"]
    records = {name: (held or {}).get(name) or committed(name) for name in book["chapters"]}
    records |= records_asked(ledger, held)
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
    chapters = {*records} - {*setups}
    _refuse({part["chapter"]} - chapters, f"{place}, measured: unknown chapter", chapters)
    record = records[pair.get("setup", part["chapter"])]
    if record is None:
        return None
    held = Part(record, part["at"], place)
    try:
        gap = ours_minus_other(held, pair)
    except LedgerError as error:
        raise QuestionError(f"{error}; correct {FILE}") from None
    return Measured(pair["says"], held.file, gap) if gap else None


def ours_minus_other(part: Part, pair: Mapping[str, str]) -> Difference | None:
    """Two rows of a record, seed by seed, in points; None where there is a single seed."""
    key = pair.get("key")
    ours, other = part.pair(pair["ours"], pair["other"], key, pair.get("other_key"))
    if len(ours) < 2:
        return None
    return difference(np.array(ours) / 100, np.array(other) / 100)


# --- shown


def told_apart(question: Question) -> bool:
    """Whether an interval over seeds leaves zero out, so that a record tells the readings apart."""
    return any(pair.gap.settled for pair in question.measured)


def verdict(question: Question) -> str:
    """What the records say of a question, in two to four words."""
    if question.status == "measured":
        return "told apart" if told_apart(question) else "not told apart"
    return "seen in another way" if question.status == "seen" else "not run"


def in_full(question: Question) -> str:
    """A question with all that is known of it, as a Markdown list."""
    places = ", ".join(f"{number:02d}" for number in question.chapters)
    known = {
        "The paper": question.paper_says,
        "Why it matters": question.why,
        "Our reading": question.ours + (f" (in {places})" if places else ""),
        "The other": question.other,
        "The authors' code": question.code,
        "Seen": question.seen,
    }
    lines = [f"- **{name}:** {text}" for name, text in known.items() if text]
    lines += [f"- **Ours minus the other,** {pair.says}: {pair.gap}" for pair in question.measured]
    return "\n".join(lines)


def unfold(questions: Iterable[Question], theme: str) -> None:
    """Display the questions of one theme, each as a line that unfolds."""
    parts = [
        f"<details><summary><b>{question.id}</b> <i>{verdict(question)}</i> "
        f"{question.question}</summary>\n\n{in_full(question)}\n\n</details>"
        for question in questions
        if question.theme == theme
    ]
    say("\n\n".join(parts))
