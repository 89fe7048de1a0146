"""Comparisons of speed: what runs in turns, and how their times are taken."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fmabs_lite.data import open_data

OURS, AGAIN, THEIRS = "ours", "ours, again", "anomalib"


@dataclass
class Comparison:
    """What the page "What ran, and how long" says of a comparison, and the functions it times.

    Attributes:
        title, what: for the page; `what` says what is done, on what, and with what left out.
        unit: of what a call does `many`, such as "image".
        runs: name → a function without arguments. A second row of ours shows the noise.
        against: the row that the others are compared with, if it is there.
        goals: row → how many times as fast as `against` it should be; of a row "a second" (a
            number of units) where `against` is that. Goals are no pass marks.
        why: what the page says where a goal is missed.
        share: of the rounds asked for, where a call takes long.
    """

    title: str
    what: str
    unit: str
    many: int
    runs: dict[str, Callable[[], object]]
    against: str = THEIRS
    goals: dict[str, float] = field(default_factory=dict)
    why: str = ""
    share: float = 1.0


def sets():
    """The real data sets where FMABS_DATA names their folder, else the drawn ones."""
    return open_data(os.environ.get("FMABS_DATA", ""))


def seconds(run: Callable[[], object]) -> float:
    """What one call costs this process on the processor, without its waiting for others."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(one: Comparison, rounds: int) -> dict[str, Any]:
    """Time all runs in turns, after a first turn that allocates, and surveys a teacher."""
    rounds = max(min(3, rounds), round(one.share * rounds))
    took = [{name: seconds(run) for name, run in one.runs.items()} for _ in range(rounds + 1)][1:]
    return {
        "title": one.title, "what": one.what, "unit": one.unit, "many": one.many,
        "against": one.against, "goals": one.goals, "why": one.why,
        "seconds": {name: [float(f"{row[name]:.4g}") for row in took] for name in one.runs},
    }  # fmt: skip
