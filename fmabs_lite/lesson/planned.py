"""The primary questions of a chapter, as `book/questions.yml` had them before the runs."""

from __future__ import annotations

from typing import NamedTuple

from fmabs_lite.lesson.printed import all_printed
from fmabs_lite.lesson.records import RecordError, book_yaml

MOST = 3  # of a chapter; with more of them chance answers one
KINDS = {
    **dict.fromkeys(("asks", "row", "other", "key", "because"), str),
    **dict.fromkeys(("paper", "beats"), list),
    "seeds": int,
}
KEYS = set(KINDS)


class Planned(NamedTuple):
    """`row` minus `other` by `key`; `paper` is the paper's difference in points, if it has one."""

    asks: str
    row: str
    other: str
    key: str
    paper: float | None
    detector: str  # the unboosted one, which has to beat the best of `trivial`
    trivial: tuple[str, ...]
    seeds: int


def planned(chapter: str) -> list[Planned]:
    """The questions of a chapter, such as "11_mnad"; none where none was written down.

    Raises:
        RecordError: for more than three of them, a key that is missing or unknown, no trivial row
            to beat, or a printed cell that is in no table.
    """
    lines = book_yaml("questions.yml").get(chapter, [])
    if len(lines) > MOST:
        raise RecordError(f"questions.yml, {chapter}: {len(lines)} questions; {MOST} at most.")
    return [_planned(line, f"questions.yml, {chapter}") for line in lines]


def _planned(line: dict, where: str) -> Planned:
    if wrong := KEYS - {"paper"} - set(line) | set(line) - KEYS:
        raise RecordError(f"{where}: {', '.join(sorted(wrong))} is missing or unknown.")
    if wrong := [name for name, value in line.items() if not isinstance(value, KINDS[name])]:
        raise RecordError(f"{where}: {wrong[0]} is {line[wrong[0]]!r}, which is of another type.")
    places, printed = [tuple(place) for place in line.get("paper", [])], all_printed()
    if unknown := [place for place in places if place not in printed]:
        raise RecordError(f"{where}: paper_tables.yml has no cell {unknown[0]}.")
    if len(places) not in (0, 2):
        raise RecordError(f"{where}: paper names two printed cells, ours and the other's.")
    gain = printed[places[0]].printed - printed[places[1]].printed if places else None
    asks, row, other, key, seeds = (line[k] for k in ("asks", "row", "other", "key", "seeds"))
    detector, *trivial = line["beats"]
    if not trivial:
        raise RecordError(f"{where}: beats names no trivial row after {detector!r}.")
    return Planned(asks, row, other, key, gain, detector, tuple(trivial), seeds)
