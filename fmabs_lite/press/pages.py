"""What the build adds to the pages: the runs behind them, and all notebooks as one file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmabs_lite.lesson.records import read_json

NOTEBOOKS = "notebooks.zip"
PDF = "fmabs-lite.pdf"  # the whole book, where it was printed
RUNS = "% runs"  # the line of book/running.md in whose place they stand
DAY = (2020, 1, 1, 0, 0, 0)  # of every file in the archive: equal notebooks make equal bytes


def with_runs(page: str, shelf: Path, names: Sequence[str]) -> str:
    """The page `running`, with a line for each chapter and what all of them ran on.

    Args:
        shelf: the folder of executed notebooks, with what is known of each run beside it.
    """
    known = {name: read_json(path) for name in names
             if (path := shelf / f"{name}.json").exists()}  # fmt: skip
    if not known:
        return page.replace(RUNS, "No run is on record.")
    lines = ["| chapter | profile | data | seconds | finished |", "|---|---|---|---:|---|"]
    lines += [_line(name, run["provenance"], run["measured"]) for name, run in known.items()]
    total = sum(run["measured"]["seconds"] for run in known.values())
    lines.append(f"\nTogether {total / 60:.1f} minutes of running. {_ground(known.values())}")
    lines.append(f"\nAll notebooks in one file: [{NOTEBOOKS}]({NOTEBOOKS}).")
    return page.replace(RUNS, "\n".join(lines))


def _line(name: str, provenance: dict[str, Any], measured: dict[str, Any]) -> str:
    sets = provenance["data"].values()
    data = "–" if not sets else "synthetic" if set(sets) == {"drawn"} else "real"
    finished = measured["finished"][:16].replace("T", " ")
    return (f"| [{name[:2]}]({name}.ipynb) | {provenance['profile']} | {data} | "
            f"{measured['seconds']:.0f} | {finished} |")  # fmt: skip


def _ground(runs: Any) -> str:
    """Machines and versions, each said once."""
    runs = list(runs)
    machines = sorted({run["measured"]["machine"] for run in runs})
    versions = {name: sorted({run["provenance"]["versions"][name] for run in runs})
                for name in runs[0]["provenance"]["versions"]}  # fmt: skip
    told = ", ".join(f"{name} {' and '.join(found)}" for name, found in versions.items())
    return f"Run on {'; '.join(machines)}. Versions: {told}."


def zip_notebooks(book: Path, names: Sequence[str], target: Path) -> None:
    """All chapters as they are stored, in one archive."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(f"fmabs-lite/{name}.ipynb", DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, (book / f"{name}.ipynb").read_bytes())
