"""What `tests/benchmarks/run.py` measured last, as the page "What ran, and how long" shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmabs_lite.lesson.records import read_json

STORED = "speed.json"  # in the folder book
SPEED = "% speed"  # the line of book/running.md in whose place the tables stand
RATE = "a second"  # what a goal is compared with where it is a number of units a second


def with_speed(page: str, repo: Path) -> str:
    """The page, with the tables that were measured last in the place of "% speed"."""
    path = repo / "book" / STORED
    if not path.exists():
        return page.replace(SPEED, "Nothing was measured.")
    return page.replace(SPEED, tables(read_json(path)))


def tables(found: Mapping[str, Any]) -> str:
    """As Markdown: a heading, a sentence and a table for each comparison, and what it ran on."""
    told = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    ground = f"Measured on {found['machine']}, one thread, on {found['device']}. {told}."
    if "anomalib" not in found["versions"]:
        ground += " anomalib was not installed, so only our own rows are here."
    return "\n\n".join([ground, *map(table, found["comparisons"])])


def table(one: Mapping[str, Any]) -> str:
    """One comparison: a line for each row, then its goals."""
    took, against = one["seconds"], one["against"]
    known = against in took
    head = f"| | ms for each {one['unit']} | {one['unit']}s a second |"
    lines = [f"{head} beside {against} |" if known else head, "|---|---:|---:|" + "---|" * known]
    for name, row in took.items():
        each = float(np.median(row)) / one["many"]
        line = f"| {name} | {short(1000 * each)} | {short(1 / each)} |"
        if known:
            low, middle, high = times(took, name, against)
            line += f" {middle:.2f} ({low:.2f} to {high:.2f}) |" if name != against else " 1 |"
        lines.append(line)
    after = [f"Medians of {len(next(iter(took.values())))} rounds."]
    if known:
        after.append(f"*Beside {against}*: how many times as fast, quartiles in brackets.")
    told = [told_goal(one, row, goal) for row, goal in one["goals"].items()]
    if any("missed" in goal for goal in told) and one["why"]:
        told.append(one["why"])
    return "\n\n".join([f"### {one['title']}", one["what"], "\n".join(lines),
                        " ".join(after + [goal for goal in told if goal])])  # fmt: skip


def told_goal(one: Mapping[str, Any], row: str, goal: float) -> str:
    """Whether a row reached its goal; nothing where what it is compared with was not measured."""
    took, against = one["seconds"], one["against"]
    if against == RATE:
        reached = one["many"] / np.median(took[row]) >= goal
        asked = f"{goal:,.0f} {one['unit']}s a second"
    elif against in took:
        reached = times(took, row, against)[1] >= goal
        asked = f"{goal:g} times"
    else:
        return ""
    return f"Goal for *{row}*: {asked}, **{'reached' if reached else 'missed'}**."


def times(took: Mapping[str, Sequence[float]], row: str, against: str) -> tuple[float, ...]:
    """How many times as fast as `against`, round by round: lower quartile, median and upper."""
    ratios = np.divide(took[against], took[row])
    return tuple(float(q) for q in np.quantile(ratios, [0.25, 0.5, 0.75]))


def short(number: float) -> str:
    """Three digits that count, and no more than whole numbers."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.{1 if number >= 10 else 2 if number >= 1 else 3}f}"
