"""What the papers print, number by number, and where their tables disagree (chapter 16).

Every number in `book/paper_tables.yml` is a cell, in percent, as the papers print them. What the
records say of a cell is filled in by `fmabs_lite.lesson.ledger`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fmabs_lite.lesson.parts import LedgerError
from fmabs_lite.lesson.records import book_yaml


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


def all_printed() -> dict[tuple[str, str, str], PrintedCell]:
    """Every cell of every table by its place, in the order of the tables."""
    tables = book_yaml("paper_tables.yml")["tables"]
    cells = [cell for name, table in tables.items() for cell in printed_cells(name, table)]
    return {cell.place: cell for cell in cells}


def printed_cells(name: str, table: Mapping[str, Any]) -> list[PrintedCell]:
    """Every number of a paper's table, as cells that were not run."""
    words = word_columns(table)
    return [
        PrintedCell(name, label(table, row), column, float(value))
        for row in table["rows"]
        for column, value in zip(table["columns"], row, strict=True)
        if column not in words and value is not None
    ]


def word_columns(table: Mapping[str, Any]) -> list[str]:
    """The columns that name a row: texts, or ticks."""
    values = zip(*table["rows"], strict=True)
    return [
        column
        for column, held in zip(table["columns"], values, strict=True)
        if all(isinstance(value, (str, bool)) for value in held)
    ]


def label(table: Mapping[str, Any], row: Sequence[Any]) -> str:
    """The name of a row: its texts, and the names of its ticked columns."""
    named = dict(zip(table["columns"], row, strict=True))
    words = {column: named[column] for column in word_columns(table)}
    texts = [word for word in words.values() if isinstance(word, str)]
    if len(texts) < len(words):
        texts.append(" + ".join(name for name, word in words.items() if word is True) or "none")
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

    Raises:
        LedgerError: for a place that the tables do not print.
    """
    cells, found = all_printed(), []
    printed = {place: cell.printed for place, cell in cells.items()}
    again = averages_again(cells.values())
    for slip in book_yaml("paper_tables.yml")["slips"]:
        place, by_rows = tuple(slip["cell"]), slip["against"] == "rows"
        other = place if by_rows else tuple(slip["against"])
        known = again if by_rows else printed
        if place not in printed or other not in known:
            raise LedgerError(f"paper_tables.yml, slips: no cell {place} or {other}; correct it")
        found.append(Slip(place, printed[place], known[other], slip["says"]))
    return found
