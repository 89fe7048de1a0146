"""What a record holds: names, types, and metrics that are numbers in every seed (see `records`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TEXTS = (
    "chapter", "profile", "source", "package", "device", "machine", "finished", "commit",
    "precision", "checksum",
)  # fmt: skip
NUMBER = (int, float)
KINDS: dict[str, Any] = {
    **dict.fromkeys(TEXTS, str),
    **dict.fromkeys(("parameters", "versions", "data"), dict),
    "threads": int,
    "resumed": bool,
    "seconds": NUMBER,
}
NAMED = {"chapter", "profile"}
NEEDED = NAMED | {"parameters", "device", "seconds", "data", "versions", "finished"}


def misfits(content: Any) -> Iterator[str]:
    """What is wrong with the content of a record, of one run or of cells, in words."""
    parts = set(content) if isinstance(content, Mapping) else set()
    if parts == {"provenance", "results"}:
        yield from _of_run(content, "")
    elif parts == {"provenance", "cells"} and isinstance(content["cells"], list):
        yield from _of_provenance(content["provenance"], "provenance", NAMED)
        if not content["cells"]:
            yield "cells is empty"
        for number, cell in enumerate(content["cells"]):
            if isinstance(cell, Mapping) and set(cell) == {"provenance", "results"}:
                yield from _of_run(cell, f"cells[{number}].")
            else:
                yield f"cells[{number}] is not provenance and results"
    else:
        yield "it is not provenance and results, or provenance and a list of cells"


def _of_run(part: Mapping, place: str) -> Iterator[str]:
    yield from _of_provenance(part["provenance"], f"{place}provenance", NEEDED)
    if not isinstance(part["results"], Mapping) or not part["results"]:
        yield f"{place}results holds nothing by name"
    else:
        yield from _of_results(part["results"], f"{place}results")


def _of_provenance(found: Any, place: str, needed: set[str]) -> Iterator[str]:
    if not isinstance(found, Mapping):
        yield f"{place} is not names with their values"
        return
    yield from (f"{place} has no {name}" for name in sorted(needed - set(found)))
    for name, value in found.items():
        if name not in KINDS:
            yield f"{place}.{name} is unknown to this version of fmabs-lite"
        elif not _is(value, KINDS[name]):
            yield f"{place}.{name} is {value!r}, which is of another type"
    for name in ("versions", "data"):
        parts = found.get(name)
        if isinstance(parts, Mapping) and not all(isinstance(one, str) for one in parts.values()):
            yield f"{place}.{name} has an entry that is no text"


def _of_results(found: Any, place: str) -> Iterator[str]:
    """Misfits of any part of the results: lists of dicts, one a seed, are alike in all seeds."""
    if isinstance(found, Mapping):
        for name, part in found.items():
            yield from _of_results(part, f"{place}.{name}")
            if name == "rows":
                yield from _of_rows(part, f"{place}.rows")
    elif isinstance(found, list) and any(isinstance(one, Mapping) for one in found):
        for number, one in enumerate(found):
            here = f"{place}[{number}]"
            if not isinstance(one, Mapping) or not _alike(one, found[0]):
                yield f"{here} has other metrics, or metrics of another type, than {place}[0]"
            else:
                yield from _of_results(one, here)


def _of_rows(rows: Any, place: str) -> Iterator[str]:
    """Rows of detectors are lists of dicts of numbers, one a seed."""
    for name, seeds in rows.items() if isinstance(rows, Mapping) else ():
        if not isinstance(seeds, list) or not seeds:
            yield f"{place}.{name} is not a list with an entry a seed"
            continue
        for one in seeds:
            for key, value in one.items() if isinstance(one, Mapping) else (("", one),):
                if not _is(value, NUMBER):
                    yield f"{place}.{name}: {key} is {value!r}, and no number"


def _alike(one: Mapping, first: Any) -> bool:
    same = isinstance(first, Mapping) and set(one) == set(first)
    return same and all(_kind(one[name]) == _kind(first[name]) for name in one)


def _kind(value: Any) -> Any:
    return NUMBER if _is(value, NUMBER) else type(value)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; a truth value is no number."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
