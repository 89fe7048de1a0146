"""What the build adds to the pages."""

import base64
import json
import zipfile

import pytest

from fmabs_lite.press.pages import (
    ANSWERS,
    DIAGRAM,
    RUNS,
    boxes,
    with_answers,
    with_diagram,
    with_live,
    with_picture,
    with_runs,
    zip_notebooks,
)


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


def notebook(*texts: str, **metadata) -> dict:
    outputs = [{"data": {"text/markdown": text}} for text in texts]
    return {"cells": [{"metadata": {}}, {"metadata": metadata, "outputs": outputs}]}


def test_answers_are_those_of_the_boxes_that_were_shown(tmp_path):
    yes = "> **Does it help?** **Yes.** In AP *a* is above *b*.\n>\n> - more"
    no = "> **And there?** **No, it hurts.** In AP *a* is below *b*."
    for name, shown in (("01_a", [yes, no, yes]), ("02_b", ["> **Synthetic data.** Drawn."])):
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook(*shown)))
    assert boxes(notebook(no, no)) == [("And there?", "No, it hurts")]
    both = no.replace("And there?", "And there? Or here?")
    assert boxes(notebook(both)) == [("And there?", "No, it hurts"), ("Or here?", "No, it hurts")]
    page = with_answers(f"Before.\n\n{ANSWERS}\n", tmp_path, ["01_a", "02_b", "03_c"])
    assert "| [01](01_a.ipynb) | Does it help? | Yes |" in page and "02_b" not in page
    assert "All questions of the chapters, 2: 1 × *Yes*, 1 × *No, it hurts*." in page
    assert "No question" in with_answers(ANSWERS, tmp_path, ["02_b"])


def test_a_picture_comes_from_a_chapter_with_its_caption(tmp_path):
    shown = notebook(mystnb={"figure": {"name": "fig-1", "caption": "One."},
                             "image": {"alt": "A dot."}})  # fmt: skip
    shown["cells"][1]["outputs"] = [{"data": {"image/png": base64.b64encode(b"dot").decode()}}]
    (tmp_path / "01_a.ipynb").write_text(json.dumps(shown))
    page = with_picture("Before.\n\n% picture 01_a fig-1\n\nAfter.", tmp_path, tmp_path)
    assert (tmp_path / "fig-1.png").read_bytes() == b"dot"
    assert ":::{figure} fig-1.png\n:alt: A dot.\n\nOne.\n:::\n\nAfter." in page
    with pytest.raises(KeyError, match="no figure 'fig-2'"):
        with_picture("% picture 01_a fig-2", tmp_path, tmp_path)
    assert with_picture("Nothing.", tmp_path, tmp_path) == "Nothing."


def test_a_live_figure_comes_from_a_chapters_cell(tmp_path):
    shown = notebook("beside it")
    shown["cells"][1] |= {"id": "01-paint"}
    shown["cells"][1]["outputs"].append({"data": {"text/html": ["<b>it", "</b>"]}})
    shown["cells"].append({"id": "01-no", "metadata": {}, "outputs": []})
    (tmp_path / "01_a.ipynb").write_text(json.dumps(shown))
    page = with_live("Before.\n\n% live 01_a 01-paint\n\nAfter.", tmp_path)
    assert page == "Before.\n\n````{raw} html\n<b>it</b>\n````\n\nAfter."
    for name in ("01-no", "01-other"):
        with pytest.raises(KeyError, match=f"no cell '{name}' with HTML"):
            with_live(f"% live 01_a {name}", tmp_path)
    assert with_live("Nothing.", tmp_path) == "Nothing."


def test_the_index_shows_the_whole_method():
    page = with_diagram(f"Before.\n\n{DIAGRAM}\n\nAfter.")
    before, opens, rest = page.partition("```{raw} html\n")
    assert before == "Before.\n\n" and opens and rest.endswith("\n```\n\nAfter.")
    assert 'data-part="Fea_I"' in rest and 'class="dim"' not in rest
