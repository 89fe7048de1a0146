"""Records of cells: what is joined, what is measured once, what is told apart."""

from __future__ import annotations

import pytest

from fmabs_lite.lesson import records
from fmabs_lite.lesson.cells import join, paired, select
from fmabs_lite.lesson.records import (
    RecordError,
    as_record,
    is_record,
    load_record,
    read_json,
    record_fault,
    write_cells,
)


def cell(row: str, seed: int, ap: float, category: str = "screw", when: str = "2026-01-01") -> dict:
    """What a run of one row and one seed keeps: its row, the trivial one, scores, a picture."""
    values = {"category": category, "steps": 9, "seeds": [seed], "rows": [row]}
    shared = {"chapter": "10_x", "profile": "cpu", "versions": {"torch": "2"}, "source": "ab"}
    return {
        "provenance": shared | {"parameters": values, "device": "cpu", "seconds": 10.0 + seed,
                                "data": {"mvtec": "sum"}, "finished": when, "commit": "c0ffee"},
        "results": {
            "rows": {"trivial: mean": [{"ap": 0.1}], row: [{"ap": ap}]},
            "scores": {row: [[ap, ap + 1]]},
            "labels": [0, 1],
            "names": ["good"],
            "picture": f"{row}, {seed}",
        },
    }  # fmt: skip


CELLS = [cell("plain", 0, 0.2), cell("plain", 1, 0.3), cell("boosted", 1, 0.5),
         cell("boosted", 0, 0.4), cell("boosted", 2, 0.6)]  # fmt: skip


def test_rows_and_seeds_are_joined_and_what_is_measured_once_is_the_first_seeds():
    results = join(select(CELLS))
    assert list(results["rows"]) == ["trivial: mean", "plain", "boosted"]
    assert results["rows"]["trivial: mean"] == [{"ap": 0.1}]
    assert results["rows"]["plain"] == [{"ap": 0.2}, {"ap": 0.3}]
    assert results["rows"]["boosted"] == [{"ap": 0.4}, {"ap": 0.5}, {"ap": 0.6}]
    assert results["scores"]["boosted"] == [[0.4, 1.4], [0.5, 1.5], [0.6, 1.6]]
    assert results["seeds"] == {"plain": [0, 1], "boosted": [0, 1, 2]}
    assert results["labels"] == [0, 1] and results["names"] == ["good"]
    assert results["picture"] == "plain, 0"
    assert "seeds" not in join(select(CELLS[:4]))  # both rows have seeds 0 and 1


def test_a_cell_that_was_run_twice_counts_once():
    twice = join(select([*CELLS, cell("plain", 0, 0.9)]))
    assert twice["rows"]["plain"] == [{"ap": 0.2}, {"ap": 0.3}]


def test_other_values_are_told_apart():
    cells = [cell("plain", 0, 0.7, "tire"), *CELLS]
    assert join(select(cells))["rows"]["plain"] == [{"ap": 0.7}]  # those like the first
    assert len(select(cells, {"category": "screw"})) == 5
    assert select(cells, {"category": "bottle"}) == []


def test_rows_are_compared_over_the_seeds_that_both_have():
    seeds = {"plain": [0, 2], "boosted": [0, 1, 2]}
    assert paired("ac", "ABC", seeds, "plain", "boosted") == (["a", "c"], ["A", "C"])
    assert paired("ABC", "t", seeds, "boosted", "trivial") == (["A", "B", "C"], ["t"])


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "book_path", lambda name: tmp_path)
    return tmp_path / "10_x.cpu.json"


def order(cells: list[dict]) -> list[dict]:
    return [one["provenance"]["parameters"] for one in cells]


def test_a_record_grows_and_is_the_same_however_it_grew(path):
    write_cells(path, "10_x", "cpu", CELLS, order(CELLS))
    whole = path.read_text()
    path.unlink()
    for some in (CELLS[3:], CELLS[:1], CELLS[1:4]):
        write_cells(path, "10_x", "cpu", some, order(CELLS))
    assert path.read_text() == whole
    record = load_record("10_x")
    assert record.parameters["seeds"] == [0, 1, 2] and record.parameters["steps"] == 9
    assert record.parameters["rows"] == ["plain", "boosted"]
    assert record.seconds == sum(one["provenance"]["seconds"] for one in CELLS)
    assert record.results == join(select(CELLS)) and record.device == "cpu"
    assert all(one["provenance"]["commit"] == "c0ffee" for one in read_json(path)["cells"])


def test_a_cell_that_ran_later_takes_the_place_of_the_old_one(path):
    write_cells(path, "10_x", "cpu", CELLS, order(CELLS))
    for when, ap in (("2026-02-01", 0.8), ("2025-01-01", 0.9)):
        write_cells(path, "10_x", "cpu", [cell("plain", 0, ap, when=when)], order(CELLS))
    assert load_record("10_x").results["rows"]["plain"][0] == {"ap": 0.8}
    assert len(read_json(path)["cells"]) == len(CELLS)


def test_a_record_of_cells_is_checked_like_any_other(path):
    write_cells(path, "10_x", "cpu", CELLS, order(CELLS))
    content = read_json(path)
    assert is_record(content) and not record_fault(content)
    content["cells"][0]["results"]["rows"]["plain"][0]["ap"] = 0.99
    assert "was changed after its run" in record_fault(content)
    with pytest.raises(RecordError, match=r"no cell with \{'category': 'tire'\}; run its sweep"):
        load_record("10_x", where={"category": "tire"})
    with pytest.raises(RecordError, match="holds a path of this machine"):
        bad = cell("plain", 5, 0.1)
        bad["results"]["picture"] = "/home/somebody/x.png"
        write_cells(path, "10_x", "cpu", [bad], [])


def test_what_is_none_is_said(path):
    assert not is_record([]) and not is_record({"results": {}})
    with pytest.raises(RecordError, match="is not a record"):
        as_record({"cells": [{"provenance": {"parameters": {"rows": ["x"]}}, "results": {}}]}, path)
