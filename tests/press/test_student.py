"""A class gets the exercises, and not their solutions."""

import json
import re

import pytest
from click.testing import CliRunner
from tiny_book import ROOT

from fmabs_lite.press import cli
from fmabs_lite.press.plan import chapters
from fmabs_lite.press.student import SOLUTION, ClassError, class_copy, taken_out


def notebook(*cells: tuple[str, str]) -> dict:
    return {"cells": [{"cell_type": kind, "source": text.splitlines(keepends=True)}
                      for kind, text in cells]}  # fmt: skip


def solution(text: str) -> str:
    return f"<details><summary>Solution</summary>\n\n{text}\n\n</details>"


def test_a_solution_goes_to_the_key_with_the_number_of_its_exercise():
    book = notebook(
        ("code", 'def a():\n    ...\n\n\ncheck("01.1", a)'),
        ("markdown", solution("```python\na = 1\n```") + "\n\n**2.** And now this."),
        ("code", 'check("01.2", b)'),
        ("markdown", solution("Because.") + "\n\n## What you learned"),
    )
    assert [(n, text.strip()) for n, text in taken_out(book, "01_a")] == [
        ("01.1", "```python\na = 1\n```"), ("01.2", "Because.")]  # fmt: skip
    left = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "markdown"]
    assert left == ["**2.** And now this.", "## What you learned"]


def test_a_solution_of_no_exercise_is_refused():
    with pytest.raises(ClassError, match="01_a.ipynb has a solution before"):
        list(taken_out(notebook(("markdown", solution("x"))), "01_a"))


def test_the_whole_book_for_a_class(tmp_path):
    done = CliRunner().invoke(cli.main, ["student", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    key = (tmp_path / "out" / "answer_key.md").read_text(encoding="utf-8")
    for name in chapters(ROOT):
        stored = json.loads((ROOT / "book" / f"{name}.ipynb").read_text(encoding="utf-8"))
        given = (tmp_path / "out" / "class" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert "<summary>Solution" not in given
        texts = ["".join(cell["source"]) for cell in stored["cells"]]
        exercises = re.findall(r'^check\("(\d\d\.\d+)"', "\n".join(texts), re.M)
        assert exercises and all(f"## Exercise {number}\n" in key for number in exercises)
        assert len(json.loads(given)["cells"]) == len(stored["cells"])
    assert len(re.findall(r"^## Exercise", key, re.M)) == sum(
        len(SOLUTION.findall("\n".join("".join(c["source"]) for c in json.loads(
            (ROOT / "book" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"])))
        for name in chapters(ROOT))  # fmt: skip
    assert (tmp_path / "out" / "class" / "glossary.md").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ClassError, match="not empty"):
        class_copy(ROOT, tmp_path)
