"""Results of a chapter's run: kept while it runs, committed afterwards, read by conclusions.

A record is one JSON file, `book/records/<chapter>.<profile>.json`, with two parts: "provenance"
(what ran, on what, with which values) and "results" (what came out). They stand apart so that the
results of two runs can be compared for equality. A record that grows has "cells" instead, each with
these two parts; they are joined when it is read (see `cells`).

A record carries a checksum of its own content in its provenance, so an edit by accident (a search
and replace, a merge) is noticed by everyone who reads it (`read_record`). It stands inside the
record, and not in an index beside it, so that a record travels whole, two new records never touch
one file, and every `*.json` in the folder is a record. It guards against accidents, not intent.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmabs_lite.lesson.cells import JOINED, join, select
from fmabs_lite.lesson.schema import misfits
from fmabs_lite.lesson.values import read_values

RUN_DIR = "FMABS_RUN_DIR"
SHARED_DIR = "FMABS_SHARED_DIR"  # of networks that several cells of a sweep have in common
KERNEL = "kernel.json"  # beside a run's results: what they were computed with
PROFILES = ("full", "cpu")  # the committed ones, in the order of trust
PRIVATE = r"(?<![\w.])(?:/[\w.~ -]+){2}|\b[A-Za-z]:\\"  # an absolute path, anywhere in a text
PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "opencv-python-headless",
    "fmabs-lite",
)


RESTORE = (
    "restore it with git, or install the package anew if it came with that; else make it again "
    "with fmabs-lite run --keep-records"
)


class RecordError(ValueError):
    """A result that cannot be kept, or a record or table that is missing or damaged."""


@dataclass(frozen=True)
class Record:
    """One committed run of a chapter; `results` is what the chapter gave to `keep`.

    `seconds` is the measured time of the whole notebook, or of all cells. `data` maps the name of
    each data set used to its `fmabs_lite.data.folder.checksum`, `finished` is a UTC time.
    """

    chapter: str
    profile: str
    parameters: dict[str, Any]
    results: dict[str, Any]
    device: str
    seconds: float
    data: dict[str, str]
    versions: dict[str, str]
    finished: str


def keep(**results: Any) -> None:
    """Keep named results of the running chapter, for its record.

    Values are what JSON holds, numpy arrays or tensors; floats are rounded to six significant
    digits. Under `fmabs-lite run` they are merged into `results.json` of the run, as in any
    folder that FMABS_RUN_DIR names; without one they are only checked, so a chapter opened by hand
    says the same things.

    Raises RecordError, naming the entry, for NaN, infinity or a value that JSON cannot hold.
    """
    clean = {name: _plain(value, name) for name, value in results.items()}
    folder = os.environ.get(RUN_DIR)
    if not folder:
        return
    path = Path(folder) / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)  # a reader on Colab names it, and makes none
    merged = {**read_json(path), **clean} if path.exists() else clean
    write_json(path, merged)
    write_json(path.with_name(KERNEL), computed_with())


def computed_with() -> dict[str, Any]:
    """Versions, device and threads of the CPU in this very process."""
    import torch

    return {"versions": versions(), "device": device(), "threads": torch.get_num_threads()}


def _plain(value: Any, name: str) -> Any:
    if hasattr(value, "tolist"):  # numpy and torch, arrays and scalars alike
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RecordError(f"keep: {name} is {value}; a record holds finite numbers only")
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{name}[{number}]") for number, item in enumerate(value)]
    raise RecordError(
        f"keep: {name} is a {type(value).__name__}; give numbers, text, lists, dicts, "
        "arrays or tensors"
    )


def load_record(
    chapter: str, profile: str | None = None, where: dict[str, Any] | None = None
) -> Record:
    """Read the committed record of a chapter; without a profile, *full* before *cpu*.

    Of a record of cells, those are meant that have the values `where`, such as
    {"category": "tire"}; without, those like its first.

    While the run that makes a chapter's first *cpu* or *full* record is under way, that run's own
    results so far serve, since nothing is committed yet.

    Raises RecordError, naming the command that makes the record, if there is none; as
    `read_record`, if it is not as its run left it.
    """
    folder = book_path("records")
    profiles = [profile] if profile else PROFILES
    if found := committed(chapter, where, profiles):
        return found
    for path in (folder / f"{chapter}.{name}.json" for name in profiles):
        if path.exists():
            raise RecordError(f"{path} has no cell with {where}; run its sweep with these values")
    own = _own_run(chapter, profiles)
    if own:
        return own
    raise RecordError(
        f"there is no record of chapter {chapter} in {folder}. Make one with: "
        f"fmabs-lite run {chapter} --profile {profiles[-1]} --data DIR --keep-records"
    )


def _own_run(chapter: str, profiles: Iterable[str]) -> Record | None:
    folder = os.environ.get(RUN_DIR)
    needed = ("results.json", "run.json")  # the runner writes both, a reader's own folder has one
    if not folder or not all((Path(folder) / name).exists() for name in needed):
        return None
    provenance = read_json(Path(folder) / "run.json")["provenance"]
    if provenance["chapter"] != chapter or provenance["profile"] not in profiles:
        return None
    unfinished = {"device": device(), "seconds": 0.0, "finished": ""}
    results = read_json(Path(folder) / "results.json")
    return as_record({"provenance": {**provenance, **unfinished}, "results": results}, Path(folder))


def committed(
    chapter: str, where: dict[str, Any] | None = None, profiles: Iterable[str] = PROFILES
) -> Record | None:
    """Read the committed record of a chapter, *full* before *cpu*; None if there is none.

    With values `where`, the first that has them; of a record of cells, the cells with them.
    """
    for profile in profiles:
        path = book_path("records") / f"{chapter}.{profile}.json"
        if path.exists():
            content = read_record(path)
            if select(content.get("cells", [content]), where):
                return as_record(content, path, where)
    return None


def read_record(path: Path) -> dict[str, Any]:
    """What a record's file holds, in the form that `misfits` checks and as its run left it.

    Raises RecordError, naming the file, what is wrong and what to do.
    """
    content = read_json(path, RESTORE)
    if fault := record_fault(content):
        raise RecordError(f"{path} {fault}")
    return content


def is_record(content: Any) -> bool:
    """Whether what a JSON file holds is a record, of one run or of cells."""
    return isinstance(content, dict) and "provenance" in content and (
        "results" in content or "cells" in content
    )  # fmt: skip


def as_record(content: dict[str, Any], path: Path, where: dict[str, Any] | None = None) -> Record:
    """Turn what a record's file holds into a Record; of cells, those that `where` asks for.

    Raises RecordError, naming the file.
    """
    names = [name for name in Record.__dataclass_fields__ if name != "results"]
    try:
        if "cells" in content:
            content = _joined(content["cells"], where, path)
        values = {name: content["provenance"][name] for name in names}
        return Record(**values, results=content["results"])
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path} is not a record: {error} is missing. Make it again") from None


def _joined(cells: list[dict], where: dict[str, Any] | None, path: Path) -> dict[str, Any]:
    chosen = select(cells, where)
    if not chosen:
        raise RecordError(f"{path} has no cell with {where}; run its sweep with these values")
    own = [cell["provenance"] for cell in chosen]
    values = own[0]["parameters"]
    every = {name: list({str(v): v for one in own for v in one["parameters"][name]}.values())
             for name in JOINED if name in values}  # fmt: skip
    whole = own[0] | {
        "parameters": values | every,
        "seconds": sum(one["seconds"] for one in own),
        "device": ", ".join(dict.fromkeys(one["device"] for one in own)),
        "finished": max(one["finished"] for one in own),
    }
    return {"provenance": whole, "results": join(chosen)}


def write_record(path: Path, provenance: dict[str, Any], results: dict[str, Any]) -> None:
    """Write the record of one run. Raises RecordError as `write_content`, or without results."""
    if not results:
        raise RecordError(f"chapter {provenance['chapter']} keeps no results, so it has no record")
    write_content(path, {"provenance": provenance, "results": results})


def write_cells(
    path: Path, chapter: str, profile: str, cells: Iterable[dict[str, Any]], order: Iterable[dict]
) -> None:
    """Write a record of cells, or add cells to the one that is there.

    Args:
        cells: each with "provenance" and "results". One with the values of another that is in the
            record takes its place if it ran later.
        order: the values of all cells of the sweep; rows of tables come in this order.
    Raises:
        RecordError: as `write_content`.
    """
    kept = read_record(path).get("cells", []) if path.exists() else []
    newest: dict[str, dict] = {}
    for cell in sorted([*kept, *cells], key=lambda one: one["provenance"]["finished"]):
        newest[cell_key(cell["provenance"]["parameters"])] = cell
    first = [key for key in map(cell_key, order) if key in newest]
    keys = dict.fromkeys([*first, *sorted(newest)])
    provenance = {"chapter": chapter, "profile": profile}
    write_content(path, {"provenance": provenance, "cells": [newest[key] for key in keys]})


def cell_key(values: dict[str, Any]) -> str:
    """What tells a cell of a record from the others: the values of all its parameters."""
    return json.dumps(values, sort_keys=True)


def write_content(path: Path, content: dict[str, Any]) -> None:
    """Write a record's file, with its checksum.

    Raises RecordError if any text in it holds a folder of this machine: a record is public, and
    compared with records made elsewhere; or if nobody could read it (see `misfits`).
    """
    if misfit := next(misfits(content), ""):
        raise RecordError(f"record {path.name} is not written, for nobody could read it: {misfit}")
    for name, text in _texts(content, ""):
        if re.search(PRIVATE, text):
            raise RecordError(
                f"record of {content['provenance']['chapter']}: {name} holds a path of this "
                f"machine ({text}); keep a name instead"
            )
    write_json(path, _with_checksum(content))


def content_checksum(content: dict[str, Any]) -> str:
    """SHA-256 of a record's results or cells, and of its provenance without the checksum."""
    provenance = {k: v for k, v in content["provenance"].items() if k != "checksum"}
    text = json.dumps([provenance, content.get("results", content.get("cells"))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    provenance = content["provenance"] | {"checksum": content_checksum(content)}
    return {**content, "provenance": provenance}


def record_fault(content: Any) -> str:
    """What is wrong with the content of a record, and what to do; nothing when it is sound."""
    if misfit := next(misfits(content), ""):
        return f"is not a record: {misfit}; {RESTORE}"
    found = content["provenance"].get("checksum")
    if found is None:
        return (
            "has no checksum; if its results are as the run left them, add one: python -c "
            "\"from fmabs_lite.lesson.records import seal; seal('book/records/NAME.json')\""
        )
    if found != content_checksum(content):
        return f"was changed after its run; {RESTORE}"
    return ""


def seal(path: str | Path) -> None:
    """Add the checksum to a record that was written before records had one.

    Raises RecordError if it has one already that does not fit: then the record was changed.
    """
    content = read_json(Path(path), RESTORE)
    if next(misfits(content), "") or "checksum" in content["provenance"]:
        content = read_record(Path(path))
    write_json(Path(path), _with_checksum(content))


def _texts(value: Any, name: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield f"{name} key", str(key)
            yield from _texts(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, f"{name}[{number}]")


def paper_table(name: str) -> dict[str, Any]:
    """Read a table of the papers, such as "fmabs-4", from `book/paper_tables.yml`.

    Its keys are `source`, `doi`, `caption`, `columns` and `rows` (lists as long as `columns`;
    None where the paper prints none). Raises RecordError for an unknown name.
    """
    tables = book_yaml("paper_tables.yml")["tables"]
    if name not in tables:
        raise RecordError(f"no paper table {name!r}; there are {', '.join(sorted(tables))}")
    return tables[name]


def profile_values(chapter: str, profile: str) -> dict[str, Any]:
    """The values that a profile names for a chapter, for a notebook that is opened by hand.

    What the profile does not name keeps the value of the parameters cell. In a cell below it:

        globals().update(profile_values("10_draem", "colab"))

    `fmabs-lite run --profile` needs no such cell, and papermill's values would lose to it.

    Raises RecordError, naming those there are, for an unknown profile or chapter.
    """
    profiles = book_yaml("profiles.yml")
    if profile not in profiles:
        raise RecordError(f"no profile {profile!r}; there are {', '.join(profiles)}")
    known = sorted({name for values in profiles.values() for name in values or {}})
    if chapter not in known:
        raise RecordError(f"no chapter {chapter!r} in the profiles; there are {', '.join(known)}")
    return dict((profiles[profile] or {}).get(chapter) or {})


def book_yaml(name: str) -> dict[str, Any]:
    """Read a YAML file of the book. Raises RecordError, naming it, if it is missing or damaged."""
    import yaml

    path = book_path(name)
    try:
        return read_values(path.read_text("utf-8"))
    except (FileNotFoundError, yaml.YAMLError) as error:
        raise RecordError(f"{path} cannot be read ({error}); restore it") from None


def find_repo(start: Path | None = None) -> Path | None:
    """Find the checkout around `start` (the current folder), else the one this package lies in."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[2]):
        if (folder / "book" / "_toc.yml").is_file():
            return folder
    return None


def book_path(name: str) -> Path:
    """Return a path under `book/` of the checkout, else the copy inside the installed package."""
    repo = find_repo()
    return repo / "book" / name if repo else Path(__file__).parents[1] / "_book" / name


def read_json(path: Path, remedy: str = "remove it and run again") -> dict[str, Any]:
    """Read a JSON file. Raises RecordError, naming it and the remedy, if it is damaged."""
    try:
        return json.loads(path.read_text("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged ({error}); {remedy}") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no finite number")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file in one step, so that a killed run leaves the old one or the new one."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)


def device() -> str:
    """Name the device that training uses by default: a GPU's name, or "cpu"."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # OpenCV may come under another of its names
            found[package] = "unknown"
    return found
