"""Checks of folded cells, and what `fmabs-lite sync` writes into the notebooks about them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fmabs_lite.press.checks.notebook import Cell, Notebook
from fmabs_lite.press.folding import FOLD, for_editors, title_of

LONGEST_TITLE = 60  # characters: with “Show code: ” before it still one line of a page
TO_BE_READ = ("defines", "idea", "exercise")


def check_folds(notebook: Notebook) -> list[str]:
    """A cell tagged `fold` has a title and is stored folded; no other cell has or is."""
    problems = []
    for cell in notebook.cells:
        found = [*(_folded(cell) if cell.tagged(FOLD) else _open(cell))]
        if cell.metadata != for_editors(cell.metadata):
            found.append("its metadata do not fold it as its tags say; run `fmabs-lite sync`")
        problems += [notebook.problem(cell, text) for text in found]
    return problems


def _folded(cell: Cell) -> Iterator[str]:
    title = title_of(cell.source)
    if cell.kind != "code":
        yield "is tagged `fold` but holds no code; drop the tag"
    elif not title:
        yield "is tagged `fold` but its first line is not `# @title What it does`; add that line"
    if len(title) > LONGEST_TITLE:
        text = f"the title “{title}” has {len(title)} characters, more than {LONGEST_TITLE}"
        yield f"{text}; shorten it"
    for tag in filter(cell.tagged, TO_BE_READ):
        yield f"is tagged `fold` and `{tag}`, but what is tagged `{tag}` is read; drop one of them"


def _open(cell: Cell) -> Iterator[str]:
    if cell.kind == "code" and cell.source.startswith("# @title"):
        yield "begins with `# @title` but is not tagged `fold`; add the tag or drop the line"


def sync_folds(repo: Path) -> list[str]:
    """Write into each chapter's cells what folds them in JupyterLab and Colab, or opens them.

    Returns the cells changed.
    """
    changed: list[str] = []
    for path in sorted((repo / "book").glob("*.ipynb")):
        notebook = Notebook.read(path)
        stale = [cell for cell in notebook.cells if cell.metadata != for_editors(cell.metadata)]
        for cell in stale:
            cell.raw["metadata"] = for_editors(cell.metadata)
            state = "folded" if cell.tagged(FOLD) else "open"
            changed.append(notebook.problem(cell, f"is {state} in JupyterLab and on Colab"))
        if stale:
            notebook.write()
    return changed
