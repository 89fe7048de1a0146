"""Keeping, writing and reading results; the papers' tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_book import ROOT, make_book

from fmabs_lite.lesson import records
from fmabs_lite.lesson.records import (
    RecordError,
    keep,
    load_record,
    paper_table,
    profile_values,
    record_fault,
    write_record,
)
from fmabs_lite.press.comparison import changed_records, check_runs

PROVENANCE = {
    "chapter": "03_three",
    "profile": "cpu",
    "parameters": {"steps": 3},
    "device": "cpu",
    "seconds": 61.5,
    "data": {"mvtec": "ab12"},
    "versions": {"numpy": "2.0"},
    "finished": "2026-01-02T03:04:05Z",
}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch) -> Path:
    make_book(tmp_path)
    (tmp_path / "book" / "records").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv(records.RUN_DIR, str(folder))
    return folder


def write(repo: Path, profile: str, **results) -> None:
    path = repo / "book" / "records" / f"03_three.{profile}.json"
    write_record(path, {**PROVENANCE, "profile": profile}, results)


def test_keep_rounds_and_merges(run_dir):
    keep(auroc=0.123456789, curve=np.array([1 / 3, 2e-9]), count=np.int64(12345678))
    keep(scores={"mean": torch.tensor(2 / 3), "by video": (1.0, None, True)}, count=7)
    assert json.loads((run_dir / "results.json").read_text()) == {
        "auroc": 0.123457,
        "curve": [0.333333, 2e-09],
        "count": 7,
        "scores": {"mean": 0.666667, "by video": [1.0, None, True]},
    }
    assert sorted(path.name for path in run_dir.iterdir()) == ["kernel.json", "results.json"]


def test_what_is_kept_says_what_computed_it(run_dir):
    keep(auroc=0.5)
    said = records.read_json(run_dir / records.KERNEL)
    assert said["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert (said["threads"], said["device"]) == (torch.get_num_threads(), records.device())


def test_keep_refuses_by_name(run_dir, monkeypatch):
    keep(sound=1)
    with pytest.raises(RecordError, match=r"scores\['b'\]\[1\] is nan"):
        keep(scores={"b": np.array([1.0, np.nan])})
    with pytest.raises(RecordError, match="worst is inf"):
        keep(worst=float("inf"))
    with pytest.raises(RecordError, match="folder is a PosixPath|folder is a WindowsPath"):
        keep(folder=Path("x"))
    assert json.loads((run_dir / "results.json").read_text()) == {"sound": 1}
    monkeypatch.delenv(records.RUN_DIR)
    with pytest.raises(RecordError, match="worst is inf"):
        keep(worst=float("inf"))


def test_load_prefers_full_to_cpu(repo):
    write(repo, "cpu", auroc=0.5)
    record = load_record("03_three")
    assert (record.profile, record.results, record.seconds) == ("cpu", {"auroc": 0.5}, 61.5)
    assert (record.parameters, record.data) == ({"steps": 3}, {"mvtec": "ab12"})
    write(repo, "full", auroc=0.75)
    assert load_record("03_three").results == {"auroc": 0.75}
    assert load_record("03_three", "cpu").results == {"auroc": 0.5}


def test_a_missing_or_damaged_record_says_what_to_do(repo):
    with pytest.raises(RecordError, match="fmabs-lite run 04_four --profile cpu .*--keep-records"):
        load_record("04_four")
    path = repo / "book" / "records" / "03_three.cpu.json"
    path.write_text("{")
    with pytest.raises(RecordError, match="03_three.cpu.json is damaged"):
        load_record("03_three")
    path.write_text(json.dumps({"provenance": {"chapter": "03_three"}, "results": {}}))
    with pytest.raises(RecordError, match="is not a record: provenance has no data; restore it wi"):
        load_record("03_three")


ROWS = {"plain": [{"ap": 0.5, "pro": 1}, {"ap": 0.25, "pro": 0.75}]}
IN_ROWS = {  # edits of the results, and of what is said
    "a metric as text": (lambda rows: rows["plain"][1].update(ap="0.25"), "of another type, than"),
    "a missing metric": (lambda rows: rows["plain"][1].pop("pro"), "other metrics"),
    "a metric as text in all seeds": (lambda rows: rows.update(a=[{"ap": "1"}]), "is '1', and no"),
    "a truth as metric": (lambda rows: rows.update(a=[{"ap": True}]), "is True, and no"),
    "a row without seeds": (lambda rows: rows.update(a=[]), "is not a list with an entry a seed"),
}
EDITS = {  # edits of a record of one run, and of one of cells
    **{name: (lambda c, edit=edit: edit(c["results"]["rows"]), said)
       for name, (edit, said) in IN_ROWS.items()},
    **{f"{name}, in a cell": (lambda c, edit=edit: edit(cell(c)["results"]["rows"]), said)
       for name, (edit, said) in IN_ROWS.items()},
    "nothing kept": (lambda c: c.update(results={}), "results holds nothing by name"),
    "a later version": (lambda c: c.update(version=2), "it is not provenance and results"),
    "an unknown key": (lambda c: c["provenance"].update(gpus=8), "gpus is unknown to this vers"),
    "a number as text": (lambda c: c["provenance"].update(seconds="9"), "seconds is '9'"),
    "a truth for a number": (lambda c: c["provenance"].update(seconds=True), "seconds is True"),
    "no parameters": (lambda c: c["provenance"].pop("parameters"), "has no parameters"),
    "a list of data": (lambda c: c["provenance"].update(data=["mvtec"]), "data is .'mvtec'."),
    "a version of 2": (lambda c: c["provenance"]["versions"].update(numpy=2), "that is no text"),
    "a cell without results": (lambda c: cell(c).pop("results"), r"cells\[0\] is not"),
    "a cell of text": (lambda c: as_cells(c).update(cells=["a"]), r"cells\[0\] is not"),
    "no cells": (lambda c: as_cells(c)["cells"].clear(), "cells is empty"),
}  # fmt: skip


def cell(content: dict) -> dict:
    return as_cells(content)["cells"][0]


def as_cells(content: dict) -> dict:
    """Turn the content of a record of one run into that of one cell, in place."""
    only = {"provenance": dict(content["provenance"]), "results": content.pop("results")}
    del only["provenance"]["checksum"]
    content |= {"cells": [only], "provenance": {"chapter": "03_three", "profile": "cpu"}}
    return content


@pytest.mark.parametrize("name", EDITS)
def test_a_record_of_another_form_is_refused_by_everyone_who_reads_it(repo, name):
    write(repo, "cpu", rows=ROWS)
    path = repo / "book" / "records" / "03_three.cpu.json"
    assert load_record("03_three").results == {"rows": ROWS} and changed_records() == []
    edit, message = EDITS[name]
    content = records.read_json(path)
    edit(content)
    content["provenance"]["checksum"] = records.content_checksum(content)
    records.write_json(path, content)
    readers = (lambda: load_record("03_three"), lambda: records.committed("03_three"),
               lambda: records.write_cells(path, "03_three", "cpu", [], []))  # fmt: skip
    for read in readers:
        with pytest.raises(RecordError, match=f"3_three.cpu.json is not a record: .*{message}"):
            read()
    (line,) = changed_records()
    assert "; restore it with git, or" in line and not check_runs(path.parent)["ok"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ('{"provenance": {"chap', "Unterminated string"),
        ("[" * 100_000, "maximum recursion depth"),
        ('<<<<<<< HEAD\n{"provenance": {}', "Expecting value"),
        ('{"provenance": {}, "results": {"auroc": NaN}}', "NaN is no finite number"),
    ],
)
def test_a_damaged_record_is_restored_with_git(repo, text, message):
    (repo / "book" / "records" / "03_three.cpu.json").write_text(text)
    with pytest.raises(RecordError, match=f"3_three.cpu.json is damaged .*{message}.*; restore it"):
        load_record("03_three")
    (line,) = changed_records()
    assert line.startswith("03_three.cpu.json is damaged")


def test_a_record_edited_by_hand_is_not_shown(repo):
    write(repo, "cpu", rows=ROWS)
    path = repo / "book" / "records" / "03_three.cpu.json"
    path.write_text(path.read_text().replace("0.25", "0.52"))
    for read in (load_record, records.committed):
        with pytest.raises(RecordError, match="03_three.cpu.json was changed after its run; resto"):
            read("03_three")


def test_a_record_that_names_no_threads_is_read(repo):
    assert "threads" not in PROVENANCE
    write(repo, "cpu", auroc=0.5)
    assert load_record("03_three").results == {"auroc": 0.5}


def test_the_run_that_makes_a_record_reads_its_own_results(repo, run_dir):
    (run_dir / "run.json").write_text(json.dumps({"provenance": PROVENANCE}))
    keep(auroc=0.25)
    assert load_record("03_three").results == {"auroc": 0.25}
    with pytest.raises(RecordError, match="no record of chapter 04_four"):
        load_record("04_four")
    write(repo, "cpu", auroc=0.5)
    assert load_record("03_three").results == {"auroc": 0.5}


def test_results_of_a_quick_run_are_never_a_record(repo, run_dir):
    quick = {**PROVENANCE, "profile": "quick"}
    (run_dir / "run.json").write_text(json.dumps({"provenance": quick}))
    keep(auroc=0.25)
    with pytest.raises(RecordError, match="no record of chapter 03_three"):
        load_record("03_three")


@pytest.mark.parametrize("text", ["/home/ann/sets", "read from /home/ann", "C:\\sets", "~/a/b"])
def test_no_path_of_a_machine_gets_into_a_record(tmp_path, text):
    path = tmp_path / "record.json"
    with pytest.raises(RecordError, match=r"results.notes\[0\] holds a path"):
        write_record(path, PROVENANCE, {"notes": [text]})
    assert not path.exists()


@pytest.mark.parametrize("text", ["screw/test/bent/003.png", "mean ± deviation", "1/2", "a / b"])
def test_names_inside_a_data_set_may_be_in_a_record(tmp_path, text):
    write_record(tmp_path / "record.json", PROVENANCE, {text: text})
    assert json.loads((tmp_path / "record.json").read_text())["results"] == {text: text}


def test_what_nobody_could_read_is_not_written(tmp_path):
    path = tmp_path / "record.json"
    for change, message in (({"gpus": 8}, "gpus is unknown"), ({"seconds": "9"}, "seconds is '9'")):
        with pytest.raises(RecordError, match=f"record.json is not written, .*{message}"):
            write_record(path, PROVENANCE | change, {"ap": 0.5})
    with pytest.raises(RecordError, match="results.rows.plain.1. has other metrics"):
        write_record(path, PROVENANCE, {"rows": {"plain": [{"ap": 0.5}, {"pro": 0.5}]}})
    assert not path.exists()


def test_a_record_without_results_is_refused(tmp_path):
    with pytest.raises(RecordError, match="03_three keeps no results"):
        write_record(tmp_path / "record.json", PROVENANCE, {})


def test_paper_tables_are_whole():
    tables = records.book_path("paper_tables.yml")
    assert tables == ROOT / "book" / "paper_tables.yml"
    names = [f"fmabs-{n}" for n in range(1, 6)] + [f"ast-mfr-{n}" for n in range(1, 10)]
    for name in names:
        table = paper_table(name)
        assert {"source", "doi", "caption", "columns", "rows"} == set(table)
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}, name
    with pytest.raises(RecordError, match="no paper table 'fmabs-7'; there are .*fmabs-4"):
        paper_table("fmabs-7")


def test_a_record_says_when_it_was_changed(repo):
    write(repo, "cpu", auroc=0.512345, pictures=["é"])
    path = repo / "book" / "records" / "03_three.cpu.json"
    assert record_fault(json.loads(path.read_text("utf-8"))) == ""
    for old, new in (("0.512345", "0.512346"), ('"steps": 3', '"steps": 4')):
        text = path.read_text("utf-8")
        assert old in text
        fault = record_fault(json.loads(text.replace(old, new)))
        assert "was changed after its run; restore it with git" in fault
    path.write_text(text.replace("\n", "\r\n"), "utf-8")  # how the file is laid out is no content
    assert record_fault(json.loads(path.read_text("utf-8"))) == ""


def test_an_older_record_is_given_its_checksum_once(repo):
    write(repo, "cpu", auroc=0.5)
    path = repo / "book" / "records" / "03_three.cpu.json"
    sound = path.read_text()
    content = json.loads(sound)
    del content["provenance"]["checksum"]
    path.write_text(json.dumps(content))
    assert "has no checksum" in record_fault(json.loads(path.read_text()))
    records.seal(path)
    assert path.read_text() == sound
    path.write_text(sound.replace("0.5", "0.6"))
    with pytest.raises(RecordError, match="03_three.cpu.json was changed after its run"):
        records.seal(path)


def test_committed_records_are_read_or_none(repo):
    assert records.committed("03_three") is None
    write(repo, "cpu", auroc=0.5)
    write(repo, "full", auroc=0.6)
    full = records.committed("03_three")
    assert full.profile == "full"
    other = {**full.parameters, "size": -1}
    assert records.committed("03_three", other) is None
    with pytest.raises(RecordError, match="has no cell with .*-1"):
        records.load_record("03_three", where=other)
    path = repo / "book" / "records" / "03_three.cpu.json"
    write_record(path, {**PROVENANCE, "profile": "cpu", "parameters": other}, {"auroc": 0.7})
    found = records.load_record("03_three", where=other)  # the full one has another size
    assert (found.profile, found.results["auroc"]) == ("cpu", 0.7)


def test_a_yaml_file_of_the_book_that_cannot_be_read_is_named(repo):
    with pytest.raises(RecordError, match=r"ledger\.yml cannot be read .*restore it"):
        records.book_yaml("ledger.yml")
    (repo / "book" / "ledger.yml").write_text("a: [")
    with pytest.raises(RecordError, match=r"ledger\.yml cannot be read"):
        records.book_yaml("ledger.yml")


def test_the_values_of_a_profile_are_what_it_names_for_a_chapter(repo):
    text = "quick:\n  01_one: {steps: 5}\n  02_two:\ncpu:\n  01_one: {steps: 9, lr: 0.5}\nfull:\n"
    (repo / "book" / "profiles.yml").write_text(text)
    assert profile_values("01_one", "cpu") == {"steps": 9, "lr": 0.5}
    assert profile_values("02_two", "quick") == {}  # without a value
    assert profile_values("02_two", "cpu") == profile_values("01_one", "full") == {}  # not named
    names = {"steps": 5, "batch_size": 4}
    names.update(profile_values("01_one", "cpu"))
    assert names == {"steps": 9, "lr": 0.5, "batch_size": 4}


def test_an_unknown_profile_or_chapter_is_told_which_there_are(repo):
    (repo / "book" / "profiles.yml").write_text("quick: {01_one: {}, 02_two: {}}\ncpu:\n")
    with pytest.raises(RecordError, match="no profile 'colab'; there are quick, cpu"):
        profile_values("01_one", "colab")
    with pytest.raises(RecordError, match="no chapter '10_drem'.*there are 01_one, 02_two"):
        profile_values("10_drem", "cpu")


def test_a_folder_that_a_reader_names_is_made_for_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv(records.RUN_DIR, str(tmp_path / "drive" / "10_draem"))
    keep(rows=[1])
    assert records.read_json(tmp_path / "drive/10_draem/results.json") == {"rows": [1]}
