"""A throwaway book of two short chapters, for the tests of the runner and the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = """\
# @title Parameters
data = ""  # a folder
steps = 3  # how many
rate = 0.5  # how far
name = "screw\""""
SOUND = """\
import os
import torch
from fmabs_lite.data.folder import open_data
from fmabs_lite.lesson.records import keep
files = sorted(path.name for path in open_data(data).mvtec.rglob("*.png"))
torch.manual_seed(0)
keep(draws=torch.rand(steps) * rate, name=name, files=files)
keep(threads=[os.environ["OMP_NUM_THREADS"], torch.get_num_threads()])
print(torch.rand(1))"""
FRAGILE = """\
import os, time
from pathlib import Path
from fmabs_lite.lesson.records import keep
mark = Path(os.environ["FMABS_RUN_DIR"], "checkpoints", "mark")
print(data, steps, rate, name)
if not mark.exists():
    mark.parent.mkdir()
    mark.write_text(f"{os.getpid()}")
    raise KeyError("no cable")
keep(seen=mark.exists())"""


def make_book(root: Path, **cells: str) -> Path:
    """Write a book whose chapters (name=code of the last cell) have the four parameters above."""
    book = root / "book"
    book.mkdir(parents=True)
    for name, code in cells.items():
        write_chapter(root, name, code)
    listed = "".join(f"- file: {name}\n" for name in cells)
    (book / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{listed}")
    (book / "index.md").write_text("# A tiny book\n\nTwo chapters.\n")
    (book / "references.bib").write_text("")
    (book / "profiles.yml").write_text("quick: {}\ncpu: {}\nfull: {}\n")
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "book" / "_static", book / "_static")  # which it names
    return root


def write_chapter(root: Path, name: str, code: str, parameters: str = PARAMETERS) -> None:
    """Write one chapter, as the book's chapters are: one folded cell tagged `parameters`."""
    cells = [
        new_markdown_cell(f"# {name}?", id="title"),
        new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters", "fold"]}),
        new_code_cell(code, id="work"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    (root / "book" / f"{name}.ipynb").write_text(json.dumps(notebook))


def make_data(root: Path) -> Path:
    """Write a folder that the loaders take for real data, with one file in it."""
    picture = root / "sets" / "mvtec" / "screw" / "000.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"not a picture")
    return root / "sets"


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
