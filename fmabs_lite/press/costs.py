"""What a sweep will cost: seconds that were measured, and by one stated rule those that were not.

A cell that is finished has its measured seconds. Any other is taken to cost as much as the sweep's
finished cells, on average; where there are none, as much as a run or record of the same chapter; in
proportion to the number of seeds and of steps. `category` makes no difference to that. Where any
other value differs, some training steps are taken here and now (see `bench`), and a cell costs as
many networks as it has rows and seeds; without a parameter `rows` their number is not known, and
the cost is not either. Runs that went on from a checkpoint count for nothing: the part that was
killed is not in their seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmabs_lite.lesson import records
from fmabs_lite.lesson.cells import ALL, FEW
from fmabs_lite.lesson.records import RecordError, read_json, read_record
from fmabs_lite.press.claims import claimed_by
from fmabs_lite.press.plan import Chapter
from fmabs_lite.press.runner import is_finished, read_state
from fmabs_lite.press.sweep import Sweep

if TYPE_CHECKING:
    from fmabs_lite.press.bench import Rate

SAME_COST = {"category"}


@dataclass
class Cost:
    """Seconds of a cell, None if unknown; where they come from, in words."""

    seconds: float | None
    source: str
    device: str = ""


def tell_costs(repo: Path, sweep: Sweep) -> list[str]:
    """Lines for the reader: each cell, its state and seconds; then what remains and its cost."""
    width = max(map(len, sweep.cells))
    lines = [f"{'cell':{width}}  state     seconds"]
    remaining = []
    for name, chapter in sweep.cells.items():
        cost = cell_cost(repo, sweep, chapter)
        if not is_finished(chapter):
            remaining.append(cost)
        seconds = "unknown" if cost.seconds is None else f"{cost.seconds:.0f}"
        lines.append(f"{name:{width}}  {_cell_state(chapter):8}  {seconds:>7}  {cost.source}")
    finished = len(sweep.cells) - len(remaining)
    lines.append(f"\n{len(sweep.cells)} cells: {finished} finished, {len(remaining)} to run.")
    return lines + _tell_total(remaining)


def _cell_state(chapter: Chapter) -> str:
    if is_finished(chapter):
        return "finished"
    if claimed_by(chapter.folder):
        return "running"
    if not read_state(chapter):
        return "to run"
    same = read_state(chapter).get("configuration") == chapter.configuration
    return "begun" if same else "changed"  # changed: it is cleared and runs again


def _tell_total(remaining: list[Cost]) -> list[str]:
    known = [cost for cost in remaining if cost.seconds is not None]
    lines = []
    for device in dict.fromkeys(cost.device for cost in known):
        hours = sum(cost.seconds for cost in known if cost.device == device) / 3600
        count = sum(cost.device == device for cost in known)
        lines.append(f"{count} of these: {hours:.2g} hours of one process on {device}, estimated.")
    if len(known) < len(remaining):
        lines.append(
            f"{len(remaining) - len(known)} of these: unknown. Run one cell, or one run of the "
            "chapter with fewer steps, to get an estimate."
        )
    return lines


def cell_cost(repo: Path, sweep: Sweep, chapter: Chapter) -> Cost:
    """What a cell has cost or will cost, by the rule above."""
    measured = read_state(chapter).get("measured") if is_finished(chapter) else None
    if measured:
        part = ", its last part only" if measured["resumed"] else ""
        return Cost(measured["seconds"], f"measured{part}", _on(measured))
    known = _from_cells(sweep, chapter) or _from_runs(repo, chapter)
    return known if known.seconds is not None else _from_bench(chapter) or known


def _from_cells(sweep: Sweep, chapter: Chapter) -> Cost | None:
    known, device = [], ""
    for other in filter(is_finished, sweep.cells.values()):
        measured = read_state(other)["measured"]
        times = how_many_times(chapter.provenance["parameters"], other.provenance["parameters"])
        if times is not None and not measured["resumed"]:
            known.append(measured["seconds"] * times)
            device = _on(measured)
    if not known:
        return None
    source = f"extrapolated from the mean of {len(known)} finished cell(s)"
    return Cost(sum(known) / len(known), source, device)


def _from_bench(chapter: Chapter) -> Cost | None:
    import torch

    from fmabs_lite.press.bench import SYSTEMS

    values = chapter.provenance["parameters"]
    if chapter.name not in SYSTEMS:
        return None
    torch.set_num_threads(chapter.threads)
    rate = _rate(chapter.name, json.dumps({**values, "seeds": [], "rows": []}, sort_keys=True))
    one = values["steps"] * values["batch_size"] / (rate.boosted or rate.plain)
    if (values.get("rows") or [ALL]) in ([ALL], [FEW]):
        return Cost(None, f"a network takes {one:.0f} s; how many there are is not known")
    many = len(values["seeds"]) * len(values["rows"])
    source = f"{many} network(s), by some steps taken now"
    return Cost(many * one, source, f"this {records.device()}")


@cache
def _rate(name: str, values: str) -> Rate:
    from fmabs_lite.press.bench import rate_of

    return rate_of(name, json.loads(values))


def _from_runs(repo: Path, chapter: Chapter) -> Cost:
    why = "no whole run of this chapter has been measured"
    for place, provenance in _measured_runs(repo, chapter):
        if provenance["resumed"]:
            why = f"{place} went on from a checkpoint"
            continue
        times = how_many_times(chapter.provenance["parameters"], provenance["parameters"])
        if times is None:
            why = f"{place} has other values"
            continue
        source = f"extrapolated from {place}, {times:.3g} times its seeds and steps"
        return Cost(provenance["seconds"] * times, source, _on(provenance))
    return Cost(None, why)


def _measured_runs(repo: Path, chapter: Chapter) -> list[tuple[str, dict[str, Any]]]:
    """This machine's run of the chapter, then its record, in the same profile before others."""
    own = chapter.provenance["profile"]
    profiles = [own, *(name for name in ("full", "colab", "cpu", "quick") if name != own)]
    found = []
    for profile in profiles:
        run = repo / "_build" / "runs" / profile / chapter.name / "run.json"
        record = repo / "book" / "records" / f"{chapter.name}.{profile}.json"
        for place, path, read in (
            ("the run", run, read_json),
            ("the record", record, read_record),
        ):
            try:
                content = read(path) if path.exists() else {}
            except RecordError:  # `check` says so; an estimate does without
                continue
            if path is record or "measured" in content:
                whole = content.get("provenance", {}) | content.get("measured", {})
                found += [(f"{place} in profile {profile}", whole)] if "resumed" in whole else []
    return found


def how_many_times(mine: dict[str, Any], other: dict[str, Any]) -> float | None:
    """How many times as long a run with the values `mine` takes; None if that cannot be told."""
    differing = {key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key)}
    if differing - SAME_COST - {"seeds", "steps"} or not mine.keys() == other.keys():
        return None
    seeds = len(mine["seeds"]) / len(other["seeds"]) if "seeds" in mine else 1
    return seeds * (mine["steps"] / other["steps"] if "steps" in mine else 1)


def _on(measured: dict[str, Any]) -> str:
    device, threads = measured["device"] or "an unnamed device", measured.get("threads")
    return f"{device} ({threads} threads)" if device == "cpu" and threads else device
