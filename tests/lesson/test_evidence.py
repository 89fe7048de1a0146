"""Rows of results: what is asked of them, what is said, and when nothing may be said."""

from __future__ import annotations

import numpy as np
import pytest

from fmabs_lite.lesson import evidence as module
from fmabs_lite.lesson.evidence import Evidence, demonstration, evidence, harder, pack, unpack
from fmabs_lite.lesson.planned import Planned
from fmabs_lite.lesson.records import Record
from fmabs_lite.lesson.seeds import Ratio, difference, ratio

COLUMNS = {"ap": "AP", "pro": "PRO"}
ROWS = {
    "trivial": [{"ap": 0.10, "pro": 0.5}],
    "plain": [{"ap": 0.20, "pro": 0.50}, {"ap": 0.22, "pro": 0.52}, {"ap": 0.21, "pro": 0.48}],
    "boosted": [{"ap": 0.30, "pro": 0.51, "fea": 0.4}, {"ap": 0.31, "pro": 0.50, "fea": 0.4},
                {"ap": 0.32, "pro": 0.52, "fea": 0.5}],
}  # fmt: skip


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What is displayed, as Markdown."""
    texts: list[str] = []
    monkeypatch.setattr(module, "say", texts.append)
    monkeypatch.setattr("fmabs_lite.lesson.plots.say", texts.append)
    return texts


@pytest.fixture
def held() -> Evidence:
    return Evidence(ROWS, COLUMNS, "Three made-up seeds.")


def test_numbers_gaps_and_ratios_are_those_of_the_rows(held):
    assert held.each("plain").tolist() == [0.20, 0.22, 0.21]
    assert held.mean("plain", "pro") == pytest.approx(0.5)
    one, other = [0.30, 0.31, 0.32], [0.20, 0.22, 0.21]
    assert held.gap("boosted", "plain") == difference(one, other)
    assert held.gap("boosted", "boosted", "ap", "fea") == difference(one, [0.4, 0.4, 0.5])
    assert held.ratio("boosted", "plain", "ap") == ratio(one, other)
    assert held.ratio("boosted", "boosted", "ap", "fea") == ratio(one, [0.4, 0.4, 0.5])
    assert held.against("boosted", "plain").startswith("above *plain* (+10.0 points, +7.")
    assert held.against("plain", "boosted", "pro").startswith("not told apart from *boosted*")


def test_what_is_not_there_is_named_with_what_is(held):
    with pytest.raises(KeyError, match="no row 'booste'; there are trivial, plain, boosted"):
        held.gap("booste", "plain")
    with pytest.raises(KeyError, match="row 'plain' has no 'fea'; it has ap, pro"):
        held.each("plain", "fea")


def test_each_interval_is_counted_once_however_often_it_is_shown(held):
    for _ in range(3):
        held.gap("boosted", "plain")  # settled
        held.gap("boosted", "plain", "pro")  # not
    held.ratio("boosted", "plain", "ap")
    text = held.tally()
    assert text.startswith("3 intervals were read here. 2 of them leave out the value of no")
    assert "if nothing at all were going on, 0.2 would on average" in text  # 3 times 5 %


def test_tables_show_all_rows_or_some_under_other_names(held, said):
    held.table("map", columns=COLUMNS | {"fea": "feature"})
    lines = said[-1].splitlines()
    assert lines[0] == "| map | AP | PRO | feature |"
    assert lines[2] == "| trivial | 10.0 | 50.0 | – |"
    assert lines[4] == "| boosted | 31.0 ± 1.0 | 51.0 ± 1.0 | 43.3 ± 5.8 |"
    assert lines[-1] == "*Percent, mean ± standard deviation over the seeds. Three made-up seeds.*"
    held.table(rows={"r = 0": "plain"}, note="A note.")
    assert said[-1].splitlines()[2] == "| r = 0 | 21.0 ± 1.0 | 50.0 ± 2.0 |"
    assert said[-1].endswith("the seeds. Three made-up seeds. A note.*")


def test_a_column_that_an_older_record_lacks_is_left_out(said):
    wide = Evidence(ROWS, COLUMNS | {"fea": "feature", "where": "pixel AUROC"})
    wide.table(rows=["trivial", "plain"])
    assert said[-1].splitlines()[0] == "| detector | AP | PRO |"
    wide.table()
    assert said[-1].splitlines()[0] == "| detector | AP | PRO | feature |"
    wide.gaps("plain", ["boosted"])
    assert said[-1].splitlines()[0] == "| minus *plain* | AP | PRO |"
    with pytest.raises(KeyError, match="has no 'where'"):
        wide.gap("boosted", "plain", "where")


def test_a_table_of_differences_is_bold_where_zero_is_outside(held, said):
    held.gaps("plain", ["boosted"])
    row = said[-1].splitlines()[2]
    gaps = [held.gap("boosted", "plain", key).short for key in COLUMNS]
    assert row == f"| boosted | {gaps[0]} | {gaps[1]} |"
    assert gaps[0].startswith("**+10.0 (") and not gaps[1].startswith("**")
    held.gaps("plain")
    assert [line.split(" | ")[0] for line in said[-1].splitlines()[2:4]] == [
        "| trivial", "| boosted",
    ]  # fmt: skip


MORE, LESS, SAME = (Ratio(mean, mean - 0.1, mean + 0.1, 3) for mean in (1.5, 0.5, 1.05))


@pytest.mark.parametrize(
    "inside, apart, word",
    [
        (MORE, MORE, "harder"),
        (MORE, SAME, "not told apart"),  # worse at everything
        (SAME, MORE, "not harder in themselves, but stand out more"),
        (LESS, LESS, "easier"),
        (MORE, LESS, "not easier in themselves, but stand out less"),
    ],
)
def test_defects_are_harder_only_beyond_normal_images(inside, apart, word):
    assert harder(inside, apart) == word


def test_a_student_that_is_worse_at_everything_finds_nothing_harder(said):
    own = [{"defect": 0.04, "sound": 0.02}, {"defect": 0.05, "sound": 0.025}]
    held = Evidence({"worse": [{k: 2 * v for k, v in run.items()} for run in own], "own": own}, {})
    held.harder("worse", ["own"])
    first, row = said[-1].splitlines()[0], said[-1].splitlines()[2]
    assert first.startswith("| *worse* over | in defects | on normal images |")
    assert row == ("| own | **×2.000 (2.000 to 2.000)** | **×2.000 (2.000 to 2.000)** "
                   "| ×1.000 (1.000 to 1.000) | not told apart |")  # fmt: skip
    assert held.tally().startswith("3 intervals")


def test_a_verdict_that_can_be_given(held, said):
    held.verdict("Does it help?", "boosted", "plain", paper=6.4, beats=("plain", "trivial"),
                 change="Another category.")  # fmt: skip
    text, gap = said[-1], held.gap("boosted", "plain")
    assert all(line.startswith(">") for line in text.splitlines())
    assert "**Does it help?** **Yes.** In AP *boosted* is above *plain*." in text
    assert f"+10.0 points (95 % interval {gap.low:+.1f} to {gap.high:+.1f})" in text
    assert "the paper prints +6.4" in text and f"{gap.smallest:.1f} points from zero" in text
    assert "Three made-up seeds." in text and "Another category." in text


def test_a_verdict_of_too_few_seeds_says_how_many_are_needed(held, said):
    held.verdict("Does it help?", "boosted", "plain", "pro", paper=0.5)
    gap = held.gap("boosted", "plain", "pro")
    assert "**Not shown.** In PRO *boosted* is not told apart from *plain*." in said[-1]
    assert f"as large as the paper's, {gap.seeds_for(0.5)} would be needed" in said[-1]
    assert gap.seeds_for(0.5) > 3


def test_a_verdict_that_hurts(held, said):
    held.verdict("Does it help?", "plain", "boosted")
    assert "**No, it hurts.** In AP *plain* is below *boosted*." in said[-1]


def test_no_verdict_where_the_detector_does_not_detect(held, said):
    """By PRO the plain detector equals the trivial one, so no interval of a boost may follow."""
    held.verdict("Does it help?", "boosted", "plain", "pro", beats=("plain", "trivial"))
    expected = "**Cannot be asked here.** In PRO *plain* is not shown to beat *trivial* (50.0"
    assert expected in said[-1]
    assert "interval" not in said[-1] and "Measured" not in said[-1]


def record(data: dict, **used) -> Record:
    parameters = {"seeds": [0, 1, 2], "steps": 600, "batch_size": 16} | used
    return Record("10_x", "cpu", parameters, {"Ped2": {"rows": ROWS}, "rows": ROWS}, "cpu", 1.0,
                  data, {}, "")  # fmt: skip


@pytest.mark.parametrize(
    "data, used, on, expected",
    [
        ({"mvtec": "ab"}, {"category": "screw", "size": 128}, "",
         "Screw of MVTec AD (CC BY-NC-SA 4.0), 128² pixels; 600 steps of 16 (9,600 samples) for "
         "every network; 3 seeds; profile cpu."),
        ({"avenue": "ab", "ped2": "cd"}, {"ped2_size": [64, 96]}, "ped2",
         "UCSD Ped2, 64 × 96 pixels; 600 steps of 16 (9,600 samples) for every network; 3 seeds; "
         "profile cpu."),
        ({"mvtec": "drawn"}, {"category": "screw", "size": 64}, "",
         "Screw of synthetic data, 64² pixels; 600 steps of 16 (9,600 samples) for every network; "
         "3 seeds; profile cpu."),
        ({"mvtec": "ab"}, {"category": "static", "size": 64}, "",
         "The made world *static* of chapter 04, 64² pixels; 600 steps of 16 (9,600 samples) for "
         "every network; 3 seeds; profile cpu."),
    ],
)  # fmt: skip
def test_what_a_record_rests_on(data, used, on, expected, monkeypatch):
    monkeypatch.setattr(module, "load_record", lambda chapter, where: record(data, **used))
    held = evidence("10_x", COLUMNS, on=on)
    assert held.basis == expected and held.used["steps"] == 600
    assert evidence("10_x", COLUMNS, on=on, at=("Ped2", "rows")).rows is ROWS


def test_rows_of_cells_are_compared_over_the_seeds_that_both_have(monkeypatch):
    short = record({"mvtec": "ab"}, category="screw", size=128)
    short.results["rows"] = ROWS | {"plain": ROWS["plain"][:2]}
    short.results["seeds"] = {"plain": [0, 2], "boosted": [0, 1, 2]}
    asked = []
    monkeypatch.setattr(module, "load_record", lambda chapter, where: asked.append(where) or short)
    held = evidence("10_x", COLUMNS, where={"category": "screw"})
    assert held.gap("boosted", "plain") == difference([0.30, 0.32], [0.20, 0.22])
    assert held.gap("boosted", "trivial").seeds == 3 and asked == [{"category": "screw"}]


def test_a_demonstration_says_that_it_is_one(said):
    demonstration(ROWS, COLUMNS, [0], 150).table()
    assert said[-1].endswith("the seeds. 1 seed, 150 steps for every network. A demonstration: "
                             "the conclusions read a committed record.*")  # fmt: skip


def test_pictures_come_back_from_the_text_of_a_record():
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (9, 7), np.uint8), rng.integers(0, 256, (9, 7, 3), np.uint8)
    assert np.array_equal(unpack(pack(grey)), grey)
    assert np.array_equal(unpack(pack(colour)), colour)
    assert np.array_equal(unpack([[pack(grey)]])[0][0], grey)
    assert np.array_equal(unpack(pack(grey / 255.0)), grey)
    flat = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    assert np.abs(unpack(pack(flat, ".jpg")).astype(int) - flat).max() < 6
    assert "/" not in pack(colour)  # else a record takes it for a path


def test_a_planned_question_says_how_many_seeds_were_meant_and_how_many_are_in(said, held):
    held.verdict("Does it?", "boosted", "plain", "ap", beats=("plain", "trivial"), intended=6)
    assert "*Planned beforehand:* 6 seeds; 3 are in." in said[-1]
    held.verdict("Does it?", "boosted", "plain", "ap")
    assert "Planned" not in said[-1]


def test_an_unasked_question_counts_no_interval_and_the_best_trivial_row_is_to_be_beaten(
    said, monkeypatch
):
    rows = ROWS | {"trivial: strong": [{"ap": 0.25, "pro": 0.5}]}
    record = Record("04_x", "cpu", {"steps": 1, "batch_size": 1, "size": 8, "seeds": [0, 1, 2]},
                    {"rows": rows}, "cpu", 1.0, {"mvtec": "drawn"}, {}, "today")  # fmt: skip
    found = module.Held(record, COLUMNS, ("rows",), "")
    weak = Planned("Does it?", "boosted", "plain", "ap", 2.0, "plain", ("trivial",), 6)
    monkeypatch.setattr(module, "planned", lambda chapter: [weak])
    found.primary()
    assert "**Yes.**" in said[-1]
    strong = weak._replace(trivial=("trivial", "trivial: strong"))
    monkeypatch.setattr(module, "planned", lambda chapter: [strong])
    found = module.Held(record, COLUMNS, ("rows",), "")
    found.primary()
    assert "Cannot be asked" in said[-1] and "trivial: strong" in said[-1]
    assert len(found.asked) == 1  # the detector against the trivial row

    several = [strong, weak, strong._replace(asks="And that?"), strong._replace(key="pro")]
    monkeypatch.setattr(module, "planned", lambda chapter: several)
    before = len(said)
    module.Held(record, COLUMNS, ("rows",), "").primary()
    first, second, *others = said[before:]
    assert "**Yes.**" in first and "**Does it? And that?** **Cannot be asked" in second
    assert len(others) == 1, "by another measure it has a box of its own"

    later = weak._replace(asks="And later?", other="twin")
    monkeypatch.setattr(module, "planned", lambda chapter: [later, weak])
    before = len(said)
    module.Held(record, COLUMNS, ("rows",), "").primary()
    first, last = said[before:]
    assert "**Yes.**" in first
    assert last == "> **And later?** **Not trained yet.** The record lacks *twin*."


def test_a_row_without_a_feature_score_is_its_own_hybrid():
    rows = {"control": [{"ap": 0.2}], "student": [{"ap": 0.1, "hybrid_ap": 0.5}]}
    held = Evidence(rows, {"hybrid_ap": "AP"})
    assert held.each("control").tolist() == [0.2] and held.each("student").tolist() == [0.5]
    with pytest.raises(KeyError, match="has no 'hybrid_pro'"):
        held.each("student", "hybrid_pro")


def test_a_table_of_one_seed_has_no_standard_deviation_to_explain(said):
    Evidence({"plain": [{"ap": 0.2}]}, {"ap": "AP"}, "One seed.").table()
    assert said[-1].endswith("*Percent. One seed.*")


def test_the_made_worlds_are_those_that_can_be_opened():
    from fmabs_lite.data.static import WORLDS

    assert set(module.MADE) == set(WORLDS)
