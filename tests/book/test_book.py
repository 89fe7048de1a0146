"""The book as a whole: its sources hold to the rules, its chapters run, its pages are sound."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

from fmabs_lite.press.checks import chapter_files, count_lines, run_checks
from fmabs_lite.press.checks.frame import exercise_check, solution_of
from fmabs_lite.press.checks.lines import over_limits
from fmabs_lite.press.checks.notebook import Notebook
from fmabs_lite.press.plan import parameter_defaults, read_notebook

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = [path.stem for path in chapter_files(ROOT)]


def test_the_sources_hold_to_the_rules():
    assert CHAPTERS
    assert run_checks(ROOT) == []


def test_open_code_is_mostly_the_idea():
    assert over_limits(count_lines(ROOT)) == []


def test_ruff_has_nothing_to_say():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "-q", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- chapters as stored ---------------------------------------------------------------------


@pytest.mark.book
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs(book, chapter):
    if not book.outcomes:  # the chapters ran; then the pages had warnings
        assert book.warnings and executed(book, chapter)
        return
    (outcome,) = [outcome for outcome in book.outcomes if outcome.chapter == chapter]
    assert outcome.status in ("done", "kept"), outcome.error


def executed(book, chapter: str) -> Path:
    path = book.executed / f"{chapter}.ipynb"
    assert path.exists(), f"{chapter} has never run to its end"
    return path


def texts(cell) -> list[str]:
    """Everything textual that a cell put out."""
    found = []
    for output in cell.get("outputs", []):
        found += ["".join(output.get("text", "")), *output.get("traceback", [])]
        found += ["".join(data) for kind, data in output.get("data", {}).items() if "text" in kind]
    return found


@pytest.mark.book
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_ends_without_errors(book, chapter):
    notebook = nbformat.read(executed(book, chapter), 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    for number, cell in enumerate(notebook.cells, start=1):
        kinds = {output.output_type for output in cell.get("outputs", [])}
        wanted = "raises-exception" in cell.metadata.get("tags", [])
        assert ("error" in kinds) == wanted, f"cell {number}: {texts(cell)}"
        assert wanted or not any("Traceback" in text for text in texts(cell)), f"cell {number}"


@pytest.mark.book
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_blank_exercises_say_not_attempted(book, chapter):
    stored = Notebook.read(ROOT / "book" / f"{chapter}.ipynb").code("exercise")
    ran = Notebook.read(executed(book, chapter)).code("exercise")
    assert len(stored) == len(ran) >= 3
    for cell in ran:
        number, _ = exercise_check(cell)
        printed = "".join(texts(cell.raw)).strip().splitlines()
        assert f"Exercise {number}: not attempted." in printed, f"cell {cell.number}"


# --- exercises with their solutions -----------------------------------------------------------


def with_solutions(path: Path) -> nbformat.NotebookNode:
    """The stored notebook with every folded solution in the place of its blank."""
    notebook, raw = Notebook.read(path), nbformat.read(path, 4)
    for cell in notebook.code("exercise"):
        number, name = exercise_check(cell)
        solved = copy.copy(raw.cells[cell.number - 1])
        solved.source = f'{solution_of(notebook, cell)}\ncheck("{number}", {name})'
        raw.cells[cell.number - 1] = solved
    return raw


def all_rows_briefly(path: Path) -> str:
    """Overrides, as JSON: no answer to an exercise hangs on how long a network was trained.

    The book's own run trains a few rows for longer; here every row is trained.
    """
    names = parameter_defaults(read_notebook(path), path.stem)
    brief = {name: 4 for name in names if name.endswith("steps")}
    return json.dumps(brief | ({"rows": ["all"]} if "rows" in names else {}))


@pytest.fixture(scope="module")
def solved(book, tmp_path_factory) -> dict[str, tuple[str, Path]]:
    """Every chapter run with its solutions, two side by side: (what went wrong, the notebook)."""

    def run(path: Path) -> tuple[str, Path]:
        folder = folders[path]
        source, target = folder / f"{path.stem}.in.ipynb", folder / path.name
        nbformat.write(with_solutions(path), source)
        job = [source, target, all_rows_briefly(path), "quick"]
        done = subprocess.run(
            [sys.executable, "-m", "fmabs_lite.press.runner", *job],
            env={**os.environ, "OMP_NUM_THREADS": "1", "FMABS_RUN_DIR": str(folder)},
            capture_output=True,
            text=True,
        )
        return (done.stdout + done.stderr[-1000:]) if done.returncode else "", target

    # Made here: pytest's first folder cannot be made by two threads at once.
    folders = {path: tmp_path_factory.mktemp(path.stem) for path in chapter_files(ROOT)}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CHAPTERS, pool.map(run, folders), strict=True))


@pytest.mark.book
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_solutions_pass(solved, chapter):
    problem, target = solved[chapter]
    assert not problem, problem
    cells = Notebook.read(target).code("exercise")
    assert len(cells) >= 3
    for cell in cells:
        number, _ = exercise_check(cell)
        printed = "".join(texts(cell.raw)).strip().splitlines()
        assert f"Exercise {number}: passed." in printed, f"cell {cell.number}: {printed}"


# --- pages ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def soups(pages) -> dict[str, BeautifulSoup]:
    return {
        name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for name, path in pages.items()
    }


@pytest.mark.book
def test_pages_build_without_warnings(book, pages):
    assert not book.warnings


@pytest.mark.book
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_picture_is_shown_with_words_for_it(soups, book, chapter):
    notebook = nbformat.read(executed(book, chapter), 4)
    drawn = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]
    images = soups[chapter].select("main img")
    shown = [image for image in images if "_images" in image["src"]]
    assert len(shown) >= len(drawn)
    assert [str(image)[:200] for image in images if not image.get("alt", "").strip()] == []


@pytest.mark.book
def test_internal_links_and_anchors_resolve(soups, pages):
    ids = {
        path.resolve(): {tag["id"] for tag in soups[name].select("[id]")}
        for name, path in pages.items()
    }
    broken, followed = [], 0
    for name, soup in soups.items():
        for tag in soup.select("a[href], img[src]"):
            link = urlsplit(tag.get("href") or tag.get("src"))
            if link.scheme or link.netloc or tag.get("href") == "#":
                continue
            target = (pages[name].parent / unquote(link.path)).resolve()
            target = target if link.path else pages[name].resolve()
            fragment = unquote(link.fragment)
            followed += 1
            if not target.exists() or (target in ids and fragment and fragment not in ids[target]):
                broken.append(f"{name}: {tag.get('href') or tag.get('src')}")
    assert followed > len(pages) and broken == []
