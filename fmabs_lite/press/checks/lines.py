"""How much code a chapter lays open, and how much of that is the idea.

A reader follows what is open. So the book keeps three sums: how much there is to read, how much of
it is the subject, and how much stands in the way of the subject in a chapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from fmabs_lite.press.checks.notebook import Notebook
from fmabs_lite.press.comparison import in_columns
from fmabs_lite.press.folding import FOLD

# With every cell open there were 6 683 lines, three in four of them imports, plots, tables and the
# reading of records. Half of that is what a reader has to get through at most; most of it must be
# the method itself; and a chapter's plumbing must fit on one screen, as a cell has to.
MOST_OPEN = 3341  # lines, all chapters together
LEAST_IDEA = 0.6  # of the open lines, all chapters together
MOST_PLUMBING = 40  # lines, the median over the chapters

IDEA = ("defines", "idea")


@dataclass(frozen=True)
class OpenCode:
    """Lines of a chapter's open code cells, blank lines and comments included."""

    chapter: str
    open: int
    idea: int
    exercises: int

    @property
    def plumbing(self) -> int:
        return self.open - self.idea - self.exercises


def open_code(notebook: Notebook) -> OpenCode:
    """Count the lines that are open, and those of ideas and of exercises among them."""
    counted = {"open": 0, "idea": 0, "exercises": 0}
    for cell in notebook.code():
        if cell.tagged(FOLD):
            continue
        lines = len(cell.source.splitlines())
        counted["open"] += lines
        if any(map(cell.tagged, IDEA)):
            counted["idea"] += lines
        elif cell.tagged("exercise"):
            counted["exercises"] += lines
    return OpenCode(notebook.path.stem, **counted)


def over_limits(chapters: list[OpenCode]) -> list[str]:
    """What the book lays open beyond its limits; [] when it keeps to them."""
    lines, share, plumbing = _sums(chapters)
    problems = []
    if lines > MOST_OPEN:
        problems.append(f"{lines} lines are open, more than {MOST_OPEN}; fold plumbing")
    if share < LEAST_IDEA:
        text = f"{share:.1%} of the open lines are ideas, less than {LEAST_IDEA:.0%}"
        problems.append(f"{text}; fold plumbing, or tag `idea` what is the subject")
    if plumbing > MOST_PLUMBING:
        text = f"the median chapter has {plumbing:g} open lines of plumbing"
        problems.append(f"{text}, more than {MOST_PLUMBING}; fold them")
    return problems


def _sums(chapters: list[OpenCode]) -> tuple[int, float, float]:
    """Open lines, the share of ideas in them, and the plumbing of the median chapter."""
    lines = sum(row.open for row in chapters)
    ideas = sum(row.idea for row in chapters)
    return lines, ideas / max(lines, 1), median(row.plumbing for row in chapters)


def line_table(chapters: list[OpenCode]) -> list[str]:
    """The counts of each chapter, and the three sums with their limits, for a terminal."""
    keys = ("chapter", "open", "idea", "exercises", "plumbing")
    lines, share, plumbing = _sums(chapters)
    return [
        *in_columns([keys, *([getattr(row, key) for key in keys] for row in chapters)]),
        "",
        f"open lines: {lines} (at most {MOST_OPEN})",
        f"share of ideas: {share:.1%} (at least {LEAST_IDEA:.0%})",
        f"plumbing of the median chapter: {plumbing:g} (at most {MOST_PLUMBING})",
    ]
