"""Records that grow: cells of one row and one seed each, joined when the record is read.

A cell is a run of a chapter with its own values of `seeds` and `rows`. A record of cells keeps
each as it was, with what it ran on, so that more can be added later, from another machine too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

JOINED = ("seeds", "rows")  # the parameters over which cells are joined; others tell them apart
FEW, ALL = "few", "all"  # in `rows`: those that a chapter's questions are about, and every row
ONCE = "trivial"  # rows that train nothing begin with this word: measured once, whatever the seed


def select(cells: Sequence[Mapping], where: Mapping[str, Any] | None = None) -> list[Mapping]:
    """The cells that belong together: alike in all parameters but those that are joined.

    Args:
        cells: each with "provenance" (and "parameters" in it) and "results".
        where: values that the cells must have, such as {"category": "tire"}; with several kinds
            of cells left, those like the first are meant.
    Returns:
        Those cells, by seed; empty if none has the values asked for.
    """
    asked = [
        cell for cell in cells
        if all(_values(cell).get(name) == value for name, value in (where or {}).items())
    ]  # fmt: skip
    alike = [cell for cell in asked if _apart(cell) == _apart(asked[0])]
    return sorted(alike, key=lambda cell: _values(cell).get("seeds", []))


def join(cells: Sequence[Mapping]) -> dict[str, Any]:
    """The results of cells that belong together, as one run of all their rows and seeds has them.

    A list as long as its cell's seeds holds an entry for each, and is joined, unless it is one of
    texts: those are names. What is measured once, and rows that train nothing, are those of the
    first cell that has them. Where rows differ in their seeds, "seeds" has those of each row.
    """
    seeds: dict[str, list] = {}
    parts = [(cell["results"], _values(cell).get("seeds", [])) for cell in cells]
    results = _join(parts, "", seeds)
    return results | ({"seeds": seeds} if len(set(map(tuple, seeds.values()))) > 1 else {})


def _join(parts: list[tuple[Any, list]], name: str, seeds: dict[str, list]) -> Any:
    """One part of the results of several cells, each with its cell's seeds."""
    first = parts[0][0]
    if name.startswith(ONCE):
        return first
    if all(isinstance(part, Mapping) for part, _ in parts):
        names = dict.fromkeys(key for part, _ in parts for key in part)
        return {
            key: _join([(part[key], own) for part, own in parts if key in part], key, seeds)
            for key in names
        }
    if all(_of_seeds(part, own) for part, own in parts):
        fresh = {}  # by seed: a cell that was run twice counts once
        for part, own in parts:
            for seed, entry in zip(own, part, strict=True):
                fresh.setdefault(seed, entry)
        seeds[name] = sorted(fresh)
        return [fresh[seed] for seed in seeds[name]]
    return first


def _of_seeds(part: Any, seeds: list) -> bool:
    """Whether a part has an entry for each seed."""
    same = isinstance(part, list) and len(part) == len(seeds) > 0
    return same and not isinstance(part[0], str)


def _values(cell: Mapping) -> Mapping[str, Any]:
    return cell["provenance"]["parameters"]


def _apart(cell: Mapping) -> dict[str, Any]:
    return {name: value for name, value in _values(cell).items() if name not in JOINED}


def paired(
    one: Sequence, other: Sequence, seeds: Mapping[str, list], row: str, rival: str
) -> tuple[list, list]:
    """Two rows' entries of the seeds that both have; a single entry of a row stands for every seed.

    Args:
        one, other: an entry for each seed.
        seeds: of each row, as `join` gives them; a row that is not there has all.
        row, rival: the names of the two.
    """
    known = seeds.get(row), seeds.get(rival)
    if None in known or known[0] == known[1]:
        return list(one), list(other)
    both = sorted(set(known[0]) & set(known[1]))
    return tuple(  # type: ignore[return-value]
        [entries[own.index(seed)] for seed in both]
        for entries, own in zip((one, other), known, strict=True)
    )
