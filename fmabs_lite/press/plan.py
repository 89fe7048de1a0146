"""What is to run: chapters of the book, the values of their parameters, what they depend on.

Everything here reads and checks; nothing is executed or written.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fmabs_lite.lesson import records
from fmabs_lite.lesson.cells import JOINED
from fmabs_lite.lesson.values import read_values

PRESS = "press"  # the tools, on which no result depends
THREADS = {"colab": 2, "full": 8}  # of a run, by profile: see `threads_of`


class RunError(ValueError):
    """A run that cannot start as asked: the message names the file or parameter and the remedy."""


@dataclass
class Settings:
    """What the command line asked for."""

    profile: str = "quick"
    data: str = ""
    values: dict[str, Any] = field(default_factory=dict)  # text is read as the default's type
    jobs: int | None = None
    force: bool = False
    keep_records: bool = False
    minutes: float | None = None  # after which no training goes on, and no chapter is begun
    source: str = "--set"  # where the values come from, for messages

    def __post_init__(self) -> None:
        if self.data:
            from fmabs_lite.data.folder import expanded

            self.data = str(expanded(self.data).resolve())


@dataclass
class Chapter:
    """One chapter as it is to be run; `configuration` is the hash of all it depends on."""

    name: str
    notebook: Path
    folder: Path
    overrides: dict[str, Any]
    provenance: dict[str, Any]
    data: dict[str, Path]
    configuration: str
    lacks: str = ""  # what its data lack, in words
    shared: Path | None = None  # where the cells of a sweep keep what they have in common

    @property
    def threads(self) -> int:
        """Threads of the CPU that it runs with."""
        return self.provenance["threads"]

    @property
    def executed(self) -> Path:
        """The executed notebook, written when the chapter ends, whichever way."""
        return self.folder / f"{self.name}.ipynb"


# --- what to run, with which values


def toc(repo: Path) -> list[str]:
    """Pages of the book in order, as `book/_toc.yml` lists them, in parts or not."""
    content = read_yaml(repo / "book" / "_toc.yml")
    parts = content.get("parts", [content])
    return [content["root"], *(page["file"] for part in parts for page in part["chapters"])]


def chapters(repo: Path) -> list[str]:
    """Names of the chapters: the pages that are notebooks."""
    return [page for page in toc(repo) if not (repo / "book" / f"{page}.md").exists()]


def plan(
    repo: Path, names: list[str], settings: Settings, cells: Iterable[dict[str, Any]] = ({},)
) -> list[Chapter]:
    """Resolve the values of the named chapters (all without names), in book order.

    With `cells`, do so once for each of these sets of values, which are added to the settings'.
    Raises RunError if a chapter, profile or parameter is unknown, a value is of another type than
    the notebook's default, or a parameter is never read; DataError if the data folder is no good.
    """
    asked = [replace(settings, values=settings.values | cell) for cell in cells]
    if any("data" in one.values for one in asked):
        raise RunError(f"name the data folder with --data DIR, not with {settings.source}")
    known = chapters(repo)
    for name in names:
        check_known(name, known, "chapter", repo / "book" / "_toc.yml")
    chosen = [name for name in known if name in names] or known
    notebooks = {name: read_notebook(repo / "book" / f"{name}.ipynb") for name in chosen}
    defaults = {name: parameter_defaults(notebooks[name], name) for name in chosen}
    profile = _profile(repo, settings.profile, known)
    runs = [(name, _values(defaults, name, profile, one)) for one in asked for name in chosen]
    for one in asked:
        _all_used(one, defaults)
    data = _Data(settings.data) if any("data" in found for found in defaults.values()) else None
    return [
        _chapter(repo, name, notebooks[name], settings.profile, defaults[name], values, data)
        for name, values in runs
    ]


def _values(
    defaults: dict[str, dict[str, Any]], name: str, profile: dict[str, dict], settings: Settings
) -> dict[str, Any]:
    """Defaults of the notebook, then the profile's values, then those of the command line."""
    own = defaults[name]
    place = f"profile {settings.profile} in book/profiles.yml, chapter {name}"
    values = dict(own)
    for key, value in (profile.get(name) or {}).items():
        check_known(key, own, "parameter", place)
        values[key] = _fitting(value, own[key], f"{key} ({place})")
    for key, value in settings.values.items():
        if key in own:
            place = f"{settings.source} {key}"
            values[key] = _fitting(_from_text(value, own[key], place), own[key], place)
    for key in (key for key in JOINED if isinstance(own.get(key), list)):
        _check_joined(values[key], own[key], f"{name}: {key} {values[key]}")
    if "data" in own and settings.data:
        values["data"] = settings.data
    return values


def _all_used(settings: Settings, defaults: dict[str, dict[str, Any]]) -> None:
    everywhere = {key for found in defaults.values() for key in found}
    for key in settings.values:
        place = f"{settings.source}, chapters {', '.join(defaults)}"
        check_known(key, everywhere, "parameter", place)


def _profile(repo: Path, name: str, known: list[str]) -> dict[str, dict]:
    path = repo / "book" / "profiles.yml"
    profiles = read_yaml(path)
    check_known(name, profiles, "profile", path)
    for chapter in profiles[name] or {}:
        check_known(chapter, known, "chapter", path)
    return profiles[name] or {}


def check_known(name: str, known: Iterable[str], kind: str, place: Any) -> None:
    """Raise RunError if a name is not among the known ones; it says which was meant."""
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
        raise RunError(f"unknown {kind} {name!r} ({place}); {hint}")


def _check_joined(values: list, default: list, place: str) -> None:
    """Raise RunError for no seeds at all, or a seed or row that would count twice."""
    if default and not values:
        raise RunError(f"{place} is empty; name at least one, as in {default}")
    if len(values) > len(set(map(str, values))):
        raise RunError(f"{place} has an entry twice; each counts once")


def threads_of(profile: str) -> int:
    """Threads of the CPU in a run: the profile's, whatever the machine has.

    Sums are rounded in another order with another number of threads, and after some hundred steps
    the results differ in digits that are read.
    """
    return THREADS.get(profile, 1)


def _from_text(value: Any, default: Any, place: str) -> Any:
    import yaml

    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        return read_values(value)
    except yaml.YAMLError as error:
        raise RunError(f"{place}: {value!r} cannot be read: {_problem(error)}") from None


def _problem(error: Exception) -> str:
    return getattr(error, "problem", None) or str(error)


def _fitting(value: Any, default: Any, place: str) -> Any:
    """Return the value as the type of the default: 3 passes for a float, 3.5 not for an int.

    Entries of a list fit the default's first.
    """
    if isinstance(default, float) and type(value) in (int, float):
        if not math.isfinite(value):
            raise RunError(f"{place}: {value} is not a finite number")
        return float(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        like = default[0] if default else None
        return [_fitting(one, like, f"{place}[{number}]") for number, one in enumerate(value)]
    if default is not None and type(value) is not type(default):
        raise RunError(
            f"{place}: {value!r} is not of type {type(default).__name__}; write it as {default!r}"
        )
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping. Raises RunError, naming it."""
    import yaml

    try:
        content = read_values(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} is missing; run this inside a checkout of the book") from None
    except yaml.YAMLError as error:
        raise RunError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} holds no mapping of names to values")
    return content


# --- notebooks by their syntax tree


def read_notebook(path: Path) -> Any:
    """Read a notebook (nbformat 4). Raises RunError if it is missing or damaged."""
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise RunError(f"{path} is missing, but book/_toc.yml lists it") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise RunError(f"{path} is not a notebook: {str(error)[:200]}") from None


def code_cells(notebook: Any) -> list[Any]:
    """The code cells of a notebook, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def without_magics(source: str) -> str:
    """The source with IPython's `%` and `!` lines turned into `pass`, so that it parses."""
    return re.sub(r"^([ \t]*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def syntax(source: str, place: str) -> ast.Module:
    """Parse a cell; lines of magic count as `pass`. Raises RunError, naming the place."""
    try:
        return ast.parse(without_magics(source))
    except SyntaxError as error:
        raise RunError(f"{place}: line {error.lineno} is not Python: {error.msg}") from None


def parameter_defaults(notebook: Any, name: str) -> dict[str, Any]:
    """Names and default values assigned in the cell tagged `parameters`.

    Raises RunError if there is not exactly one such cell, if a default is not a literal, or if a
    parameter is never read in a later cell.
    """
    cells = code_cells(notebook)
    tagged = [n for n, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise RunError(f"{name}: needs one cell tagged `parameters`, has {len(tagged)}")
    found = {}
    for node in syntax(cells[tagged[0]].source, f"{name}, parameters cell").body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name):
            raise RunError(f"{name}: line {node.lineno} of the parameters cell assigns no value")
        try:
            found[target.id] = ast.literal_eval(node.value)
        except (ValueError, TypeError):
            raise RunError(f"{name}: the default of {target.id} is not a plain value") from None
    unread = set(found) - _names_read(cells[tagged[0] + 1 :], name)
    if unread:
        raise RunError(f"{name}: parameter {', '.join(sorted(unread))} is never read; remove it")
    return found


def _names_read(cells: list[Any], name: str) -> set[str]:
    return {
        node.id
        for number, cell in enumerate(cells)
        for node in ast.walk(syntax(cell.source, f"{name}, code cell {number} after parameters"))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def source_hash(notebook: Any) -> str:
    """SHA-256 of the code cells, as records hold it: prose may change, a result may not."""
    return _digest([cell.source for cell in code_cells(notebook)])


# --- what a chapter depends on


class _Data:
    """The data that a run reads."""

    def __init__(self, folder: str):
        from fmabs_lite.data.folder import open_data

        self.folder = open_data(folder)

    def sets(self) -> dict[str, Path]:
        from fmabs_lite.data.folder import NAMES

        return {name: getattr(self.folder, name) for name in NAMES if self.folder.has(name)}

    @cached_property
    def identity(self) -> list[Any]:
        """Names, sizes and times of all files; nothing for the drawn sets, which are code."""
        from fmabs_lite.data.folder import files_below

        if self.folder.drawn:
            return ["drawn"]
        paths = [path for folder in self.sets().values() for path in files_below(folder)]
        return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]

    def used(self, notebook: Any) -> dict[str, Path]:
        """The sets that a notebook names (`folder.mvtec`, …)."""
        code = "\n".join(cell.source for cell in code_cells(notebook))
        return {name: path for name, path in self.sets().items() if f".{name}" in code}


def _chapter(
    repo: Path,
    name: str,
    notebook: Any,
    profile: str,
    defaults: dict[str, Any],
    values: dict[str, Any],
    data: _Data | None,
) -> Chapter:
    package = package_hash()
    used = data.used(notebook) if data and "data" in values else {}
    drawn = bool(data and data.folder.drawn)
    versions = records.versions()
    depends = {
        "notebook": [[cell.cell_type, cell.source, cell.metadata] for cell in notebook.cells],
        "package": package,
        "parameters": values,
        "data": data.identity if data and "data" in values else [],
        "versions": [versions[key] for key in ("python", "torch", "numpy")],
        "threads": threads_of(profile),
        "book": _book_files_read(repo, name, notebook, profile),
    }
    provenance = {
        "chapter": name,
        "profile": profile,
        "source": source_hash(notebook),
        "package": package,
        "parameters": {key: value for key, value in values.items() if key != "data"},
        "versions": versions,
        "threads": threads_of(profile),
        "data": dict.fromkeys(used, "drawn" if drawn else "real"),
    }
    overrides = {key: value for key, value in values.items() if value != defaults[key]}
    folder = repo / "_build" / "runs" / profile / name
    path = repo / "book" / f"{name}.ipynb"
    real = {} if drawn else used
    lacks = _lacking(used, values)
    return Chapter(name, path, folder, overrides, provenance, real, _digest(depends), lacks)


def _lacking(used: dict[str, Path], values: dict[str, Any]) -> str:
    """What the data lack for these values, which a kernel would take seconds to say; or nothing."""
    from fmabs_lite.data.folder import DataError
    from fmabs_lite.data.static import open_category

    try:
        if "mvtec" in used and "category" in values:
            open_category(used["mvtec"], values["category"])
    except DataError as error:
        return str(error)
    return ""


def _book_files_read(repo: Path, name: str, notebook: Any, profile: str) -> dict[str, str]:
    """Hashes of the records and tables that a notebook reads, without the one it makes itself.

    The ledger and the open questions read all of the records.
    """
    code, book = "\n".join(cell.source for cell in code_cells(notebook)), repo / "book"
    questions = "fmabs_lite.lesson.questions" in code
    whole = re.search(r"fmabs_lite\.lesson\.(ledger|claims|printed|questions)\b", code) is not None
    paths = [
        path
        for path in (book / "records").glob("*.json")
        if (whole or path.name.split(".")[0] in code) and path.name != f"{name}.{profile}.json"
    ]
    if whole or "paper_table(" in code:
        paths.append(book / "paper_tables.yml")
    if whole:
        paths.append(book / "ledger.yml")
    if questions:
        paths.append(book / "open_questions.yml")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def package_hash(root: Path = Path(__file__).parents[1]) -> str:
    """SHA-256 of the package's Python files, without the tools, on which no result depends."""
    paths = [path.relative_to(root) for path in sorted(root.rglob("*.py"))]
    kept = [path for path in paths if path.parts[0] != PRESS]
    return _digest([[path.as_posix(), (root / path).read_text("utf-8")] for path in kept])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
