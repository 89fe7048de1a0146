"""What the build adds to the pages."""

import json
import zipfile

from fmabs_lite.press.pages import RUNS, with_runs, zip_notebooks


def run(name: str, seconds: float, data: str = "drawn", torch: str = "2.9") -> dict:
    return {
        "provenance": {"chapter": name, "profile": "quick", "data": {"mvtec": data},
                       "versions": {"python": "3.11", "torch": torch}},
        "measured": {"device": "cpu", "machine": "Linux, 2 cores", "seconds": seconds,
                     "finished": "2026-11-27T12:05:28Z"},
    }  # fmt: skip


def test_each_run_has_a_line_with_its_seconds_and_its_data(tmp_path):
    (tmp_path / "01_a.json").write_text(json.dumps(run("01_a", 30.4)))
    (tmp_path / "02_b.json").write_text(json.dumps(run("02_b", 89.6, "real", torch="2.10")))
    page = with_runs(f"Before.\n\n{RUNS}\n\nAfter.", tmp_path, ["01_a", "02_b", "03_c"])
    assert "| [01](01_a.ipynb) | quick | synthetic | 30 | 2026-11-27 12:05 |" in page
    assert "| [02](02_b.ipynb) | quick | real | 90 |" in page and "03_c" not in page
    assert "2.0 minutes" in page and page.count("Linux, 2 cores") == 1
    assert "torch 2.10 and 2.9" in page and "python 3.11," in page
    assert page.startswith("Before.") and page.endswith("After.")


def test_without_runs_the_page_says_so(tmp_path):
    assert "No run is on record" in with_runs(RUNS, tmp_path, ["01_a"])


def test_equal_notebooks_make_equal_archives(tmp_path):
    (tmp_path / "01_a.ipynb").write_text("{}")
    one, two = tmp_path / "one.zip", tmp_path / "two.zip"
    for target in (one, two):
        zip_notebooks(tmp_path, ["01_a"], target)
        (tmp_path / "01_a.ipynb").touch()
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert archive.namelist() == ["fmabs-lite/01_a.ipynb"]
