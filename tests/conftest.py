"""What several test files share: the repository and the book built from it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The networks of the tests are so small that a second thread only waits for the first."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def same_package(monkeypatch) -> None:
    """Take the package for unchanged, whoever edits it while the tests run."""
    monkeypatch.setattr("fmabs_lite.press.plan.package_hash", lambda: "package")


@dataclass
class Book:
    """The book as `make book` builds it: chapters in quick on drawn data, and their pages."""

    outcomes: list = field(default_factory=list)
    warnings: str = ""
    executed: Path = ROOT / "_build" / "executed"
    html: Path = ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def book() -> Book:
    """Run and build what has changed since the last time, and say how it went."""
    from fmabs_lite.press.build import BuildError, build
    from fmabs_lite.press.claims import BusyError
    from fmabs_lite.press.plan import Settings

    found, end = Book(), time.monotonic() + 3600
    while True:
        try:
            found.outcomes, _ = build(ROOT, Settings())
        except BuildError as error:
            found.warnings = str(error)
        except BusyError:  # another process of these tests builds it
            if time.monotonic() > end:
                raise
            time.sleep(5)
            continue
        return found


@pytest.fixture(scope="session")
def pages(book: Book) -> dict[str, Path]:
    """The built pages, by the names in the table of contents."""
    from fmabs_lite.press.plan import toc

    failed = [f"{o.chapter}: {o.error}" for o in book.outcomes if o.status == "failed"]
    assert not failed and not book.warnings, "\n".join(["no pages", *failed, book.warnings])
    return {name: book.html / f"{name}.html" for name in toc(ROOT)}
