"""Build the pages of the book from its executed notebooks, with jupyter-book."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from fmabs_lite.press.claims import hold
from fmabs_lite.press.finish import finish
from fmabs_lite.press.folding import page_copy
from fmabs_lite.press.pages import (
    NOTEBOOKS,
    with_answers,
    with_diagram,
    with_live,
    with_picture,
    with_runs,
    zip_notebooks,
)
from fmabs_lite.press.plan import Settings, chapters, toc
from fmabs_lite.press.runner import Outcome, run
from fmabs_lite.press.speed import with_boost, with_speed

PAGES = ("*.md", "*.bib", "_toc.yml")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"  # a page shows its own copy
STATIC = "_static"  # style sheet, logo and their like; jupyter-book takes it along
TOOL_CHAIN = ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme")


class BuildError(ValueError):
    """The pages cannot be built: the message holds the warnings, which count as errors."""


def build(repo: Path, settings: Settings) -> tuple[list[Outcome], Path]:
    """Run all chapters and build the HTML; return an outcome for each and the first page.

    The last outcome is that of the pages themselves. With a failed chapter no page is built.
    Raises BusyError if another build is at work.
    """
    page = repo / "_build" / "html" / "index.html"
    with hold(page.parent, "the pages of the book"):
        outcomes = run(repo, (), settings)
        if any(outcome.status == "failed" for outcome in outcomes):
            return [*outcomes, Outcome("pages", "left out", 0.0)], page
        return [*outcomes, html(repo)], page


def html(repo: Path) -> Outcome:
    """Turn the executed notebooks and the Markdown pages into `_build/html`, if they changed.

    Raises BuildError with the lines of every warning.
    """
    start = time.monotonic()
    source = collect(repo)
    stamp = repo / "_build" / "html.json"
    state = {"source": source_hash(repo, source)}
    page = repo / "_build" / "html" / "index.html"
    if page.exists() and stamp.exists() and json.loads(stamp.read_text()) == state:
        return Outcome("pages", "kept", 0.0)
    stamp.unlink(missing_ok=True)
    shutil.rmtree(page.parent, ignore_errors=True)  # no page of a chapter that is gone
    _jupyter_book(repo, source)
    finish(page.parent)
    if (missing := source / STATIC / "404.html").exists():
        shutil.copyfile(missing, page.parent / "404.html")  # where servers look for it
    stamp.write_text(json.dumps(state))
    return Outcome("pages", "done", round(time.monotonic() - start, 1))


def collect(repo: Path) -> Path:
    """Put what jupyter-book reads into `_build/source`: pages, folded notebooks, style, archive."""
    source = repo / "_build" / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for pattern in PAGES:
        for path in (repo / "book").glob(pattern):
            shutil.copyfile(path, source / path.name)
    shelf, names = repo / "_build" / "executed", chapters(repo)
    for name in names:
        executed = (shelf / f"{name}.ipynb").read_text(encoding="utf-8")
        page = page_copy(executed)
        if (repo / "book" / STATIC / "colab.svg").exists():
            page = page.replace(BADGE, f"{STATIC}/colab.svg")
        (source / f"{name}.ipynb").write_text(page, encoding="utf-8")
    for name in toc(repo):
        if not any((source / f"{name}{ending}").exists() for ending in (".md", ".ipynb")):
            raise BuildError(f"book/_toc.yml lists {name}, but book/{name}.md is missing")
    for path in source.glob("*.md"):
        page = with_runs(path.read_text(encoding="utf-8"), shelf, names)
        page = with_picture(with_answers(page, shelf, names), shelf, source)
        page = with_boost(with_live(with_diagram(page), shelf), repo)
        page = with_speed(page, repo)
        path.write_text(page, encoding="utf-8")
    zip_notebooks(repo / "book", names, source / NOTEBOOKS)
    if (repo / "book" / STATIC).is_dir():
        shutil.copytree(repo / "book" / STATIC, source / STATIC)
    return source


def source_hash(repo: Path, source: Path) -> str:
    """SHA-256 of everything that the pages depend on."""
    total = hashlib.sha256()
    for path in [repo / "_config.yml", *sorted(p for p in source.rglob("*") if p.is_file())]:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    total.update(" ".join(version(name) for name in TOOL_CHAIN).encode())
    return total.hexdigest()


def _jupyter_book(repo: Path, source: Path) -> None:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(source), "--config", str(repo / "_config.yml"), "--path-output", str(repo)]
    command += ["-W", "-n", "--keep-going", "--all", "-q"]
    speaks = {"encoding": "utf-8", "env": os.environ | {"PYTHONIOENCODING": "utf-8"}}
    done = subprocess.run(command, cwd=repo, capture_output=True, errors="replace", **speaks)
    (repo / "_build" / "html.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        told = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-15:]
        raise BuildError("the pages have warnings:\n" + "\n".join(told))
