"""What the build adds to the pages: runs, answers, two pictures, all notebooks as one file."""

from __future__ import annotations

import base64
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmabs_lite.lesson.diagrams import drawn
from fmabs_lite.lesson.records import read_json

NOTEBOOKS = "notebooks.zip"
PDF = "fmabs-lite.pdf"  # the whole book, where it was printed
RUNS = "% runs"  # the line of book/running.md in whose place they stand
ANSWERS = "% answers"  # of book/index.md
DIAGRAM = "% diagram"  # of book/index.md
PICTURE = re.compile(r"^% picture (?P<chapter>\w+) (?P<figure>[\w-]+)$", re.MULTILINE)
LIVE = re.compile(r"^% live (?P<chapter>\w+) (?P<cell>[\w-]+)$", re.MULTILINE)
BOX = re.compile(r"> \*\*(?P<question>[^*]+\?)\*\* \*\*(?P<answer>[^*]+)\.\*\*")
DAY = (2020, 1, 1, 0, 0, 0)  # of every file in the archive: equal notebooks make equal bytes


def with_runs(page: str, shelf: Path, names: Sequence[str]) -> str:
    """The page `running`, with a line for each chapter and what all of them ran on.

    Args:
        shelf: the folder of executed notebooks, with what is known of each run beside it.
    """
    if RUNS not in page:
        return page
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


def with_answers(page: str, shelf: Path, names: Sequence[str]) -> str:
    """The page `index`, with the first verdict of each chapter, and how many of all say what.

    Args:
        shelf: the folder of executed notebooks.
    """
    if ANSWERS not in page:
        return page
    found = {name: boxes(read_json(path)) for name in names
             if (path := shelf / f"{name}.ipynb").exists()}  # fmt: skip
    answers = [answer for asked in found.values() for _, answer in asked]
    if not answers:
        return page.replace(ANSWERS, "No question was answered.")
    counts = Counter(answers).most_common()
    told = ", ".join(f"{many} × *{answer}*" for answer, many in counts)
    lines = ["| | first question | answer |", "|---|---|---|"]
    lines += [f"| [{name[:2]}]({name}.ipynb) | {question} | {answer} |"
              for name, asked in found.items()
              for question, answer in asked[:1]]  # fmt: skip
    lines.append(f"\nAll questions of the chapters, {len(answers)}: {told}.")
    return page.replace(ANSWERS, "\n".join(lines))


def boxes(notebook: dict[str, Any]) -> list[tuple[str, str]]:
    """Questions and answers of the verdict boxes (see `Evidence.verdict`) that a notebook shows.

    A box that is shown at the beginning and once more at the end counts once; one of several
    questions, which have an answer in common, as several.
    """
    shown = (output.get("data", {}).get("text/markdown", "") for cell in notebook["cells"]
             for output in cell.get("outputs", []))  # fmt: skip
    heads = (BOX.match("".join(text)) for text in shown)
    asked = ((head["question"], head["answer"]) for head in heads if head)
    return list(dict.fromkeys((question, answer) for questions, answer in asked
                              for question in re.split(r"(?<=\?) ", questions)))  # fmt: skip


def with_picture(page: str, shelf: Path, folder: Path) -> str:
    """The page, with a named figure of an executed chapter in the place of "% picture …".

    Args:
        folder: where the picture is written, as the page will find it beside itself.
    Raises:
        KeyError: when the chapter shows no such figure.
    """
    if not (asked := PICTURE.search(page)):
        return page
    chapter, name = asked["chapter"], asked["figure"]
    for cell in read_json(shelf / f"{chapter}.ipynb")["cells"]:
        shown = cell["metadata"].get("mystnb", {})
        if shown.get("figure", {}).get("name") != name:
            continue
        packed = next(o["data"]["image/png"] for o in cell["outputs"] if "data" in o)
        (folder / f"{name}.png").write_bytes(base64.b64decode("".join(packed)))
        lines = [f":::{{figure}} {name}.png", f":alt: {shown['image']['alt']}", "",
                 shown["figure"]["caption"], ":::"]  # fmt: skip
        return page[: asked.start()] + "\n".join(lines) + page[asked.end() :]
    raise KeyError(f"chapter {chapter} shows no figure {name!r}, which book/index.md asks for")


def with_live(page: str, shelf: Path) -> str:
    """The page, with what a cell of an executed chapter shows in the place of "% live …".

    Raises:
        KeyError: when the chapter has no such cell, or the cell shows no HTML.
    """
    if not (asked := LIVE.search(page)):
        return page
    chapter, name = asked["chapter"], asked["cell"]
    for cell in read_json(shelf / f"{chapter}.ipynb")["cells"]:
        for output in cell.get("outputs", []) if cell.get("id") == name else []:
            if shown := "".join(output.get("data", {}).get("text/html", "")):
                lines = ["````{raw} html", shown, "````"]
                return page[: asked.start()] + "\n".join(lines) + page[asked.end() :]
    raise KeyError(f"chapter {chapter} has no cell {name!r} with HTML, which a page asks for")


def with_diagram(page: str) -> str:
    """The page, with the picture of the whole method in the place of "% diagram"."""
    if DIAGRAM not in page:
        return page
    return page.replace(DIAGRAM, f"```{{raw}} html\n{drawn()[0]}\n```")


def zip_notebooks(book: Path, names: Sequence[str], target: Path) -> None:
    """All chapters as they are stored, in one archive."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(f"fmabs-lite/{name}.ipynb", DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, (book / f"{name}.ipynb").read_bytes())
