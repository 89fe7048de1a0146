"""What was measured last, as the page "What ran, and how long" shows it.

By `tests/benchmarks/run.py` and `fmabs-lite bench --boost`. A build reads it here, without torch.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fmabs_lite.lesson.plots import PALETTE
from fmabs_lite.lesson.records import read_json

STORED = "speed.json"  # in the folder book
SPEED, SCALE, WHERE = "% speed", "% scale", "% where"  # lines of book/running.md that give way
BOOST, BOOST_STORED = "% boost", "boost.json"
PLAIN = "plain"  # the student of `fmabs_lite.press.boost` that the others are compared with
RATE = "a second"  # what a goal is compared with where it is a number of units a second


def with_speed(page: str, repo: Path) -> str:
    """The page, with what was measured last in the place of each line that gives way."""
    path = repo / "book" / STORED
    found = read_json(path) if path.exists() else None
    for line, told in ((SPEED, tables), (SCALE, curves), (WHERE, whole)):
        if (whole_line := f"\n{line}\n") in f"\n{page}\n":  # else no curve has to be drawn
            said = told(found) if found else "Nothing was measured."
            page = f"\n{page}\n".replace(whole_line, f"\n{said}\n")[1:-1]
    return page


def tables(found: Mapping[str, Any]) -> str:
    """As Markdown: what it ran on, then a sentence and a table for each comparison."""
    ground = told_ground(found)
    if "anomalib" not in found["versions"]:
        ground += " anomalib was not installed, so only our own rows are here."
    return "\n\n".join([ground, *map(table, found["comparisons"])])


def told_versions(found: Mapping[str, Any]) -> str:
    """The libraries that something was measured with."""
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def told_ground(found: Mapping[str, Any]) -> str:
    """What something was measured on, in words."""
    return (
        f"Measured on {found['machine']}, one thread, on {found['device']}. {told_versions(found)}."
    )


def table(one: Mapping[str, Any]) -> str:
    """One comparison: a line for each row, then its goals."""
    took, against = one["seconds"], one["against"]
    known = against in took
    head = f"| what ran | ms for each {one['unit']} | {one['unit']}s a second |"
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
    return "\n\n".join([f"**{one['title']}.** {one['what']}", "\n".join(lines),
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


# --- how time and memory grow


def curves(found: Mapping[str, Any]) -> str:
    """As Markdown: a sentence and log–log plots for everything that grows."""
    return "\n\n".join(
        f"**{one['title']}.** {one['what']} {told_growth(one)}\n\n"
        f"```{{raw}} html\n{plots(one)}\n```"
        for one in found["growths"]
    )


def whole(found: Mapping[str, Any]) -> str:
    """As Markdown: for each system, how a training step divides into kinds of work."""
    if not (one := found.get("where")):
        return "Nothing was measured."
    kinds = list(one["rows"][0]["shares"])
    lines = [f"| chapter | a batch | {' | '.join(kinds)} |",
             "|---|---" + "|---:" * len(kinds) + "|"]  # fmt: skip
    for row in one["rows"]:
        batch = " × ".join(map(str, [row["batch"], *row["sample"]]))
        told = " | ".join(f"{100 * row['shares'][kind]:.0f}" for kind in kinds)
        chapter = row["chapter"]
        lines.append(f"| [{chapter[:2]}]({chapter}.ipynb) | {batch} | {told} |")
    lines.append(
        f"\nPercent of the time within torch, in fp32, at the sizes of profile "
        f"*{one['rows'][0]['profile']}*; random pictures, weights that have learnt nothing. "
        f"{told_ground(one)}"
    )
    return "\n".join(lines)


def told_growth(one: Mapping[str, Any]) -> str:
    """First and last point in words."""
    ends = [f"{short(one['seconds'][k])} s" for k in (0, -1)]
    if "bytes" in one:
        ends = [f"{end} and {size(one['bytes'][k])}" for end, k in zip(ends, (0, -1), strict=True)]
    first, last = one["counts"][0], one["counts"][-1]
    said = f"{ends[0]} for {first:,} {one['x']}, {ends[1]} for {last:,}."
    if one.get("most"):
        reached = "reached" if max(one["bytes"]) <= one["most"] else "missed"
        said += f" Goal: no more than {size(one['most'])}, **{reached}**."
    return said


def size(count: int) -> str:
    """Bytes in the largest unit of which there is at least one."""
    power = min(3, max(0, (count.bit_length() - 1) // 10))
    return f"{short(count / 1024**power)} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


def plots(one: Mapping[str, Any]) -> str:
    """Seconds, and memory where it was counted, against the count: pictures that may wrap."""
    panels = [plot(one, "time", "s", one["seconds"], "teacher")]
    if "bytes" in one:
        most = one["most"] / 2**20 if one.get("most") else None
        mib = [count / 2**20 for count in one["bytes"]]
        panels.append(plot(one, "memory", "MiB", mib, "hybrid", most))
    wraps = "display: flex; flex-wrap: wrap; gap: 1rem; margin-bottom: 1.5rem"
    return f'<div style="{wraps}">{"".join(panels)}</div>'


def plot(
    one: Mapping[str, Any], name: str, unit: str, values: Sequence[float], role: str,
    most: float | None = None,
) -> str:  # fmt: skip
    """One curve on two logarithmic axes, as SVG in the colour of the text, light or dark."""
    import matplotlib.pyplot as plt

    ink = "#010203"  # gives way to the colour of the text
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style = {"svg.fonttype": "none", "svg.hashsalt": one["title"] + name, "font.size": 11,
             "axes.spines.top": False, "axes.spines.right": False,
             **dict.fromkeys(inked, ink)}  # fmt: skip
    with plt.rc_context(style):
        figure, axis = plt.subplots(figsize=(3.6, 2.6), constrained_layout=True)
        axis.loglog(one["counts"], values, "o-", color=PALETTE[role])
        if most:
            axis.axhline(most, color=ink, ls="--", lw=1)
        low, high = min(values), max([*values, most or 0])
        if high < 10 * low:  # a decade at least, or noise would look like growth
            axis.set_ylim(low / 4, high * 4)
        axis.yaxis.set_minor_formatter("")  # powers of ten are enough
        axis.set(xlabel=one["x"], ylabel=f"{name} ({unit})")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    points = zip(one["counts"], values, strict=True)
    told = ", ".join(f"{short(value)} {unit} for {count:,}" for count, value in points)
    alt = escape(f"{one['title']}: {name} against {one['x']}, both logarithmic: {told}.")
    svg = file.getvalue()[file.getvalue().index("<svg") :].replace(ink, "currentColor")
    extra = r' (width|height)="[^"]*pt"| *<metadata>.*?</metadata>\n'
    svg = re.sub(extra, "", svg, flags=re.DOTALL)
    shape = "flex: 1 1 17rem; max-width: 21rem; height: auto"
    return svg.replace("<svg ", f'<svg role="img" aria-label="{alt}" style="{shape}" ', 1)


def with_boost(page: str, repo: Path) -> str:
    """The page, with the table that was measured last in the place of "% boost"."""
    if BOOST not in page:
        return page
    path = repo / "book" / BOOST_STORED
    if not path.exists():
        return page.replace(BOOST, "Nothing was measured.")
    return page.replace(BOOST, boost_table(read_json(path)))


def boost_table(found: Mapping[str, Any]) -> str:
    """As Markdown: a line for each system and attention."""
    lines = ["| chapter | student | trained parameters | more | operations | time of a step |",
             "|---|---|---:|---:|---:|---:|"]  # fmt: skip
    for chapter, costs in found["rows"].items():
        own = costs[PLAIN]["parameters"]
        lines.append(f"| [{chapter[:2]}]({chapter}.ipynb) | {PLAIN} | {own:,} | – | 1 | 1 |")
        for name, cost in costs.items():
            if name == PLAIN:
                continue
            middle, low, high = cost["time"]
            more = cost["parameters"] - own
            lines.append(
                f"| | {name} | {cost['parameters']:,} | {more:,} | {cost['operations']:.2f} | "
                f"{middle:.2f} ({low:.2f} to {high:.2f}) |"
            )
    lines.append(
        f"\nAt the sizes of profile *{found['profile']}*, on {found['device']}, in fp32, "
        f"{found['rounds']} rounds: medians, and quartiles in brackets. "
        f"{told_versions(found)}."
    )
    return "\n".join(lines)
