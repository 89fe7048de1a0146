"""Checks of the book's sources: `fmabs-lite check` runs them, `make test` demands them.

Each finding is one line: the file and cell (counted from 1), what is wrong, how to mend it.
Nothing is executed or imported from the repository under check; sources are read as text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fmabs_lite.lesson.schema import misfits
from fmabs_lite.lesson.values import read_values
from fmabs_lite.press.checks import frame, prose
from fmabs_lite.press.checks.address import fork, repository_url
from fmabs_lite.press.checks.folds import check_folds, sync_folds
from fmabs_lite.press.checks.lines import OpenCode, open_code
from fmabs_lite.press.checks.notebook import Notebook
from fmabs_lite.press.checks.twins import Package, check_twins, sync_twins

__all__ = ["count_lines", "fork", "run_checks", "sync"]

PAGES = ("README.md", "book/*.md")


def run_checks(repo: Path) -> list[str]:
    """All findings in the repository's chapters, pages, profiles and records; [] when sound."""
    repository = repository_url(repo)
    tables = read_values((repo / "book/paper_tables.yml").read_text(encoding="utf-8"))["tables"]
    problems = [*check_profiles(repo), *check_records(repo), *check_contents(repo)]
    package, registered = Package(repo), frame.registered_exercises(repo)
    for notebook in read_all(repo, problems):
        problems += [
            *frame.check_stored(notebook),
            *frame.check_frame(notebook, repository),
            *frame.check_code(notebook),
            *frame.check_figures(notebook),
            *frame.check_exercises(notebook, registered),
            *check_folds(notebook),
            *check_twins(notebook, package),
            *prose.check_portable(notebook),
            *prose.check_blocks(notebook),
            *prose.check_html(notebook),
            *prose.check_links(notebook, repository),
            *prose.check_typed_results(notebook, tables),
            *prose.check_words(notebook),
        ]
    for path in sorted(path for pattern in PAGES for path in repo.glob(pattern)):
        problems += prose.page_problems(path, repo, repository, tables)
    return problems


def sync(repo: Path) -> list[str]:
    """Bring cells tagged `defines` and the folding of all cells up to date; returns the changes."""
    return [*sync_twins(repo), *sync_folds(repo)]


def count_lines(repo: Path) -> list[OpenCode]:
    """The open code of each chapter, in order."""
    return [open_code(Notebook.read(path)) for path in chapter_files(repo)]


def chapter_files(repo: Path) -> list[Path]:
    return sorted((repo / "book").glob("[0-9][0-9]_*.ipynb"))


def read_all(repo: Path, problems: list[str]) -> Iterator[Notebook]:
    for path in chapter_files(repo):
        try:
            yield Notebook.read(path)
        except (ValueError, KeyError) as error:
            problems.append(f"book/{path.name}: is not a notebook ({error}); restore it")


def check_contents(repo: Path) -> list[str]:
    """The table of contents lists every chapter there is."""
    from fmabs_lite.press.plan import toc

    listed = set(toc(repo))
    return [
        f"book/_toc.yml: {path.stem} is not listed, so the book lacks it; add it"
        for path in chapter_files(repo)
        if path.stem not in listed
    ]


def check_profiles(repo: Path) -> list[str]:
    """Profiles name chapters and parameters that exist; *quick* is what the notebooks open with."""
    from fmabs_lite.press import plan

    problems, there = [], {path.stem for path in chapter_files(repo)}
    defaults: dict[str, dict] = {}
    for path in chapter_files(repo):
        try:
            defaults[path.stem] = plan.parameter_defaults(plan.read_notebook(path), path.stem)
        except plan.RunError as error:
            problems.append(f"book/{path.name}: {error}")
    for profile, chapters in plan.read_yaml(repo / "book/profiles.yml").items():
        for name, values in (chapters or {}).items():
            place = f"book/profiles.yml: {profile}, {name}"
            if name not in there:
                problems.append(f"{place}: there is no such chapter; correct the name")
            if name not in defaults:
                continue
            for key in sorted(set(values or {}) - set(defaults[name])):
                problems.append(f"{place}: the chapter has no parameter {key}; correct the name")
            if profile == "quick" and any(defaults[name].get(k, v) != v for k, v in values.items()):
                own = {key: defaults[name].get(key) for key in values}
                problems.append(f"{place}: the notebook opens with {own}; make the two equal")
    return problems


def check_records(repo: Path) -> list[str]:
    """Committed records are as their runs left them, hold results, and rest on three seeds.

    Those in `book/cells` wait for more seeds. Only chapter 18 reads them, and tells their number.
    """
    from fmabs_lite.lesson.records import RESTORE, RecordError, as_record, read_json, record_fault

    problems = []
    folders = (repo / "book" / name for name in ("records", "cells"))
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        place = path.relative_to(repo).as_posix()
        try:
            record = read_json(path, RESTORE)
        except RecordError as error:
            problems.append(str(error).replace(str(path), f"{place}:"))
            continue
        if fault := record_fault(record):
            problems.append(f"{place}: {fault}")
        if next(misfits(record), ""):
            continue
        provenance, whole = record["provenance"], as_record(record, path)
        results, seeds = whole.results, whole.parameters.get("seeds", [0, 1, 2])
        if f"{provenance.get('chapter')}.{provenance.get('profile')}.json" != path.name:
            problems.append(f"{place}: is a record of another chapter or profile; rename it")
        many = len(seeds if isinstance(seeds, list) else range(seeds))
        if many < 3 and path.parent.name == "records":
            problems.append(f"{place}: rests on fewer than three seeds; run it with three")
        for name, part in results.items():
            if part in (None, [], {}, ""):
                problems.append(f"{place}: {name} is empty; run the chapter to its end")
    return problems
