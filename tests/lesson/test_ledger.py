"""The ledger: printed numbers, ours, what differs, the status; and `fmabs-lite check RUNS`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from tiny_book import ROOT, make_book

from fmabs_lite.lesson import claims, ledger, plots, printed
from fmabs_lite.lesson.ledger import count_statuses, read_ledger, status_of, tolerance
from fmabs_lite.lesson.parts import LedgerError, Part
from fmabs_lite.lesson.records import (
    as_record,
    content_checksum,
    read_json,
    write_json,
    write_record,
)
from fmabs_lite.press import cli, comparison
from fmabs_lite.press.plan import code_cells, read_notebook, without_magics

TABLES = {
    "tables": {
        "paper-1": {
            "source": "Paper, Table 1",
            "doi": "10.1/1",
            "caption": "AUROC.",
            "columns": ["category", "boosted", "A", "B"],
            "rows": [["screw", False, 90.0, 91.0], ["screw", True, 95.0, None]],
        }
    },
    "slips": [],
}
SETUP = {
    "chapter": "03_three",
    "at": ["rows"],
    "sets": ["mvtec"],
    "data": "{category}",
    "size": "{size} pixels",
    "schedule": "{steps} steps",
    "published": {
        "model": {"size": 256},
        "schedule": {"samples": 800},
        "protocol": {"sigmas.0": 4},
    },
}
LINES = [
    dict(row="screw, none", column="A", setup="three", ours="plain", key="auroc"),
    dict(row="{category}, boosted", column="A", setup="three", ours="more", key="auroc"),
]
CLAIM = dict(says="more", table="paper-1", setup="three", better="more", than="plain", key="auroc")
PARAMETERS = {
    "category": "screw",
    "size": 256,
    "steps": 100,
    "batch_size": 8,
    "sigmas": [4, 6],
    "seeds": [0, 1, 2],
}
ROWS = {
    "trivial: mean": [{"auroc": 0.6}],
    "trivial: difference": [{"auroc": 0.7, "ap": 0.1}],
    "plain": [{"auroc": 0.905}, {"auroc": 0.9}, {"auroc": 0.91}],
    "more": [{"auroc": 0.93}, {"auroc": 0.935}, {"auroc": 0.934}],
}


def write_mapping(repo: Path, lines=LINES, **setup) -> None:
    """Write the ledger's mapping of the small book, with some of its set-up changed."""
    content = {
        "asks": {"paper-1": "{category}"},
        "setups": {"three": SETUP | setup},
        "cells": {"paper-1": lines},
        "claims": [CLAIM],
    }
    (repo / "book" / "ledger.yml").write_text(yaml.safe_dump(content))


def provenance(**parameters) -> dict:
    return {
        "chapter": "03_three",
        "profile": "cpu",
        "parameters": PARAMETERS | parameters,
        "device": "cpu",
        "seconds": 61.5,
        "data": {"mvtec": "ab12"},
        "versions": {},
        "finished": "2026-01-02T03:04:05Z",
    }


def record_path(repo: Path) -> Path:
    return repo / "book" / "records" / "03_three.cpu.json"


def write(repo: Path, rows=ROWS, data: str = "ab12", **parameters) -> None:
    """Write the record of the small book."""
    content = provenance(**parameters) | {"data": {"mvtec": data}}
    write_record(record_path(repo), content, {"rows": rows})


@pytest.fixture
def small(tmp_path: Path, monkeypatch) -> Path:
    """A book with one table of three numbers, and one record."""
    repo = make_book(tmp_path / "small")
    (repo / "book" / "records").mkdir()
    (repo / "book" / "paper_tables.yml").write_text(yaml.safe_dump(TABLES))
    write_mapping(repo)
    write(repo)
    monkeypatch.chdir(repo)
    return repo


@pytest.fixture
def whole(tmp_path: Path, monkeypatch) -> Path:
    """A copy of the book's records, tables and mapping."""
    repo = make_book(tmp_path / "whole")
    shutil.copytree(ROOT / "book" / "records", repo / "book" / "records")
    for name in ("paper_tables.yml", "ledger.yml", "open_questions.yml"):
        shutil.copy(ROOT / "book" / name, repo / "book")
    monkeypatch.chdir(repo)
    return repo


def run_folder(repo: Path, rows=ROWS, profile: str = "cpu", **parameters) -> Path:
    """Write a run as the runner leaves it, and return the folder around it."""
    folder = repo / "_build" / "runs" / profile / "03_three"
    folder.mkdir(parents=True)
    known = provenance(**parameters) | {"profile": profile, "data": {"mvtec": "real"}}
    measured = {name: known.pop(name) for name in ("device", "seconds", "finished")}
    write_json(folder / "run.json", {"provenance": known, "measured": measured})
    write_json(folder / "results.json", {"rows": rows})
    return folder.parent


def call(*arguments: str):
    return CliRunner().invoke(cli.main, ["check", *map(str, arguments)])


# --- statuses


def test_tolerance_is_the_larger_of_a_point_and_two_deviations():
    assert tolerance([90.0]) == tolerance([90.0, 90.2, 90.4]) == 1
    assert tolerance([80.0, 90.0, 100.0]) == pytest.approx(20)


@pytest.mark.parametrize(
    "ours, kinds, status",
    [
        ([], [], "not run"),
        ([89.0, 89.1, 89.0], [], "reproduced"),
        ([89.0], [], "reproduced"),
        ([80.0, 90.0, 100.0], [], "reproduced"),
        ([88.4, 88.5, 88.4], [], "near"),
        ([90.0, 90.0, 90.0], ["protocol"], "near"),
        ([87.9, 88.0, 87.9], [], "missed"),
        ([87.9, 88.0, 87.9], ["protocol"], "missed"),
        ([90.0], ["model"], ledger.SMALLER),
        ([90.0], ["schedule", "protocol"], ledger.SMALLER),
        ([90.0], ["data", "model"], "different data"),
    ],
)
def test_every_status_follows_from_numbers_and_differences(ours, kinds, status):
    assert status_of(90.0, ours, kinds) == status


def test_a_cell_holds_both_numbers_and_how_ours_was_made(small):
    plain, other, more = read_ledger()
    assert plain.place == ("paper-1", "screw, none", "A") and plain.printed == 90
    assert plain.ours == pytest.approx((90.5, 90, 91)) and plain.mean == pytest.approx(90.5)
    assert (plain.status, plain.trivial) == ("reproduced", 70)
    assert (plain.data, plain.size, plain.schedule) == ("screw", "256 pixels", "100 steps")
    assert (plain.device, plain.record) == ("cpu", "03_three.cpu.json")
    assert (other.status, other.ours, other.mean) == ("not run", (), None)
    assert (more.row, more.status) == ("screw, boosted", "near")


@pytest.mark.parametrize(
    "change, status, text",
    [
        ({"size": 128}, ledger.SMALLER, "size 128, published 256"),
        ({"steps": 99}, ledger.SMALLER, "samples 792, published 800"),
        ({"steps": 101}, "reproduced", None),
        ({"sigmas": [2, 4]}, "near", "sigmas.0 2, published 4"),
        ({"category": "nut"}, "different data", "nut, where the paper has screw"),
        ({"data": "drawn"}, "different data", "screw, synthetic, where the paper has screw"),
    ],
)
def test_a_status_follows_from_what_the_record_says_was_done(small, change, status, text):
    write(small, **change)
    cell = read_ledger()[0]
    assert cell.status == status
    assert [departure.text for departure in cell.departures] == ([text] if text else [])


def test_a_metric_that_no_row_without_training_has_stands_alone(small):
    write_mapping(small, [LINES[0] | {"key": "pro"}])
    write(small, ROWS | {"plain": [{"pro": 0.9}] * 3})
    assert read_ledger()[0].trivial is None
    write_mapping(small, [LINES[0] | {"key": "ap"}])
    write(small, ROWS | {"plain": [{"ap": 0.9}] * 3})
    assert read_ledger()[0].trivial == pytest.approx(10)


def test_what_is_only_stated_counts_and_so_do_too_few_seeds(small):
    write_mapping(small, stated={"data": ["half of the videos"]})
    assert read_ledger()[0].status == "different data"
    write_mapping(small)
    write(small, ROWS | {"plain": ROWS["plain"][:2]})
    cell = read_ledger()[0]
    assert cell.status == "near" and cell.departures == (("protocol", "2 seeds"),)


def test_a_number_that_misses_comes_first(small):
    write(small, ROWS | {"more": [{"auroc": 0.2}] * 3})
    cells = ledger.misses_first(read_ledger())
    assert [cell.status for cell in cells] == ["missed", "reproduced", "not run"]
    counted = count_statuses(cells)
    assert list(counted) == list(ledger.STATUSES) and list(counted.values()) == [1, 0, 1, 0, 0, 1]


def test_a_line_that_fits_nothing_is_an_error(small):
    write_mapping(small, [LINES[0] | {"column": "C"}])
    with pytest.raises(LedgerError, match="paper-1, screw, none, C: no such cell"):
        read_ledger()
    write_mapping(small, [LINES[0] | {"ours": "plane"}])
    with pytest.raises(LedgerError, match="03_three.cpu: there is no 'plane'; .*plain, more"):
        read_ledger()
    write_mapping(small, [LINES[0] | {"key": "pro"}])
    with pytest.raises(LedgerError, match="plain: there is no 'pro'; there are: auroc"):
        read_ledger()
    write_mapping(small, [LINES[0] | {"setup": "four"}])
    with pytest.raises(LedgerError, match="setup: there is no 'four'; there are: three"):
        read_ledger()
    write_mapping(small, size="{width} wide")
    with pytest.raises(LedgerError, match="the record has no 'width' for '{width} wide'"):
        read_ledger()
    write_mapping(small, published={"model": {"width": 3}})
    with pytest.raises(LedgerError, match="there is no 'width'; there are: rows, category"):
        read_ledger()


@pytest.mark.parametrize(
    "ours, status",
    [(33.2112, "reproduced"), (33.24, "reproduced"), (33.26, "near"), (33.0, "near"),
     (32.8, "missed")],
)  # fmt: skip
def test_a_count_comes_out_to_the_digit_or_not(ours, status):
    assert ledger.status_of_count(33.2, ours) == status


def test_a_count_has_no_seeds_and_no_percent(small):
    mapping = yaml.safe_load((small / "book" / "ledger.yml").read_text())
    mapping["setups"]["sizes"] = {"chapter": "03_three", "at": ["costs"], "counts": True}
    line = dict(row="screw, none", column="B", setup="sizes", ours="net", key="parameters")
    mapping["cells"]["paper-1"] = [line]
    (small / "book" / "ledger.yml").write_text(yaml.safe_dump(mapping))
    write_record(record_path(small), provenance(), {"costs": {"net": {"parameters": 91.04}}})
    cell = read_ledger({"03_three": as_record(read_json(record_path(small)), Path("x"))})[1]
    assert cell.is_count and cell.status == "reproduced" and cell.departures == ()
    assert cell.ours == pytest.approx((91.04,)) and cell.trivial is None


def test_points_between_rows_over_test_images():
    """Both rows are drawn alike, so a row beside itself has no width; a shift has a sign."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [40, 60])
    seeds = [rng.normal(labels, 1).tolist() for _ in range(2)]
    worse = [rng.normal(0, 1, 100).tolist() for _ in range(2)]
    results = {"scores": {"A": seeds, "same": seeds, "B": worse}, "labels": labels.tolist()}
    record = as_record({"provenance": provenance(), "results": results}, Path("x"))

    def gap(better, than, key="image"):
        claim = {"better": better, "than": than, "key": key}
        return claims.gap_over_images(record, claim)

    assert gap("A", "same") == (0, 0)
    low, high = gap("A", "B")
    assert 5 < low < high < 60
    assert gap("B", "A") == pytest.approx((-high, -low))
    assert gap("A", "C") is None and gap("A", "B", "pixel") is None


def test_kept_scores_give_the_kept_auroc():
    from fmabs_lite.lesson.chance import bootstrap

    for cell in read_json(ROOT / "book" / "records" / "14_ast_mfr.cpu.json")["cells"]:
        results = cell["results"]
        for row, runs in results["rows"].items():
            for run, scores in zip(runs, results["scores"][row], strict=True):
                found = bootstrap(scores, results["labels"], resamples=2)
                assert found.value == pytest.approx(run["image"], abs=2e-4)


def test_a_set_up_may_mean_some_cells_of_a_record(small, monkeypatch):
    asked = []
    monkeypatch.setattr(ledger, "committed", lambda *given: asked.append(given))
    book = {"setups": {"long": {"chapter": "10_a", "where": {"size": 256}},
                       "short": {"chapter": "10_a"}, "own": {"chapter": "11_b"}}}  # fmt: skip
    mine = object()
    found = ledger.records_asked(book, {"11_b": mine})
    assert found == {"long": None, "short": None, "own": mine}
    assert asked == [("10_a", {"size": 256}), ("10_a", None)]


def test_claims_are_judged_by_interval_and_exact_test(small):
    (claim,) = claims.judge_claims()
    assert claim.images is None  # its record has no scores of single images
    assert (claim.says, claim.table) == ("more", "paper-1")
    assert claim.gap.mean == pytest.approx(2.8) and claim.gap.settled
    assert claim.p == claim.corrected == 0.25  # three seeds cannot give less
    record_path(small).unlink()
    assert claims.judge_claims() == []


def test_a_claim_about_two_rows_below_the_trivial_one_is_behind(small):
    assert not claims.judge_claims()[0].behind  # 93.3 and 90.5, beside 70
    write(small, ROWS | {"trivial: mean": [{"auroc": 0.94}]})
    (claim,) = claims.judge_claims()
    assert claim.behind and claim.gap.mean == pytest.approx(2.8)
    write(small, ROWS | {"trivial: mean": [{"auroc": 0.93}]})
    assert claims.judge_claims()[0].behind, "above it on average, and not by its interval"
    one_seed = {name: runs[:1] for name, runs in ROWS.items()}
    write(small, one_seed)
    assert claims.judge_claims() == [], "a single seed has no interval"


def test_a_part_of_a_record_is_asked_by_name(small):
    record = as_record(read_json(record_path(small)), Path("x"))
    part = Part(record, ["rows"], "the line")
    assert part.numbers("plain", "auroc") == pytest.approx((90.5, 90, 91))
    assert part.best_trivial("auroc") == 70 and part.best_trivial("pro") is None
    assert part.value("sigmas.1") == 6 and part.value("samples") == 800
    assert part.filled("{category}, {steps} steps") == "screw, 100 steps"
    assert part.file == "03_three.cpu.json"
    with pytest.raises(LedgerError, match="the line: record 03_three.cpu: there is no 'deep'"):
        Part(record, ["deep", "rows"], "the line").numbers("plain", "auroc")


def test_a_table_is_shown_with_ours_how_and_what_was_not_run(small, monkeypatch):
    said = []
    monkeypatch.setattr(plots, "say", said.append)
    monkeypatch.setattr(ledger, "say", said.append)
    write(small, ROWS | {"more": [{"auroc": 0.2}] * 3})
    ledger.tell_table("paper-1", read_ledger(), "https://there/")
    head, shown = said
    assert head == "**[Paper, Table 1](https://doi.org/10.1/1)** AUROC."
    lines = shown.splitlines()
    assert lines[0].startswith("| how | row | column | printed | ours | seeds |")
    assert lines[2] == "| a | screw, boosted | A | 95.0 | 20.0 ± 0.0 | 3 | 70.0 | missed |"
    assert lines[3] == "| a | screw, none | A | 90.0 | 90.5 ± 0.5 | 3 | 70.0 | reproduced |"
    made = "screw; 256 pixels; 100 steps; cpu"
    assert f"- a: {made}; [03_three.cpu.json](https://there/03_three.cpu.json)" in lines
    assert "<summary>Not run: 1 printed numbers</summary>" in shown
    assert "| row | B |\n| --- | --- |\n| screw, none | 91.0 |" in shown


# --- the book's own tables, mapping and records


def test_deleting_a_record_turns_its_cells_to_not_run(whole):
    before = read_ledger()
    for path in sorted((whole / "book" / "records").glob("1*.json")):
        mine = [cell.place for cell in before if cell.record == path.name]
        assert mine, path.name
        content = path.read_bytes()
        path.unlink()
        for old, new in zip(before, read_ledger(), strict=True):
            assert new == (
                old if old.place not in mine else printed.PrintedCell(*old.place, old.printed)
            )
        path.write_bytes(content)
    assert read_ledger() == before


def test_every_line_of_the_mapping_names_a_printed_cell(whole):
    """Also of chapters without a record: one is made up that has every row and metric."""
    mapping = yaml.safe_load((ROOT / "book" / "ledger.yml").read_text("utf-8"))
    tables = yaml.safe_load((ROOT / "book" / "paper_tables.yml").read_text("utf-8"))["tables"]
    places = {c.place for name, table in tables.items() for c in printed.printed_cells(name, table)}
    lines = [(name, line) for name, part in mapping["cells"].items() for line in part]
    for name, line in lines:
        row = line["row"].format(category="screw")
        assert (name, row, line["column"]) in places, line
        assert mapping["setups"][line["setup"]]["chapter"]
    mapped = [(name, line["row"], line["column"]) for name, line in lines]
    assert len(set(mapped)) == len(mapped)


def test_every_mapped_cell_of_a_committed_record_is_filled():
    mapping = yaml.safe_load((ROOT / "book" / "ledger.yml").read_text("utf-8"))
    records = (ROOT / "book" / "records").glob("*.json")
    held = {path.name.split(".")[0]: as_record(read_json(path), path) for path in records}
    left_out = {name: record.results.get("left_out", ()) for name, record in held.items()}
    lines = [line for part in mapping["cells"].values() for line in part]
    chapters = [mapping["setups"][line["setup"]]["chapter"] for line in lines]
    mapped = sum(
        chapter in left_out and line["ours"] not in left_out[chapter]
        for chapter, line in zip(chapters, lines, strict=True)
    )
    filled = [cell for cell in read_ledger() if cell.ours]
    assert len(filled) == mapped > 0
    assert all(
        cell.is_count or (cell.trivial is not None and cell.data and cell.size) for cell in filled
    )


def test_the_published_setup_alone_can_be_reproduced():
    """A made-up record of the published size, whose numbers are the printed ones."""
    path = ROOT / "book" / "records" / "10_draem.cpu.json"
    content = read_json(path)["cells"][0]  # the screws
    values = {"size": 256, "width": 128, "disc_width": 64, "steps": 28000, "batch_size": 8}
    content["provenance"]["parameters"] |= values | {"lr": 1e-4, "window": 21, "sigma": 4.0}
    content["results"]["rows"]["DRAEM"] = [{"pixel": 0.976, "ap": 0.5, "image": 0.93}] * 3
    cells = {c.place: c for c in read_ledger({"10_draem": as_record(content, path)})}
    said = {column: cells["fmabs-4", "screw", column] for column in
            ("DRAEM pixel AUROC", "DRAEM pixel AP", "DRAEM image AUROC")}  # fmt: skip
    assert [cell.status for cell in said.values()] == ["near", "missed", "near"]
    assert {d.kind for d in said["DRAEM pixel AP"].departures} == {"protocol"}
    assert cells["fmabs-5", "DRAEM", "pixel AP"].status == "different data"


def test_printed_averages_follow_from_their_rows_but_for_the_listed_slips():
    cells = read_ledger()
    numbers = {cell.place: cell.printed for cell in cells}
    again = printed.averages_again(cells)
    assert {place[0] for place in again} == {"fmabs-4", "ast-mfr-1", "ast-mfr-3", "ast-mfr-9"}
    slips = [slip.place for slip in printed.read_slips() if slip.place[1] == "average"]
    off = [place for place, mean in again.items() if abs(mean - numbers[place]) > 0.0501]
    assert off == slips == [("fmabs-4", "average", "SSPCAB pixel AP")]


def test_every_listed_slip_is_one():
    for slip in printed.read_slips():
        assert abs(slip.printed - slip.instead) > 0.0501, slip
        assert slip.says


def test_numbers_printed_twice_agree_but_for_the_listed_slips():
    numbers = {cell.place: cell.printed for cell in read_ledger()}
    pairs = [(("fmabs-5", "DRAEM", "pixel AP"), ("fmabs-4", "average", "DRAEM pixel AP"))]
    for key in ("pixel AUROC", "pixel AP", "image AUROC"):
        pairs.append((("fmabs-5", "SSPCAB", key), ("fmabs-4", "average", f"SSPCAB {key}")))
    for kind, row in (("frames", "MNAD"), ("cubes", "PKG-Net"), ("objects", "Jigsaw")):
        pairs.append((("fmabs-3", row, "Avenue"), ("fmabs-1", f"{kind}, {row}", "Avenue")))
    for name, row, column in numbers:
        if column == "with background" and row != "average":
            pairs.append(((name, row, column), ("ast-mfr-1", row, "Ours")))
    for one, other in pairs:
        assert numbers[one] == numbers[other], (one, other)


def test_slips_of_cells_that_are_not_printed_are_refused(small):
    tables = TABLES | {"slips": [{"cell": ["paper-1", "nut", "A"], "against": "rows", "says": ""}]}
    (small / "book" / "paper_tables.yml").write_text(yaml.safe_dump(tables))
    with pytest.raises(LedgerError, match="slips: no cell .*'nut'"):
        printed.read_slips()


def test_the_ledger_needs_no_torch():
    code = (
        "import sys; from fmabs_lite.lesson import claims, ledger, printed;"
        "from fmabs_lite.press import comparison;"
        "ledger.read_ledger(); claims.judge_claims(); printed.read_slips();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["*", "14*", ""])
@pytest.mark.parametrize(
    "name, counts", [("16_ledger", "counted"), ("17_open_questions", "count_statuses(cells)")]
)
def test_a_chapter_on_records_needs_nothing_else(whole, kept, name, counts):
    """It runs from all records, some or none, without torch and without data."""
    left = {*(whole / "book" / "records").glob(kept)} if kept else set()
    for path in {*(whole / "book" / "records").glob("*")} - left:
        path.unlink()
    notebook = read_notebook(ROOT / "book" / f"{name}.ipynb")
    lines = [without_magics(cell.source) for cell in code_cells(notebook)]
    lines.append(f"import sys; print({counts}); sys.exit('torch' in sys.modules)")
    (whole / "chapter.py").write_text("\n\n".join(lines))
    done = subprocess.run(
        [sys.executable, "chapter.py"], cwd=whole, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    counted = count_statuses(read_ledger())
    assert done.stdout.splitlines()[-1] == str(counted)
    assert (sum(counted.values()) == counted["not run"]) == (not kept)


# --- fmabs-lite check RUNS


def test_a_run_like_its_record_passes(small):
    result = call(run_folder(small), "--json", small / "found.json")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["cpu/03_three", "cpu", "03_three.cpu.json", "5", "0", "yes"] in lines
    assert "90.0     90.5  70.0              reproduced" in result.output
    found = json.loads((small / "found.json").read_text())
    run = found["runs"]["cpu/03_three"]
    assert found["ok"] and run["same"] and run["parameters"] == {}
    assert run["cells"][0]["departures"] == []
    assert (
        run["metrics"][0] | {"metric": "rows, trivial: mean, auroc", "within": True}
        == (run["metrics"][0])
    )


def test_a_run_off_by_more_than_its_seeds_allow_fails(small):
    rows = ROWS | {"more": [{"auroc": 0.95}] * 3, "plain": [{"auroc": 0.914}] * 3}
    result = call(run_folder(small, rows, steps=90), "--json", "found.json")
    assert result.exit_code == 1
    first, second = result.output.splitlines()[:2]
    assert first == "cpu/03_three: rows, more, auroc: 95.00, record 93.30, allowed ± 1.00"
    assert second == "cpu/03_three: parameters differ: steps 90 (record 100)"
    run = json.loads(Path("found.json").read_text())["runs"]["cpu/03_three"]
    assert [row["within"] for row in run["metrics"]] == [True] * 4 + [False]


def test_a_run_without_a_row_of_its_record_fails(small):
    rows = {name: runs for name, runs in ROWS.items() if name != "trivial: mean"}
    result = call(run_folder(small, rows))
    assert result.exit_code == 1
    assert "rows, trivial: mean, auroc: only the record has it" in result.output


def test_a_new_miss_of_the_paper_fails_and_a_known_one_does_not(small):
    missing = ROWS | {"more": [{"auroc": 0.5}] * 3}
    runs = run_folder(small, missing, profile="full")  # without a record of its own
    result = call(runs)
    assert result.exit_code == 1
    assert "full/03_three: paper-1, screw, boosted, A: misses the paper" in result.output
    write(small, missing)
    result = call(runs)
    assert result.exit_code == 0 and "missed" in result.output


def test_cells_of_a_sweep_that_differ_in_seeds_alone_are_one_run(small):
    runs = run_folder(small)
    for name, seeds, size in (
        ("size=256,seeds=0", [0], 256),
        ("size=256,seeds=1+2", [1, 2], 256),
        ("size=128,seeds=0", [0], 128),  # another size: a run of its own
    ):
        folder = runs / name
        shutil.copytree(runs / "03_three", folder)
        state = read_json(folder / "run.json")
        state["provenance"]["parameters"] |= {"seeds": seeds, "size": size}
        write_json(folder / "run.json", state)
        rows = {
            row: each if "trivial" in row else [each[s] for s in seeds]
            for row, each in ROWS.items()
        }
        once = {"of": seeds[0], "at": [7, 8, 9], "videos": ["12"] * len(seeds)}
        write_json(folder / "results.json", {"rows": rows, "once": once})
    shutil.rmtree(runs / "03_three")

    found, _ = comparison.read_runs(runs)
    assert list(found) == ["cpu/size=128,seeds=0", "cpu/size=256,seeds=0+1+2"]
    joined = found["cpu/size=256,seeds=0+1+2"]
    assert joined.results == {"rows": ROWS, "once": {"of": 0, "at": [7, 8, 9], "videos": ["12"]}}
    assert joined.parameters == PARAMETERS and joined.seconds == 2 * 61.5
    result = call(runs)
    assert "90.0     90.5  70.0              reproduced" in result.output


def test_what_has_no_seeds_is_compared_number_by_number():
    def record(value, **parameters):
        content = {"provenance": provenance() | {"parameters": parameters}}
        return as_record(content | {"results": {"a": {"b": value, "c": "text"}}}, Path("x"))

    rows, missing = comparison.compare_metrics(record(0.52), record(0.5))
    assert [(row["metric"], row["within"]) for row in rows] == [("a, b", False)] and not missing
    assert comparison.compare_metrics(record(0.52), record(0.5, seeds=[0])) == ([], [])


def test_a_changed_record_is_noticed(small):
    path = record_path(small)
    path.write_text(path.read_text().replace("0.934", "0.943"))
    runs = run_folder(small)
    result = call(runs)
    assert result.exit_code == 1
    assert result.output.startswith("record changed: 03_three.cpu.json was changed after its run;")
    shutil.copy(path, small / "copy.json")
    write(small)
    result = call(small)  # a folder of records, one of them changed, with a run below it
    assert result.exit_code == 1 and "small/copy.json was changed" in result.output


def test_a_record_that_is_none_any_more_is_noticed(small):
    path = small / "book" / "records" / "04_four.cpu.json"
    path.write_text('{"provenance": {}, "result": {}}')
    result = call(run_folder(small))
    assert result.exit_code == 1
    assert "record changed: 04_four.cpu.json is not a record: it is not provenance" in result.output


def test_a_run_without_a_row_of_the_ledger_is_named_and_the_others_judged(small):
    runs = run_folder(small)
    rows = {name: seeds for name, seeds in ROWS.items() if name != "more"}
    shutil.copytree(runs / "03_three", runs / "other")
    write_json(runs / "other" / "results.json", {"rows": rows})
    result = call(runs)
    assert result.exit_code == 1
    assert "cpu/other: book/ledger.yml, paper-1, {category}, boosted, A: record 03" in result.output
    assert "cpu/03_three  paper-1" in result.output


def test_records_of_a_folder_are_compared_too(small):
    result = call("book/records")
    assert result.exit_code == 0 and "03_three.cpu.json  cpu" in result.output


def test_runs_that_cannot_be_compared_are_named(small):
    (small / "empty").mkdir()
    result = call("empty")
    assert result.exit_code == 1 and "empty holds neither runs" in result.output
    runs = run_folder(small)
    state = json.loads((runs / "03_three" / "run.json").read_text())
    del state["measured"]
    write_json(runs / "03_three" / "run.json", state)
    result = call(runs)
    assert result.exit_code == 1, "nothing was compared"
    assert "cpu/03_three: the run has not ended, so it is left out" in result.output
    assert call("nowhere").exit_code == 2
    assert "--json goes with RUNS" in call("--json", "x.json").output


def test_every_committed_record_is_as_its_run_left_it():
    assert comparison.changed_records(ROOT / "book" / "records") == []


@pytest.mark.parametrize("module", ["ledger", "claims", "printed"])
def test_a_chapter_on_the_ledger_depends_on_every_record(small, module):
    from nbformat.v4 import new_code_cell, new_notebook

    from fmabs_lite.press.plan import _book_files_read

    notebook = new_notebook(cells=[new_code_cell(f"import fmabs_lite.lesson.{module}")])
    read = _book_files_read(small, "16_ledger", notebook, "quick")
    assert set(read) == {"03_three.cpu.json", "paper_tables.yml", "ledger.yml"}
    other = new_notebook(cells=[new_code_cell("x = 1")])
    assert _book_files_read(small, "16_ledger", other, "quick") == {}


def test_numbers_are_those_of_the_record():
    """One cell of each set-up, read again by hand."""
    cells = {cell.place: cell for cell in read_ledger()}

    def held(name: str) -> dict:
        content = json.loads((ROOT / "book" / "records" / f"{name}.cpu.json").read_text())
        return content.get("cells", [content])[0]["results"]

    by_hand = {
        ("fmabs-4", "screw", "CA pixel AP"): [
            run["smooth_ap"] for run in held("10_draem")["rows"]["+ CA"]
        ],
        ("fmabs-1", "frames, MNAD", "Avenue"): [held("11_mnad")["avenue"]["control"]["intervals"]],
        ("fmabs-fig-4-5", "Avenue 17, PKG-Net", "after"): [
            held("12_pkgnet")["films"]["17"]["auroc"]["+ SCA"]
        ],
        ("jigsaw", "micro", "Ped2"): [
            run["both"] for run in held("13_jigsaw")["rows"]["Jigsaw (control)"]
        ],
    }
    for place, values in by_hand.items():
        assert cells[place].ours == pytest.approx(100 * np.array(values)), place


def test_a_table_without_rows_is_its_caption(monkeypatch):
    said = []
    monkeypatch.setattr(plots, "say", said.append)
    plots.table([], "*From the records.*")
    plots.table([{"a": 1}], "*From the records.*")
    assert said == ["*From the records.*", "| a |\n|---|\n| 1 |\n\n*From the records.*"]


def test_a_bar_in_a_table_is_no_column(monkeypatch):
    """M with |Fea_I| took a table of chapter 08 apart."""
    said = []
    monkeypatch.setattr(plots, "say", said.append)
    plots.table([{"M with |Fea_I|": "|a|", "n": 1}, {"n": 2, "M with |Fea_I|": "b"}])
    assert said == [r"| M with \|Fea_I\| | n |" "\n|---|---|\n" r"| \|a\| | 1 |" "\n| b | 2 |"]


def test_a_checksum_does_not_depend_on_the_order_of_names():
    one = {"provenance": {"a": 1, "b": 2}, "results": {"x": [1.5]}}
    other = {"results": {"x": [1.5]}, "provenance": {"b": 2, "checksum": "old", "a": 1}}
    assert content_checksum(one) == content_checksum(other)
