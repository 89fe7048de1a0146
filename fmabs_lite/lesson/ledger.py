"""Which printed numbers hold when run again (chapter 15).

The ledger is computed from three things and from nothing else: the papers' tables
(`book/paper_tables.yml`), which of our numbers speaks to which cell of them (`book/ledger.yml`),
and the records. No network is needed, and no torch. Numbers are percent, as the papers print them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fmabs_lite.lesson.chance import holm, paired_test, resampled
from fmabs_lite.lesson.records import Record, book_yaml, committed
from fmabs_lite.lesson.seeds import Difference, difference

SMALLER = "shorter schedule or smaller model"
STATUSES = ("missed", "near", "reproduced", SMALLER, "different data", "not run")
POINT = 1.0  # percentage points that two trainings may differ by, whatever the seeds say
FEWEST = 3  # seeds of a row that may be called reproduced


class LedgerError(ValueError):
    """A line of `book/ledger.yml` that fits no printed cell, or no number of a record."""


class Departure(NamedTuple):
    """One way in which ours was not done as the paper's; kind: data, model, schedule, protocol."""

    kind: str
    text: str


@dataclass(frozen=True)
class PrintedCell:
    """One printed number and what became of it. `ours`: one number a seed; percent, all of them.

    `trivial` is the best row without training that the same record measures in the same way.
    A count of parameters or operations is in the table's unit and has no data, size or schedule.
    """

    table: str
    row: str
    column: str
    printed: float
    status: str = "not run"
    ours: tuple[float, ...] = ()
    trivial: float | None = None
    data: str = ""
    size: str = ""
    schedule: str = ""
    device: str = ""
    record: str = ""
    departures: tuple[Departure, ...] = ()

    @property
    def place(self) -> tuple[str, str, str]:
        """Table, row and column."""
        return self.table, self.row, self.column

    @property
    def is_count(self) -> bool:
        """Whether ours was counted on shapes, without an image."""
        return bool(self.ours) and not self.data

    @property
    def mean(self) -> float | None:
        """Mean over seeds, None where nothing was run."""
        return float(np.mean(self.ours)) if self.ours else None


def status_of(printed: float, ours: Sequence[float], kinds: Collection[str] = ()) -> str:
    """What to call a printed number beside ours.

    *not run* without a number of ours. *different data*, or *shorter schedule or smaller model*,
    where that is so: then nearness would say nothing. Else *reproduced* within the tolerance, by
    the same protocol; *near* within twice the tolerance, by any protocol; else *missed*.

    Args:
        printed: percent.
        ours: percent, one a seed.
        kinds: of the differences between the two, see `Departure`.
    """
    if not len(ours):
        return "not run"
    if "data" in kinds:
        return "different data"
    if {"model", "schedule"} & set(kinds):
        return SMALLER
    gap, allowed = round(abs(float(np.mean(ours)) - printed), 6), tolerance(ours)
    if gap <= allowed and "protocol" not in kinds:
        return "reproduced"
    return "near" if gap <= 2 * allowed else "missed"


def status_of_count(printed: float, ours: float) -> str:
    """What to call a printed count beside ours: a count has no chance in it.

    *reproduced* if ours rounds to the one decimal that is printed, *near* within one percent.
    """
    if round(ours, 1) == printed:
        return "reproduced"
    return "near" if abs(ours - printed) <= 0.01 * printed else "missed"


def tolerance(values: Sequence[float]) -> float:
    """How far a number may be from the mean of `values` (percent, one a seed) and be the same.

    One point, or twice their sample deviation where that is more.
    """
    spread_of = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return max(POINT, 2 * spread_of)


def count_statuses(cells: Iterable[PrintedCell]) -> dict[str, int]:
    """How many cells have each status, misses first, every status present."""
    found = [cell.status for cell in cells]
    return {status: found.count(status) for status in STATUSES}


def misses_first(cells: Iterable[PrintedCell]) -> list[PrintedCell]:
    """Cells in the order of STATUSES, and as printed within one status."""
    return sorted(cells, key=lambda cell: STATUSES.index(cell.status))


# --- what is printed


def printed_cells(name: str, table: Mapping[str, Any]) -> list[PrintedCell]:
    """Every number of a paper's table, as cells that were not run."""
    words = _word_columns(table)
    return [
        PrintedCell(name, _label(table, row, words), column, float(value))
        for row in table["rows"]
        for k, (column, value) in enumerate(zip(table["columns"], row, strict=True))
        if k not in words and value is not None
    ]


def _word_columns(table: Mapping[str, Any]) -> list[int]:
    """The columns that name a row: texts, or ticks."""
    return [
        k
        for k in range(len(table["columns"]))
        if all(isinstance(row[k], (str, bool)) for row in table["rows"])
    ]


def _label(table: Mapping[str, Any], row: Sequence[Any], words: Sequence[int]) -> str:
    """The name of a row: its texts, and the names of its ticked columns."""
    texts = [row[k] for k in words if isinstance(row[k], str)]
    ticks = [table["columns"][k] for k in words if row[k] is True]
    if any(isinstance(row[k], bool) for k in words):
        texts.append(" + ".join(ticks) or "none")
    return ", ".join(texts)


def averages_again(cells: Iterable[PrintedCell]) -> dict[tuple[str, str, str], float]:
    """The mean of the rows above every printed average, by its place; none without such rows."""
    columns: dict[tuple[str, str], list[float]] = {}
    found = {}
    for cell in cells:
        above = columns.setdefault((cell.table, cell.column), [])
        if cell.row != "average":
            above.append(cell.printed)
        elif above:
            found[cell.place] = float(np.mean(above))
    return found


class Slip(NamedTuple):
    """A printed number that another one contradicts: `instead` is what that one gives."""

    place: tuple[str, str, str]
    printed: float
    instead: float
    says: str


def read_slips() -> list[Slip]:
    """The contradictions that `book/paper_tables.yml` lists, with the numbers of both sides.

    Raises LedgerError for a place that the tables do not print.
    """
    book = book_yaml("paper_tables.yml")
    cells = {
        c.place: c for name, table in book["tables"].items() for c in printed_cells(name, table)
    }
    again, found = averages_again(cells.values()), []
    for slip in book["slips"]:
        place, other = tuple(slip["cell"]), slip["against"]
        known = again if other == "rows" else {at: cell.printed for at, cell in cells.items()}
        against = place if other == "rows" else tuple(other)
        if place not in cells or against not in known:
            raise LedgerError(f"paper_tables.yml, slips: no cell {place} or {against}; correct it")
        found.append(Slip(place, cells[place].printed, known[against], slip["says"]))
    return found


# --- what ours is


def read_ledger(held: Mapping[str, Record] | None = None) -> list[PrintedCell]:
    """Every printed cell in the order of the tables, with ours where a record speaks to it.

    A record may name rows that it left out, and why, as `left_out`; their cells were not run.

    Args:
        held: records by chapter, to be taken in place of the committed ones.
    Raises:
        LedgerError: for a line of `book/ledger.yml` that fits no printed cell or no record.
    """
    tables, book = book_yaml("paper_tables.yml")["tables"], book_yaml("ledger.yml")
    cells = {
        cell.place: cell for name, table in tables.items() for cell in printed_cells(name, table)
    }
    records = _records(book, held)
    for name, lines in book["cells"].items():
        for line in lines:
            place = f"book/ledger.yml, {name}, {line['row']}, {line['column']}"
            setup = _named(book["setups"], line["setup"], f"{place}: setup")
            record = records[setup["chapter"]]
            cell = cells.get((name, _row_named(line["row"], record, place), line["column"]))
            if cell and record and line["ours"] not in record.results.get("left_out", ()):
                asked = _asked(tables[name], cell, book["asks"][name])
                cells[cell.place] = (
                    _counted(cell, line, setup, record, place)
                    if setup.get("counts")
                    else _filled(cell, line, setup, record, asked, place)
                )
            elif cell is None and "{" not in line["row"]:  # else a category that no table has
                raise LedgerError(f"{place}: no such cell in paper_tables.yml; correct the line")
    return list(cells.values())


def _records(book: Mapping, held: Mapping[str, Record] | None) -> dict[str, Record | None]:
    """The record of each chapter that the ledger asks: one held, else the committed one."""
    chapters = {setup["chapter"] for setup in book["setups"].values()}
    return {name: held[name] if held and name in held else committed(name) for name in chapters}


def _row_named(row: str, record: Record | None, place: str) -> str:
    """A line's row, with the record's category filled in."""
    return _filled_in(row, _by_name(record), place) if record else row


def _asked(table: Mapping[str, Any], cell: PrintedCell, template: str) -> str:
    """What a printed cell was measured on, by the words of its row and its column's name."""
    words = _word_columns(table)
    row = next(row for row in table["rows"] if _label(table, row, words) == cell.row)
    named = dict(zip(table["columns"], row, strict=True))
    return template.format(**named | {"column": cell.column})


def _filled(
    cell: PrintedCell, line: Mapping, setup: Mapping, record: Record, asked: str, place: str
) -> PrintedCell:
    """A printed cell with ours, what differs, and the status that follows."""
    ours = numbers(record, setup["at"], line["ours"], line.get("key"), place)
    values = _by_name(record)
    drawn = any(record.data.get(name) == "drawn" for name in setup["sets"])
    measured = _filled_in(setup["data"], values, place) + (", drawn" if drawn else "")
    found = departures(setup, values, place)
    if measured != asked:
        found.insert(0, Departure("data", f"{measured}, where the paper has {asked}"))
    if len(ours) < FEWEST:
        found.append(Departure("protocol", f"{len(ours)} seed" + "s" * (len(ours) > 1)))
    return replace(
        cell,
        status=status_of(cell.printed, ours, {departure.kind for departure in found}),
        ours=ours,
        trivial=best_trivial(record, setup["at"], line.get("key")),
        data=measured,
        size=_filled_in(setup["size"], values, place),
        schedule=_filled_in(setup["schedule"], values, place),
        device=record.device,
        record=f"{record.chapter}.{record.profile}.json",
        departures=tuple(found),
    )


def _counted(
    cell: PrintedCell, line: Mapping, setup: Mapping, record: Record, place: str
) -> PrintedCell:
    """A printed count beside ours: no data, seeds or training to differ in."""
    (percent,) = numbers(record, setup["at"], line["ours"], line["key"], place)
    ours = percent / 100
    name = f"{record.chapter}.{record.profile}.json"
    return replace(cell, status=status_of_count(cell.printed, ours), ours=(ours,), record=name)


def departures(setup: Mapping[str, Any], values: Mapping[str, Any], place: str) -> list[Departure]:
    """Where a record's values are not the published ones, and what is stated to differ.

    Args:
        setup: of `book/ledger.yml`.
        values: the record's, by name; "priors.0" is the first of `priors`.
        place: named in errors.
    """
    found = []
    for kind, wanted in setup["published"].items():
        for name, theirs in wanted.items():
            ours = _look_up(values, name, place)
            if ours != theirs and not (name == "samples" and ours > theirs):
                found.append(Departure(kind, f"{name} {_said(ours)}, published {_said(theirs)}"))
    stated = setup.get("stated", {})
    return found + [Departure(kind, text) for kind, texts in stated.items() for text in texts]


def numbers(
    record: Record, at: Sequence[str], row: str, key: str | None, place: str = ""
) -> tuple[float, ...]:
    """One number a seed of a row of a record, in percent.

    A row is a list with a dict for each seed, or a dict or a number where there is one seed.

    Raises:
        LedgerError: naming `place`, for a part, row or key that the record does not have.
    """
    part = record.results
    where = f"{place}: record {record.chapter}.{record.profile}"
    for step in (*at, row):
        part = _named(part, step, where)
    runs = part if isinstance(part, list) else [part]
    return tuple(100 * (_named(run, key, f"{where}, {row}") if key else run) for run in runs)


def best_trivial(record: Record, at: Sequence[str], key: str | None) -> float | None:
    """The highest of the rows that train nothing, in percent, None if none has the metric."""
    part = record.results
    for step in at:
        part = part[step]
    rows = [row for row in part if row.startswith("trivial")]
    runs = {row: part[row][0] if isinstance(part[row], list) else part[row] for row in rows}
    rows = [row for row in rows if not key or key in runs[row]]
    return max((numbers(record, at, row, key)[0] for row in rows), default=None)


# --- what is called better


class Claim(NamedTuple):
    """One "better" of the papers, asked of a record: points, exact p-value, Holm's p-value.

    `images` is the 95 % interval of the same points over test images, None where the record kept
    no scores of single images. `behind`: neither row beats the best row without training.
    """

    says: str
    table: str
    gap: Difference
    p: float
    corrected: float
    images: tuple[float, float] | None
    behind: bool


def judge_claims(held: Mapping[str, Record] | None = None) -> list[Claim]:
    """Ask the records what the papers call better; what has no record is left out.

    The interval is Student's t over seeds. The p-values are of the exact paired test, the last
    ones corrected for the number of claims.
    """
    book, found = book_yaml("ledger.yml"), []
    records = _records(book, held)
    for claim in book["claims"]:
        setup, place = book["setups"][claim["setup"]], f"book/ledger.yml, {claim['says']}"
        record = records[setup["chapter"]]
        if record:
            pair = [
                np.array(numbers(record, setup["at"], claim[row], claim["key"], place)) / 100
                for row in ("better", "than")
            ]
            if len(pair[0]) > 1:
                cheap = best_trivial(record, setup["at"], claim["key"])
                behind = cheap is not None and max(map(np.mean, pair)) <= cheap / 100
                images = gap_over_images(record, claim)
                found.append((claim, difference(*pair), paired_test(*pair), images, behind))
    corrected = holm([p for _, _, p, *_ in found])
    return [
        Claim(claim["says"], claim["table"], gap, p, float(c), images, bool(behind))
        for (claim, gap, p, images, behind), c in zip(found, corrected, strict=True)
    ]


def gap_over_images(record: Record, claim: Mapping[str, str]) -> tuple[float, float] | None:
    """95 % interval of the points between two rows of a record, by a bootstrap over test images.

    Each row is the mean of its seeds; both are measured on the same drawn images.

    Args:
        claim: with "better" and "than", rows, and "key"; only image AUROC ("image") has scores.
    """
    kept = record.results.get("scores", {})
    if claim["key"] != "image" or not {claim["better"], claim["than"]} <= set(kept):
        return None
    labels = record.results["labels"]
    better, than = (
        np.mean([resampled(scores, labels) for scores in kept[claim[row]]], axis=0)
        for row in ("better", "than")
    )
    low, high = 100 * np.percentile(better - than, [2.5, 97.5])
    return float(low), float(high)


# --- names and texts


def _by_name(record: Record) -> dict[str, Any]:
    """A record's results and parameters by name, and the number of samples it trained on."""
    known = {**record.results, **record.parameters}
    if {"steps", "batch_size"} <= set(known):
        known["samples"] = known["steps"] * known["batch_size"]
    return known


def _named(part: Any, name: str, where: str) -> Any:
    if not isinstance(part, Mapping) or name not in part:
        known = ", ".join(part) if isinstance(part, Mapping) else "no names here"
        raise LedgerError(f"{where}: there is no {name!r}; there are: {known}")
    return part[name]


def _look_up(values: Mapping[str, Any], name: str, place: str) -> Any:
    first, _, number = name.partition(".")
    found = _named(values, first, place)
    return found[int(number)] if number else found


def _filled_in(template: str, values: Mapping[str, Any], place: str) -> str:
    try:
        return template.format(**values)
    except (KeyError, IndexError) as error:
        raise LedgerError(f"{place}: the record has no {error} for {template!r}") from None


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)
