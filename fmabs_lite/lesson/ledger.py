"""Which printed numbers hold when run again (chapter 16).

The ledger is computed from three things and from nothing else: the papers' tables
(`book/paper_tables.yml`), which of our numbers speaks to which cell of them (`book/ledger.yml`),
and the records. No network is needed, and no torch. Numbers are percent, as the papers print them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase
from typing import Any

import numpy as np

from fmabs_lite.lesson.parts import LedgerError, Part, named
from fmabs_lite.lesson.plots import say, table
from fmabs_lite.lesson.printed import Departure, PrintedCell, all_printed, label
from fmabs_lite.lesson.records import Record, book_yaml, committed, paper_table
from fmabs_lite.lesson.seeds import spread

SMALLER = "shorter schedule or smaller model"
STATUSES = ("missed", "near", "reproduced", SMALLER, "different data", "not run")
POINT = 1.0  # percentage points that two trainings may differ by, whatever the seeds say
FEWEST = 3  # seeds of a row that may be called reproduced


# --- the rule


def tolerance(values: Sequence[float]) -> float:
    """How far a number may be from the mean of `values` (percent, one a seed) and be the same.

    One point, or twice their sample standard deviation where that is more.
    """
    spread_of = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return max(POINT, 2 * spread_of)


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
    gap = round(abs(float(np.mean(ours)) - printed), 6)
    allowed = tolerance(ours)
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


def count_statuses(cells: Iterable[PrintedCell]) -> dict[str, int]:
    """How many cells have each status, misses first, every status present."""
    found = [cell.status for cell in cells]
    return {status: found.count(status) for status in STATUSES}


def misses_first(cells: Iterable[PrintedCell]) -> list[PrintedCell]:
    """Cells in the order of STATUSES, and as printed within one status."""
    return sorted(cells, key=lambda cell: STATUSES.index(cell.status))


# --- what ours is


def read_ledger(held: Mapping[str, Record] | None = None) -> list[PrintedCell]:
    """Every printed cell in the order of the tables, with ours where a record speaks to it.

    A record may name rows that it left out, and why, as `left_out`; their cells were not run.

    Args:
        held: records by chapter, to be taken in place of the committed ones.
    Raises:
        LedgerError: for a line of `book/ledger.yml` that fits no printed cell or no record.
    """
    cells, book = all_printed(), book_yaml("ledger.yml")
    tables, records = book_yaml("paper_tables.yml")["tables"], records_asked(book, held)
    for name, lines in book["cells"].items():
        for line in lines:
            place = f"book/ledger.yml, {name}, {line['row']}, {line['column']}"
            setup = named(book["setups"], line["setup"], f"{place}: setup")
            record = records[line["setup"]]
            part = Part(record, setup["at"], place) if record else None
            row = part.filled(line["row"]) if part else line["row"]
            cell = cells.get((name, row, line["column"]))
            if cell is None and "{" not in line["row"]:  # else a category that no table has
                raise LedgerError(f"{place}: no such cell in paper_tables.yml; correct the line")
            if cell and part and line["ours"] not in record.results.get("left_out", ()):
                theirs = _data_of(cell, tables[name], book["asks"][name])
                cells[cell.place] = (
                    _counted(cell, line, part)
                    if setup.get("counts")
                    else _measured(cell, line, setup, part, theirs)
                )
    return list(cells.values())


def records_asked(
    book: Mapping[str, Any], held: Mapping[str, Record] | None = None
) -> dict[str, Record | None]:
    """The record that each set-up of `book/ledger.yml` asks: one held, else the committed one.

    A set-up may say which cells of the record it means, as `where`.
    """
    return {
        name: (held or {}).get(setup["chapter"]) or committed(setup["chapter"], setup.get("where"))
        for name, setup in book["setups"].items()
    }


def _measured(
    cell: PrintedCell, line: Mapping, setup: Mapping, part: Part, theirs: str
) -> PrintedCell:
    """A printed cell with ours, what differs, and the status that follows.

    Args:
        theirs: what the paper measured on.
    """
    ours, data = part.numbers(line["ours"], line.get("key")), part.filled(setup["data"])
    if any(part.record.data.get(name) == "drawn" for name in setup["sets"]):
        data += ", synthetic"
    found = departures(setup, part)
    if data != theirs:
        found.insert(0, Departure("data", f"{data}, where the paper has {theirs}"))
    if len(ours) < FEWEST:
        found.append(Departure("protocol", f"{len(ours)} seed" + "s" * (len(ours) > 1)))
    return replace(
        cell,
        status=status_of(cell.printed, ours, {departure.kind for departure in found}),
        ours=ours,
        trivial=part.best_trivial(line.get("key")),
        data=data,
        size=part.filled(setup["size"]),
        schedule=part.filled(setup["schedule"]),
        device=part.record.device,
        record=part.file,
        departures=tuple(found),
    )


def _counted(cell: PrintedCell, line: Mapping, part: Part) -> PrintedCell:
    """A printed count beside ours: no data, seeds or training to differ in."""
    (percent,) = part.numbers(line["ours"], line["key"])
    ours = percent / 100
    return replace(cell, status=status_of_count(cell.printed, ours), ours=(ours,), record=part.file)


def _data_of(cell: PrintedCell, printed: Mapping[str, Any], template: str) -> str:
    """What a printed cell was measured on, by the words of its row and its column's name."""
    row = next(row for row in printed["rows"] if label(printed, row) == cell.row)
    words = dict(zip(printed["columns"], row, strict=True))
    return template.format(**words | {"column": cell.column})


def departures(setup: Mapping[str, Any], part: Part) -> list[Departure]:
    """Where a record's values are not those that a set-up of `book/ledger.yml` calls published,
    and what it states to differ.
    """
    found = []
    for kind, wanted in setup["published"].items():
        for name, theirs in wanted.items():
            ours = part.value(name)
            if ours != theirs and not (name == "samples" and ours > theirs):
                found.append(Departure(kind, f"{name} {_said(ours)}, published {_said(theirs)}"))
    stated = setup.get("stated", {})
    return found + [Departure(kind, text) for kind, texts in stated.items() for text in texts]


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


# --- shown


def tell_table(name: str, cells: Iterable[PrintedCell], link: str) -> None:
    """Display one table of a paper: the numbers that ours speak to, misses first, how each of
    ours was made, and folded what was not run.

    Args:
        cells: the ledger.
        link: the address of the folder of records.
    """
    mine, rest, about = [], [], paper_table(name)
    for cell in misses_first(cells):
        if cell.table == name:
            (mine if cell.ours else rest).append(cell)
    ways = list(dict.fromkeys(map(_how, mine)))
    letters = dict(zip(ways, ascii_lowercase, strict=False))
    legend = [f"- {letter}: {way}; [{record}]({link}{record})"
              for (way, record), letter in letters.items()]  # fmt: skip
    say(f"**[{about['source']}](https://doi.org/{about['doi']})** {about['caption']}")
    table(
        [{"how": letters[_how(cell)], **_line(cell)} for cell in mine],
        "\n".join(legend) + f"\n\n{_unfolding(rest)}",
    )


def _how(cell: PrintedCell) -> tuple[str, str]:
    """How ours was made, and the record that holds it."""
    made = (cell.data, cell.size, cell.schedule, cell.device)
    return ("counted on shapes" if cell.is_count else "; ".join(made)), cell.record


def _line(cell: PrintedCell) -> dict[str, Any]:
    return {
        "row": cell.row,
        "column": cell.column,
        "printed": cell.printed,
        "ours": spread(np.array(cell.ours) / 100),
        "seeds": len(cell.ours),
        "without training": "–" if cell.trivial is None else f"{cell.trivial:.1f}",
        "status": cell.status,
    }


def _unfolding(cells: Sequence[PrintedCell]) -> str:
    """Printed numbers without one of ours, as a table that unfolds; empty without any."""
    if not cells:
        return ""
    columns, rows = list(dict.fromkeys(cell.column for cell in cells)), {}
    for cell in cells:
        rows.setdefault(cell.row, {})[cell.column] = str(cell.printed)
    lines = [["row", *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(held.get(name, "") for name in columns)] for row, held in rows.items()]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        f"<details><summary>Not run: {len(cells)} printed numbers</summary>\n\n{text}\n\n</details>"
    )
