"""A copy of the book for a class: its notebooks without solutions, and a key for who marks."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmabs_lite.press.plan import chapters, toc

SOLUTION = re.compile(r"<details><summary>Solution</summary>\n(.*?)\n</details>\n*", re.DOTALL)
CHECK = re.compile(r'^check\("(\d\d\.\d+)"', re.MULTILINE)


class ClassError(ValueError):
    """A class copy that cannot be written: the message says where and why."""


def class_copy(repo: Path, out: Path) -> int:
    """Write `out/class`, the notebooks without solutions, and `out/answer_key.md`.

    Returns:
        How many solutions were taken out.
    Raises:
        ClassError: if `out` has something in it, or a solution belongs to no exercise.
    """
    if out.exists() and any(out.iterdir()):
        raise ClassError(f"{out} is not empty; name a folder that is new, or empty it.")
    folder = out / "class"
    folder.mkdir(parents=True)
    key = ["# Answer key\n\nEach exercise checks itself; these are the solutions of the book."]
    names = chapters(repo)
    for name in names:
        notebook = json.loads((repo / "book" / f"{name}.ipynb").read_text(encoding="utf-8"))
        answers = list(taken_out(notebook, name))
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{name}.ipynb").write_text(text, encoding="utf-8")
        key += [f"## Exercise {exercise}\n\n{answer.strip()}" for exercise, answer in answers]
    for page in set(toc(repo)) - set(names):
        shutil.copyfile(repo / "book" / f"{page}.md", folder / f"{page}.md")
    (out / "answer_key.md").write_text("\n\n".join(key) + "\n", encoding="utf-8")
    return len(key) - 1


def taken_out(notebook: dict[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Take the solutions out of a notebook, in place; give each with its exercise's number."""
    asked = ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            asked = next(iter(CHECK.findall(text)), asked)
            continue
        for answer in SOLUTION.findall(text):
            if not asked:
                raise ClassError(f"book/{name}.ipynb has a solution before its first exercise.")
            yield asked, answer
        cell["source"] = SOLUTION.sub("", text).splitlines(keepends=True)
