"""A grid of runs of one chapter: its cells, who may run them, their runs by Dask, their results.

A sweep file names a chapter, a profile and a grid of values. Each cell of the grid is a run of the
chapter with a folder of its own, `_build/sweeps/<sweep>/<cell>/`, laid out as the runner's are. A
cell is run by whoever holds its claim, a lock on a file that the kernel takes back when its holders
are dead: so no cell is run twice, and none is lost. At the end `results.json` holds all cells, and
the chapter's record too if asked; cells that the record holds already are not run again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fmabs_lite.lesson import records
from fmabs_lite.lesson.cells import JOINED
from fmabs_lite.lesson.records import cell_key, read_json, read_record, write_cells, write_json
from fmabs_lite.press.claims import BRIEF, CellError, claim, claimed_by, hold
from fmabs_lite.press.plan import (
    Chapter,
    RunError,
    Settings,
    check_known,
    package_hash,
    plan,
    read_yaml,
)
from fmabs_lite.press.runner import (
    Outcome,
    check_shelf,
    clear_changed,
    cores,
    execute_chapter,
    is_finished,
    read_state,
    record_claim,
    run_one,
    time_limit,
    whole_provenance,
)

KEYS = {"chapter": str, "profile": str, "grid": dict, "fixed": dict}
RESULTS = "results.json"  # of a cell, and of all of them
LONGEST_NAME = 120  # characters of a cell's name; file systems end at 255 bytes
PATIENCE = 5.0  # seconds that a worker waits for a cell that somebody else runs, before it gives up
ANSWER = 20.0  # seconds in which a scheduler is to answer


@dataclass
class Sweep:
    """A sweep file, resolved: `cells` maps names to the chapter with a cell's values and folder."""

    name: str
    folder: Path
    asked: dict[str, Any]  # the file's own words
    cells: dict[str, Chapter]

    def values(self, cell: str) -> dict[str, Any]:
        """The values of the grid's parameters in one cell."""
        return {key: self.cells[cell].provenance["parameters"][key] for key in self.asked["grid"]}

    @property
    def repo(self) -> Path:
        """The checkout."""
        return self.folder.parents[2]

    @property
    def record(self) -> Path:
        """The record of the chapter, to which finished cells are added."""
        name = f"{self.asked['chapter']}.{self.asked['profile']}.json"
        return self.repo / "book" / "records" / name

    def recorded(self) -> set[str]:
        """The names of the cells that the record holds, whichever commit they ran at."""
        kept = read_record(self.record).get("cells", []) if self.record.exists() else []
        known = {cell_key(cell["provenance"]["parameters"]) for cell in kept}
        return {
            name for name, chapter in self.cells.items()
            if cell_key(chapter.provenance["parameters"]) in known
        }  # fmt: skip


# --- the file and its cells


def read_sweep(repo: Path, path: Path, data: str = "") -> Sweep:
    """Read a sweep file and resolve its cells, the last parameter of the grid changing fastest.

    Raises RunError, naming the file, if a key, chapter, profile, parameter or value is no good, or
    two cells are the same; DataError if the data folder is.
    """
    asked = _check_keys(read_yaml(path), path)
    grid = asked["grid"]
    settings = Settings(asked["profile"], data, asked["fixed"], source=f"{path}:")
    cells = [dict(zip(grid, row, strict=True)) for row in itertools.product(*grid.values())]
    chapters = plan(repo, [asked["chapter"]], settings, cells)
    sweep = Sweep(path.stem, repo / "_build" / "sweeps" / path.stem, asked, {})
    for chapter in chapters:
        name = cell_name({key: chapter.provenance["parameters"][key] for key in grid})
        if name in sweep.cells:
            raise RunError(f"{path}: the cell {name} is in the grid twice; remove the second value")
        shared = sweep.folder / "shared" / _in_common(chapter)
        sweep.cells[name] = replace(chapter, folder=sweep.folder / name, shared=shared)
    return sweep


def _in_common(chapter: Chapter) -> str:
    """A name for all that a network depends on but its seed, which its own name tells."""
    values = chapter.provenance["parameters"]
    others = {name: value for name, value in values.items() if name not in JOINED}
    kept = ("source", "package", "threads", "data")
    depends = [chapter.provenance[key] for key in kept] + [others]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def _check_keys(asked: dict[str, Any], path: Path) -> dict[str, Any]:
    asked = {"fixed": {}} | asked
    for key in asked:
        check_known(key, KEYS, "key", path)
    for key, kind in KEYS.items():
        if not isinstance(asked.get(key), kind):
            wanted = "a name" if kind is str else "names with their values"
            raise RunError(f"{path}: `{key}` must be {wanted}, and is {asked.get(key)!r}")
    if not asked["grid"]:
        raise RunError(f"{path}: `grid` is empty; name a parameter and a list of its values")
    for key, values in asked["grid"].items():
        if not isinstance(values, list) or not values:
            raise RunError(f"{path}: `grid`, {key}: {values!r} is not a list of values to take")
        if key in asked["fixed"]:
            raise RunError(f"{path}: {key} is both in `grid` and in `fixed`; leave one out")
    return asked


def cell_name(values: dict[str, Any]) -> str:
    """A name for a cell, and its folder's: `category=screw,seeds=0`; the same in every sweep.

    What a file name should not hold is replaced, and a hash of the values added.
    """
    plain = ",".join(f"{key}={_in_words(value)}" for key, value in values.items())
    safe = re.sub(r"[^\w.,=+-]", "_", plain)
    if safe == plain and len(plain) <= LONGEST_NAME:
        return plain
    return f"{safe[: LONGEST_NAME - 9]}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"


def _in_words(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


# --- one cell, in a worker


def run_cell(
    chapter: Chapter,
    gpus: tuple[str, ...] = (),
    patience: float = 0.0,
    execute: Callable[..., str] = execute_chapter,
) -> Outcome:
    """Run one cell in a Dask worker, unless it is finished ("kept") or somebody's ("taken").

    Raises CellError if it fails, so that Dask tries again.
    """
    _check_worker(chapter)
    _take_gpu(gpus)
    with claim(chapter.folder, patience) as held:
        if held is None:
            return Outcome(chapter.folder.name, "taken", 0.0)
        clear_changed([chapter], force=False)
        if is_finished(chapter):
            return Outcome(chapter.folder.name, "kept", read_state(chapter)["seconds"])
        outcome = run_one(chapter, set(), partial(execute, held=(held,)))
    if outcome.status == "failed":
        raise CellError(outcome.error)
    return replace(outcome, chapter=chapter.folder.name)


def _check_worker(chapter: Chapter) -> None:
    """A worker on another machine must see the same book and have the same libraries."""
    host = socket.gethostname()
    if not chapter.notebook.exists():
        raise CellError(
            f"{host} does not see {chapter.notebook}; put the checkout and the data on a file "
            "system that all workers share"
        )
    here = {"package": package_hash(), "versions": records.versions()}
    other = [key for key, value in here.items() if value != chapter.provenance[key]]
    if other:
        raise CellError(
            f"the {' and '.join(other)} on {host} are not those that the sweep began with; install "
            "the same on every worker, leave the package alone meanwhile, and start the sweep again"
        )


def _take_gpu(gpus: tuple[str, ...]) -> None:
    """Take this worker's GPU, if it is to have one."""
    from distributed import get_worker

    if gpus:  # before anything asks for CUDA in this process, which the cells' are started from
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(get_worker().name) % len(gpus)]


# --- all cells


def run_sweep(
    repo: Path,
    path: Path,
    data: str = "",
    workers: int | None = None,
    scheduler: str = "",
    retries: int = 2,
    execute: Callable[..., str] = execute_chapter,
    minutes: float | None = None,
    keep_records: bool = False,
) -> tuple[list[Outcome], Path]:
    """Run the cells that are not finished; return an outcome for each cell, and `results.json`.

    On this machine with `workers` processes, or on the Dask cluster whose scheduler is given. A
    cell that fails is tried again `retries` times and does not stop the others. Cells that another
    sweep runs meanwhile are waited for. After `minutes`, those that run stop at a checkpoint, and
    no more are begun. With `keep_records` the cells that the chapter's record holds are not run,
    and those that are finished are added to it. Raises RunError and DataError before it starts.
    """
    sweep = read_sweep(repo, path, data)
    if keep_records:
        check_shelf(repo)
    with hold(sweep.folder / RESULTS, f"the results of {sweep.name}", BRIEF):
        pass  # where nothing can be written, that is said before a cell fails of it
    held = sweep.recorded() if keep_records else set()
    outcomes = dict(_without_running(sweep, held))
    waiting = [chapter for name, chapter in sweep.cells.items() if name not in outcomes]
    with time_limit(minutes):
        outcomes |= _run_waiting(waiting, workers, scheduler, retries, execute)
    results = collect_cells(sweep)
    if keep_records:
        _add_to_record(sweep)
    return [outcomes[name] for name in sweep.cells], results


def _without_running(sweep: Sweep, held: set[str]) -> Iterator[tuple[str, Outcome]]:
    """Name and outcome of the cells that are finished, or whose data are not there."""
    for name, chapter in sweep.cells.items():
        if name in held or is_finished(chapter):
            yield name, Outcome(name, "kept", read_state(chapter).get("seconds") or 0.0)
        elif chapter.lacks:
            yield name, Outcome(name, "failed", 0.0, chapter.lacks)


def _add_to_record(sweep: Sweep) -> None:
    finished = [
        {"provenance": whole_provenance(chapter), "results": read_json(chapter.folder / RESULTS)}
        for chapter in sweep.cells.values()
        if is_finished(chapter) and (chapter.folder / RESULTS).exists()
    ]
    order = [chapter.provenance["parameters"] for chapter in sweep.cells.values()]
    name, profile = sweep.asked["chapter"], sweep.asked["profile"]
    if finished:
        with record_claim(sweep.repo, sweep.record.name) as target:
            write_cells(target, name, profile, finished, order)


def _run_waiting(
    waiting: list[Chapter],
    workers: int | None,
    scheduler: str,
    retries: int,
    execute: Callable[..., str],
) -> dict[str, Outcome]:
    """Run cells by Dask; return their outcomes by name."""
    outcomes: dict[str, Outcome] = {}
    if waiting:
        gpus = () if scheduler else visible_gpus()
        beside = len(gpus) or max(1, cores() // waiting[0].threads)
        workers = workers or min(len(waiting), beside)
        job = partial(run_cell, gpus=gpus, execute=execute)
        with _cluster(scheduler, workers, retries) as client:
            outcomes |= _work_through(client, waiting, job, retries)
    return outcomes


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return tuple(named[: len(numbers)] if named[0] else numbers)


@contextmanager
def _cluster(scheduler: str, workers: int, retries: int) -> Iterator[Any]:
    """A Dask client of the scheduler at an address, or of processes on this machine."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise RunError("a sweep is run by Dask: in the clone, pip install -e '.[sweep]'") from None

    if scheduler:
        try:
            client = Client(scheduler, timeout=ANSWER)
        except (OSError, ValueError) as error:
            raise RunError(
                f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask "
                "scheduler`, and give the address that it prints"
            ) from None
        with client:
            yield client
        return
    settings = {  # no cell is given to a worker before it can start it
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": retries,
    }
    options = dict(threads_per_worker=1, memory_limit=0, silence_logs="CRITICAL")
    options |= dict(n_workers=workers, dashboard_address=":0")  # any port that is free
    with dask.config.set(settings), LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


def _work_through(
    client: Any, waiting: list[Chapter], job: Callable[..., Outcome], retries: int
) -> dict[str, Outcome]:
    """Run cells under a progress bar; ask again, last, for those that somebody else has."""
    from distributed import as_completed
    from tqdm import tqdm

    if not client.scheduler_info()["workers"]:
        tqdm.write("The scheduler has no workers yet; the sweep begins when one joins.")
    futures = client.map(job, waiting, retries=retries, pure=False)
    cells = dict(zip([future.key for future in futures], waiting, strict=True))
    pending, outcomes = as_completed(futures), {}
    del futures  # or Dask would keep what is read already, and make it again when a worker dies
    with tqdm(total=len(waiting), unit="cell", dynamic_ncols=True, disable=None) as bar:
        for future in pending:
            chapter = cells[future.key]
            outcome = _outcome(future, chapter)
            if outcome.status == "taken":
                bar.set_postfix_str(f"{outcome.chapter}: {claimed_by(chapter.folder)}")
                again = partial(job, patience=PATIENCE)
                new = client.submit(again, chapter, retries=retries, pure=False, priority=-1)
                cells[new.key] = chapter
                pending.add(new)
                continue
            outcomes[outcome.chapter] = outcome
            bar.update()
            bar.write(f"{outcome.chapter}: {outcome.status}, {outcome.seconds:.0f} s")
    return outcomes


def _outcome(future: Any, chapter: Chapter) -> Outcome:
    """What became of a cell that Dask is done with."""
    from distributed import KilledWorker

    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    if error is None:
        told = "Dask lost it, most likely with its scheduler; start the sweep again"
    elif isinstance(error, KilledWorker):
        told = (
            "each worker that ran it died: killed by somebody, or for want of memory; try fewer "
            f"workers. What there is of it: {chapter.folder}"
        )
    else:
        told = str(error) if isinstance(error, CellError) else f"{type(error).__name__}: {error}"
    return Outcome(chapter.folder.name, "failed", 0.0, told)


def collect_cells(sweep: Sweep) -> Path:
    """Write `results.json`: what was asked, the finished cells in grid order, those missing."""
    finished = [name for name, chapter in sweep.cells.items() if is_finished(chapter)]
    content = {
        "sweep": sweep.name,
        "asked": sweep.asked,
        "cells": [_collected(sweep, name) for name in finished],
        "missing": [name for name in sweep.cells if name not in finished],
    }
    path = sweep.folder / RESULTS
    with hold(path, f"the results of {sweep.name}", BRIEF):
        write_json(path, content)
    return path


def _collected(sweep: Sweep, name: str) -> dict[str, Any]:
    chapter = sweep.cells[name]
    results = chapter.folder / RESULTS
    return {
        "cell": name,
        "values": sweep.values(name),
        "seconds": read_state(chapter)["seconds"],
        "results": read_json(results) if results.exists() else {},
        "provenance": whole_provenance(chapter),
    }
