"""What is compared in speed: told as it was measured, and measured by one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmabs_lite.press.speed import (
    SCALE,
    SPEED,
    WHERE,
    curves,
    plots,
    short,
    size,
    table,
    tables,
    times,
    told_growth,
    whole,
    with_speed,
)

ROOT = Path(__file__).resolve().parents[2]
ONE = {
    "title": "Reading", "what": "Pictures.", "unit": "picture", "many": 4, "against": "theirs",
    "goals": {"ours": 3, "ours, again": 2}, "why": "It is hard.",
    "seconds": {"ours": [1.0, 2.0, 4.0], "ours, again": [1.0, 1.0, 1.0], "theirs": [2.0, 5.0, 8.0]},
}  # fmt: skip


GROWTH = {
    "title": "A longer video", "what": "Frames.", "x": "frames", "most": 2**30,
    "counts": [10, 1000], "seconds": [0.5, 20.0], "bytes": [3 * 2**20, 2**31],
}  # fmt: skip


def without(row: str) -> dict:
    return ONE | {"seconds": {k: v for k, v in ONE["seconds"].items() if k != row}}


def test_ratios_are_taken_within_each_round():
    """2/1, 5/2 and 8/4: the ratio of the medians, 5/2, would hide that none but one has it."""
    assert times(ONE["seconds"], "ours", "theirs") == (2.0, 2.0, 2.25)


def test_a_table_has_times_rates_ratios_and_what_became_of_goals():
    page = table(ONE)
    assert "| what ran | ms for each picture | pictures a second | beside theirs |" in page
    assert "| ours | 500 | 2.00 | 2.00 (2.00 to 2.25) |" in page
    assert "| theirs | 1,250 | 0.800 | 1 |" in page and "Medians of 3 rounds." in page
    assert "Goal for *ours*: 3 times, **missed**." in page
    assert "Goal for *ours, again*: 2 times, **reached**. It is hard." in page


def test_a_reason_stands_only_where_a_goal_is_missed():
    assert "It is hard" not in table(ONE | {"goals": {"ours, again": 2}})


def test_without_the_other_there_are_own_rows_and_nothing_of_goals():
    page = table(without("theirs"))
    assert "| ours | 500 | 2.00 |\n" in page and "beside" not in page.lower()
    assert "Goal" not in page


@pytest.mark.parametrize("goal, said", [(2, "reached"), (2.1, "missed")])
def test_a_goal_may_be_a_number_a_second(goal, said):
    page = table(without("theirs") | {"against": "a second", "goals": {"ours": goal}})
    assert f"pictures a second, **{said}**" in page


@pytest.mark.parametrize(
    "number, text", [(0.0123, "0.012"), (1.234, "1.23"), (99.96, "100.0"), (22617.9, "22,618")]
)
def test_numbers_are_short(number, text):
    assert short(number) == text


def test_the_page_tells_what_was_measured_last(tmp_path):
    (tmp_path / "book").mkdir()
    assert with_speed(f"a\n{SPEED}\nb", tmp_path) == "a\nNothing was measured.\nb"
    found = {"rounds": 3, "device": "cpu", "machine": "Linux, 2 cores",
             "versions": {"torch": "2.9"}, "comparisons": [ONE], "growths": [GROWTH]}  # fmt: skip
    (tmp_path / "book" / "speed.json").write_text(json.dumps(found))
    page = with_speed(f"a\n{SPEED}\nb\n{SCALE}", tmp_path)
    assert page == f"a\n{tables(found)}\nb\n{curves(found)}" and "**Reading.** Pictures." in page
    assert "Linux, 2 cores" in page and "torch 2.9" in page and "anomalib was not" in page
    assert "was not" not in tables(found | {"versions": {"anomalib": "2.7.0"}})


def test_the_committed_measurements_are_told():
    page = with_speed(f"{SPEED}\n\n{SCALE}", ROOT)
    assert page.count("\n\n**") >= 14 and page.count("<svg role") == 9
    assert "nan" not in page and "inf" not in page


def test_a_step_is_told_by_what_it_consists_of():
    shares = {"convolutions": 0.755, "the rest": 0.245}
    row = {"chapter": "11_mnad", "profile": "cpu", "sample": [5, 1, 64, 96], "batch": 4}
    ground = {"machine": "Linux, 2 cores", "device": "cpu", "versions": {"torch": "2.9"}}
    page = whole({"where": ground | {"rows": [row | {"shares": shares}]}})
    assert "| chapter | a batch | convolutions | the rest |\n|---|---|---:|---:|" in page
    assert "| [11](11_mnad.ipynb) | 4 × 5 × 1 × 64 × 96 | 76 | 24 |" in page
    committed = json.loads((ROOT / "book" / "speed.json").read_text())
    assert page.endswith("Measured on Linux, 2 cores, one thread, on cpu. torch 2.9.")
    for row in committed["where"]["rows"]:
        assert sum(row["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert with_speed(WHERE, ROOT).count(".ipynb") == len(committed["where"]["rows"]) >= 7


@pytest.mark.parametrize(
    "operation, kind",
    [
        ("aten::mkldnn_convolution", "convolutions"),
        ("autograd::engine::evaluate_function: ConvolutionBackward0", "convolutions"),
        ("aten::native_batch_norm_backward", "normalisation"),
        ("aten::threshold_backward", "activations and pooling"),
        ("Optimizer.zero_grad#Adam.zero_grad", "Adam"),
        ("aten::_to_copy", "copies"),
        ("aten::bmm", "the rest"),
    ],
)
def test_operations_are_sorted_by_their_names(operation, kind, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    from bench_where import kind_of

    assert kind_of(operation) == kind


def test_growth_is_told_in_words_and_the_picture_has_them_too():
    words = "0.500 s and 3.00 MiB for 10 frames, 20.0 s and 2.00 GiB for 1,000."
    assert told_growth(GROWTH) == f"{words} Goal: no more than 1.00 GiB, **missed**."
    assert "**reached**" in told_growth(GROWTH | {"most": 2**31})
    svg = plots(GROWTH)
    alt = "A longer video: memory against frames, both logarithmic: 3.00 MiB for 10, 2,048 MiB for"
    assert svg.count('<svg role="img" aria-label="A longer video: ') == 2 and alt in svg
    assert "#010203" not in svg and "currentColor" in svg and "memory (MiB)" in svg
    assert svg == plots(GROWTH)  # the build tells by it whether the page changed
    only = {key: value for key, value in GROWTH.items() if key not in ("bytes", "most")}
    assert told_growth(only) == "0.500 s for 10 frames, 20.0 s for 1,000."
    assert "memory" not in plots(only)


@pytest.mark.parametrize(
    "count, text", [(0, "0.000 bytes"), (1023, "1,023 bytes"), (1024, "1.00 KiB"),
                    (5 * 2**40, "5,120 GiB")]
)  # fmt: skip
def test_bytes_have_the_largest_unit_that_fits(count, text):
    assert size(count) == text


@pytest.mark.slow
def test_the_command_measures_everything_with_one_round(tmp_path):
    """Without anomalib, whether it is installed or not, and on drawn data."""
    (tmp_path / "anomalib.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    others = {name: value for name, value in os.environ.items() if name != "FMABS_DATA"}
    target = tmp_path / "speed.json"
    command = [sys.executable, "tests/benchmarks/run.py", "--tiny", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--into", str(target)], cwd=ROOT, env=others | {"PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    parts = {one["part"] for one in found["comparisons"]}
    assert parts == {"draem", "pair", "reading", "metrics", "boosted", "video"}
    assert [len(one["counts"]) for one in found["growths"]] == [2] * 5
    assert all(row["shares"]["convolutions"] > 0 for row in found["where"]["rows"])
    rows = [row for one in found["comparisons"] for row in one["seconds"].values()]
    assert all(len(row) == 1 and row[0] >= 0 for row in rows)
    assert not any("anomalib" in one["seconds"] for one in found["comparisons"])
    # One part again, in its place; the others stay.
    before = [one["title"] for one in found["comparisons"]]
    subprocess.run(
        [*command, "video", "--into", str(target)], cwd=ROOT, env=others | {"PYTHONPATH": path},
        check=True, capture_output=True,
    )  # fmt: skip
    again = json.loads(target.read_text())["comparisons"]
    assert [one["title"] for one in again] == before and again[:-3] == found["comparisons"][:-3]
    assert again[-3:] != found["comparisons"][-3:]
