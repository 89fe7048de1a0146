"""Runs beside the committed records and beside the papers: `fmabs-lite check RUNS` (chapter 16)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fmabs_lite.lesson.cells import JOINED
from fmabs_lite.lesson.ledger import (
    STATUSES,
    LedgerError,
    PrintedCell,
    misses_first,
    read_ledger,
    tolerance,
)
from fmabs_lite.lesson.records import (
    Record,
    RecordError,
    as_record,
    book_path,
    cell_key,
    is_record,
    read_json,
    read_record,
)
from fmabs_lite.lesson.schema import misfits


class ComparisonError(ValueError):
    """A folder in which there is nothing to compare."""


def read_runs(folder: Path) -> tuple[dict[str, Record], list[str]]:
    """Read the runs and records in a folder.

    A run is a folder with `run.json` and `results.json`, at any depth, as the runner writes them;
    a record is a file with provenance and results or cells. Cells of one sweep that differ in
    their seeds or rows alone count as one run.

    Returns:
        Records by their place in the folder, without those that `changed_records` names, and what
        was left out, in words.
    Raises:
        ComparisonError: for a folder with neither; RecordError for a damaged file.
    """
    remarks, alike = [], {}
    for path in sorted(folder.rglob("run.json")):
        name, state = path.parent.relative_to(folder.parent).as_posix(), read_json(path)
        if "measured" not in state:
            remarks.append(f"{name}: the run has not ended, so it is left out")
        elif path.with_name("results.json").exists():
            content = {
                "provenance": {**state.get("provenance", {}), **state["measured"]},
                "results": read_json(path.with_name("results.json")),
            }
            if misfit := next(misfits(content), ""):
                raise ComparisonError(f"{path.parent}: {misfit}; run it again")
            alike.setdefault(_alike(path, state), {})[name] = content
    found = dict(part for runs in alike.values() for part in join_runs(runs))
    kept = [path for path in sorted(folder.glob("*.json")) if is_record(read_json(path))]
    found |= {path.name: as_record(read_record(path), path) for path in kept if not _fault(path)}
    if not found and not remarks and not kept:
        raise ComparisonError(
            f"{folder} holds neither runs (run.json beside results.json) nor records; "
            "name a folder such as _build/runs/cpu"
        )
    return found, remarks


def _alike(path: Path, state: Mapping[str, Any]) -> str:
    """What a run depends on apart from what cells are joined over, and its sweep's folder: a key.

    A run whose chapter has no seeds is like no other.
    """
    depends, own = state["provenance"], state["provenance"]["parameters"]
    others = {name: value for name, value in own.items() if name not in JOINED}
    place = path.parents[1 if "seeds" in own else 0].as_posix()
    return json.dumps([place, {**depends, "parameters": others}], sort_keys=True)


def join_runs(runs: Mapping[str, dict[str, Any]]) -> list[tuple[str, Record]]:
    """Runs that are alike, by name, as one run of all their seeds and rows, with its name.

    Runs of the very same values are not cells of one sweep, and stay apart.
    """
    values = {cell_key(run["provenance"]["parameters"]) for run in runs.values()}
    if len(runs) == 1 or len(values) < len(runs):
        return [(name, as_record(run, Path(name))) for name, run in runs.items()]
    name, first = min(runs.items(), key=lambda run: _seeds(run[1]))
    joined = as_record({"cells": list(runs.values())}, Path(name))
    own, every = (f"seeds={'+'.join(map(str, some))}"
                  for some in (_seeds(first), joined.parameters["seeds"]))  # fmt: skip
    return [(re.sub(r",?rows=[^,/]*", "", name.replace(own, every)), joined)]


def _seeds(run: Mapping[str, Any]) -> list[int]:
    return run["provenance"]["parameters"].get("seeds", [])


def changed_records(folder: Path | None = None) -> list[str]:
    """What is wrong with the records in a folder, by default the committed ones.

    One line a record: its name, what is wrong, what to do. Among the committed ones lies nothing
    but records; elsewhere, what is none is passed over.
    """
    paths = sorted((folder or book_path("records")).glob("*.json"))
    kept = [path for path in paths if folder is None or is_record(read_json(path))]
    return [f"{path.name} {fault}" for path in kept if (fault := _fault(path))]


def _fault(path: Path) -> str:
    """What is wrong with a record's file, in words that follow its name; nothing when sound."""
    try:
        read_record(path)
    except RecordError as error:
        return str(error).removeprefix(f"{path} ")
    return ""


# --- a run beside the record of the same chapter and profile


def metrics_of(
    results: Mapping, single: bool, place: tuple[str, ...] = ()
) -> Iterator[tuple[str, list[float]]]:
    """Names and values of the metrics in results: of every list with a dict for each seed.

    Args:
        single: also numbers that stand alone, which have no spread. For chapters without seeds.
    Yields:
        The names on the way joined by commas, and one number a seed, times 100.
    """
    for name, part in results.items():
        if isinstance(part, Mapping):
            yield from metrics_of(part, single, (*place, name))
        elif isinstance(part, list) and part and all(isinstance(run, Mapping) for run in part):
            for key in part[0]:
                values = [run.get(key) for run in part]
                if all(map(_is_number, values)):
                    yield ", ".join((*place, name, key)), [100 * value for value in values]
        elif single and _is_number(part):
            yield ", ".join((*place, name)), [100 * part]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def compare_metrics(run: Record, record: Record) -> tuple[list[dict[str, Any]], list[str]]:
    """Each metric of both, and the names of those that only the record has.

    Where a chapter has seeds, only what was measured for each of them is compared.

    The tolerance is the larger of one point and twice the deviation over the record's seeds. It is
    made for shares: on a squared error, far below one point, it is lax. See `same` in `judge_run`.

    Returns:
        Dicts with "metric", "run", "record" (percent, means over seeds), "allowed" (points) and
        "within".
    """
    mine, theirs = (
        dict(metrics_of(one.results, single="seeds" not in record.parameters))
        for one in (run, record)
    )
    rows = []
    for name in mine:
        if name in theirs:
            ours, held = float(np.mean(mine[name])), float(np.mean(theirs[name]))
            allowed = tolerance(theirs[name])
            within = round(abs(ours - held), 6) <= allowed
            rows.append(dict(metric=name, run=ours, record=held, allowed=allowed, within=within))
    return rows, [name for name in theirs if name not in mine]


def differing_parameters(run: Record, record: Record) -> dict[str, list[Any]]:
    """Parameters with another value in the run than in the record: name to both, None for none."""
    names = {**record.parameters, **run.parameters}
    pairs = {name: [run.parameters.get(name), record.parameters.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def judge_run(run: Record, known: Mapping[str, PrintedCell]) -> dict[str, Any]:
    """One run beside the committed record of its chapter and profile, and beside the papers.

    Args:
        known: the ledger's cells from the committed records, by place.
    Returns:
        "record": the committed one's name, or None; "same": whether all results are equal to the
        last digit; "parameters", "metrics", "missing"; "cells": those the run speaks to, misses
        first; "new_misses": those of them that the committed records do not miss; "fault": why the
        ledger cannot read the run, or "".
    """
    path = book_path("records") / f"{run.chapter}.{run.profile}.json"
    held = as_record(read_record(path), path) if path.exists() else None
    metrics, missing = compare_metrics(run, held) if held else ([], [])
    name = f"{run.chapter}.{run.profile}.json"
    fault, cells = "", []
    try:
        cells = [cell for cell in read_ledger({run.chapter: run}) if cell.record == name]
    except LedgerError as error:  # a row that the run lacks; the other runs are still judged
        fault = str(error)
    missed = [cell for cell in cells if cell.status == "missed"]
    return {
        "chapter": run.chapter,
        "profile": run.profile,
        "record": path.name if held else None,
        "same": bool(held) and run.results == held.results,
        "parameters": differing_parameters(run, held) if held else {},
        "metrics": metrics,
        "missing": missing,
        "cells": [asdict(cell) for cell in misses_first(cells)],
        "new_misses": [cell.place for cell in missed if known[cell.place].status != "missed"],
        "fault": fault,
    }


def check_runs(folder: Path) -> dict[str, Any]:
    """Everything that `fmabs-lite check RUNS` finds, as JSON holds it.

    Returns:
        "runs": see `judge_run`, by place; "changed": records that are not as their run left them;
        "remarks"; "ok": there is a run, no metric is outside its tolerance, none missing, no record
        changed, and no number of the papers missed that the committed records do not miss. Where
        a committed record was changed, nothing is judged.
    Raises:
        See `read_runs`.
    """
    changed = changed_records()
    if changed:  # beside those nothing can be judged
        return {"runs": {}, "changed": changed, "remarks": [], "ok": False}
    runs, remarks = read_runs(folder)
    known = {cell.place: cell for cell in read_ledger()}
    judged = {name: judge_run(run, known) for name, run in runs.items()}
    if folder.resolve() != book_path("records").resolve():
        sealed = [line for line in changed_records(folder) if "has no checksum" not in line]
        changed += [f"{folder.name}/{line}" for line in sealed]
    sound = not changed and not any(faults_of(found) for found in judged.values())
    return {"runs": judged, "changed": changed, "remarks": remarks, "ok": bool(judged) and sound}


def faults_of(found: Mapping[str, Any]) -> list[str]:
    """What makes a run differ, one line each; [] when nothing does."""
    outside = [row for row in found["metrics"] if not row["within"]]
    return [
        *(
            f"{row['metric']}: {row['run']:.2f}, record {row['record']:.2f}, "
            f"allowed ± {row['allowed']:.2f}"
            for row in outside
        ),
        *(f"{name}: only the record has it" for name in found["missing"]),
        *(f"{', '.join(place)}: misses the paper" for place in found["new_misses"]),
        *([found["fault"]] if found["fault"] else []),
    ]


# --- on the terminal


def in_columns(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Rows of texts as lines of aligned columns."""
    texts = [[str(entry) for entry in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """What `check_runs` found, as lines for a terminal: what differs first, then the tables."""
    lines = [f"record changed: {text}" for text in report["changed"]] + list(report["remarks"])
    for name, found in report["runs"].items():
        lines += [f"{name}: {text}" for text in faults_of(found)]
        if found["parameters"]:
            pairs = found["parameters"].items()
            lines.append(
                f"{name}: parameters differ: "
                + ", ".join(f"{key} {ours} (record {theirs})" for key, (ours, theirs) in pairs)
            )
    head = [("run", "profile", "record", "metrics", "outside", "results equal")]
    lines += ["", *in_columns(head + [_summary(*item) for item in report["runs"].items()])]
    cells = [(name, cell) for name, found in report["runs"].items() for cell in found["cells"]]
    cells.sort(key=lambda item: STATUSES.index(item[1]["status"]))
    if cells:
        head = [("run", "table", "row", "column", "printed", "ours", "without training", "status")]
        lines += ["", *in_columns(head + [(name, *_cell_texts(cell)) for name, cell in cells])]
    return lines


def _summary(name: str, found: Mapping[str, Any]) -> tuple:
    outside = sum(not row["within"] for row in found["metrics"]) + len(found["missing"])
    held = found["record"] or "none"
    return name, found["profile"], held, len(found["metrics"]), outside, _yes(found["same"])


def _cell_texts(cell: Mapping[str, Any]) -> tuple:
    trivial = "–" if cell["trivial"] is None else f"{cell['trivial']:.1f}"
    place = (cell["table"], cell["row"], cell["column"])
    return *place, cell["printed"], f"{np.mean(cell['ours']):.1f}", trivial, cell["status"]


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
