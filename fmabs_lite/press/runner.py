"""Run the chapters of the book: check their parameters, execute, keep what is finished.

Each chapter runs in a process of its own (`python -m fmabs_lite.press.runner`, papermill under it)
and has a folder, `_build/runs/<profile>/<chapter>/`, with `run.json` (what runs, whether it
finished), the notebook as far as it got, `results.json` and `checkpoints/`. A chapter is skipped
when nothing that it depends on has changed; when something has, its folder is cleared.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from fmabs_lite.lesson import records
from fmabs_lite.lesson.cells import ALL, FEW
from fmabs_lite.lesson.records import read_json, write_json
from fmabs_lite.press.claims import BRIEF, hold
from fmabs_lite.press.plan import Chapter, RunError, Settings, plan

UNTIL = "FMABS_UNTIL"  # as `fmabs_lite.training` reads it, which needs torch
PATIENCE = 5.0  # seconds in which the kernels of a run that was killed are gone too
FOLLOWS = ("Parent appears to have exited", "Error occurred while starting new kernel")  # no causes
NO_KERNEL = "its kernel did not start"
STOPPED = "stopped: "  # begins what is said of a chapter that ran out of time
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
HABITS = {"MPLBACKEND", "PYTHONSTARTUP"}  # which a kernel would take over
# glibc keeps up to half a GiB of what tensors leave, for the next: a fifth of the time of a step of
# chapter 03. Dask has its workers give it back at once, with which a step can take twice as long.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(512 << 20)}
LONGEST = 600  # seconds of a cell with quick's values, whose chapters take two minutes


@dataclass
class Outcome:
    """What became of a chapter: status is "done", "kept" (nothing had changed), "stopped" (its time
    was over; the same command goes on) or "failed".
    """

    chapter: str
    status: str
    seconds: float
    error: str = ""


def run(repo: Path, names: Iterable[str] = (), settings: Settings | None = None) -> list[Outcome]:
    """Run chapters (all of them without names) and return an outcome for each, in book order.

    Raises RunError before anything starts if a chapter, profile or parameter is unknown, or a
    parameter is never read; DataError if the data folder lacks something. A chapter that fails
    does not stop the others. Raises BusyError if another run is at work on one of the chapters.
    """
    settings = settings or Settings()
    if settings.keep_records and settings.values:
        raise RunError("a record holds a profile's own values: leave out --set or --keep-records")
    chosen = plan(repo, list(names), settings)
    for chapter in chosen:
        if chapter.lacks:
            raise RunError(f"{chapter.name}: {chapter.lacks}")
    if settings.keep_records:
        check_shelf(repo)
    with _claimed(chosen) as held:
        clear_changed(chosen, settings.force)
        outcomes = _run_unfinished(chosen, settings, held)
        for chapter in chosen:
            if outcomes[chapter.name].status in ("done", "kept"):
                _publish(repo, chapter, settings.keep_records)
    return [outcomes[chapter.name] for chapter in chosen]


@contextmanager
def _claimed(chosen: list[Chapter]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Claim the chapters, and give the claims' descriptors, which their kernels are to share."""
    held = {}
    with ExitStack() as claims:
        for chapter in chosen:
            work = f"{chapter.name} in profile {chapter.provenance['profile']}"
            held[chapter.name] = claims.enter_context(hold(chapter.folder, work, PATIENCE))
        yield held


def _run_unfinished(
    chosen: list[Chapter], settings: Settings, held: dict[str, tuple[int, ...]]
) -> dict[str, Outcome]:
    waiting = [chapter for chapter in chosen if not is_finished(chapter)]
    outcomes = {
        chapter.name: Outcome(chapter.name, "kept", read_state(chapter)["seconds"])
        for chapter in chosen
        if chapter not in waiting
    }
    jobs = settings.jobs or _default_jobs(settings.profile, len(waiting))
    with time_limit(settings.minutes):
        outcomes |= {outcome.chapter: outcome for outcome in _run_all(waiting, jobs, held)}
    return outcomes


@contextmanager
def time_limit(minutes: float | None) -> Iterator[None]:
    """Have trainings that run meanwhile stop at a checkpoint after so many minutes, if given."""
    if minutes is None:
        yield
        return
    os.environ[UNTIL] = str(time.time() + 60 * minutes)
    try:
        yield
    finally:
        del os.environ[UNTIL]


def out_of_time() -> bool:
    """Whether the minutes given to this run are over."""
    return time.time() > float(os.environ.get(UNTIL, "inf"))


# --- state on disk


def read_state(chapter: Chapter) -> dict[str, Any]:
    """What `run.json` holds: configuration, provenance and, once finished, what was measured."""
    path = chapter.folder / "run.json"
    try:
        return read_json(path) if path.exists() else {}
    except records.RecordError:  # cut short by a full disk or a crash: as if it had not run
        return {}


def clear_changed(chosen: list[Chapter], force: bool) -> None:
    """Clear the folders of chapters whose configuration has changed, and write the new one.

    The folder of a run that was killed or failed under the same configuration is left as it is, so
    that it goes on from its checkpoints.
    """
    for chapter in chosen:
        if force or read_state(chapter).get("configuration") != chapter.configuration:
            state = {
                "configuration": chapter.configuration,
                "provenance": chapter.provenance,
                "seconds": read_state(chapter).get("seconds"),  # to put long ones first
            }
            if chapter.folder.exists():
                shutil.rmtree(chapter.folder)
            chapter.folder.mkdir(parents=True)
            write_json(chapter.folder / "run.json", state)


def is_finished(chapter: Chapter) -> bool:
    """Whether this very configuration has been run to the end."""
    state = read_state(chapter)
    same = state.get("configuration") == chapter.configuration
    return same and "measured" in state and chapter.executed.exists()


def _publish(repo: Path, chapter: Chapter, keep_record: bool) -> None:
    """Hand the executed notebook to the build and, if asked, the record to the book."""
    shelf = repo / "_build" / "executed"
    shelf.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(chapter.executed, shelf / chapter.executed.name)
    shutil.copyfile(chapter.folder / "run.json", shelf / f"{chapter.name}.json")
    results = chapter.folder / "results.json"
    if keep_record and results.exists():
        provenance = whole_provenance(chapter)
        name = f"{chapter.name}.{provenance['profile']}.json"
        with record_claim(repo, name) as target:
            records.write_record(target, provenance, read_json(results))


@contextmanager
def record_claim(repo: Path, name: str) -> Iterator[Path]:
    """Claim a committed record, and give its path: runs, sweeps and peers may write it."""
    target = repo / "book" / "records" / name
    target.parent.mkdir(exist_ok=True)
    with hold(repo / "_build" / "records" / name, f"the record {name}", BRIEF):
        yield target


def check_shelf(repo: Path) -> None:
    """Raise RunError before hours are spent if no record can be written."""
    folder = repo / "book" / "records"
    if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
        raise RunError(f"{folder} cannot be written, so no record can be kept; make it writable")


def whole_provenance(chapter: Chapter) -> dict[str, Any]:
    """What a finished run depended on and what was measured, with the checksums of its data."""
    from fmabs_lite.data.folder import checksum

    checksums = {name: checksum(path) for name, path in chapter.data.items()}
    data = {"data": chapter.provenance["data"] | checksums}
    return chapter.provenance | read_state(chapter)["measured"] | data


# --- running


def cores() -> int:
    """Number of cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _default_jobs(profile: str, count: int) -> int:
    return max(1, min(count, cores())) if profile == "quick" else 1


def _run_all(waiting: list[Chapter], jobs: int, held: dict[str, tuple[int, ...]]) -> list[Outcome]:
    """Run chapters side by side, the long ones first, under a progress bar."""
    from tqdm import tqdm

    if not waiting:
        return []
    running: set[subprocess.Popen] = set()
    outcomes = []
    pool = ThreadPoolExecutor(jobs)
    bar = tqdm(total=len(waiting), unit="chapter", dynamic_ncols=True, disable=None)
    try:
        tasks = {
            pool.submit(
                run_one, chapter, running, partial(execute_chapter, held=held[chapter.name])
            ): chapter
            for chapter in long_ones_first(waiting)
        }
        while tasks:
            done, _ = wait(tasks, timeout=1, return_when=FIRST_COMPLETED)
            for task in done:
                outcomes.append(task.result())
                _report(bar, outcomes[-1])
                del tasks[task]
            active = [chapter.name for task, chapter in tasks.items() if task.running()]
            bar.set_postfix_str(", ".join(active))
    finally:  # also on Ctrl-C: no kernel outlives the run
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.terminate()
        bar.close()
    return outcomes


def long_ones_first(chapters: Sequence[Chapter]) -> list[Chapter]:
    """By the seconds of their last runs; before all those that never ran, from the book's end on.

    Its first chapters are short: with them last, no core waits long for another.
    """
    took = {chapter.name: read_state(chapter).get("seconds") or inf for chapter in chapters}
    return sorted(reversed(chapters), key=lambda chapter: took[chapter.name], reverse=True)


def _report(bar: Any, outcome: Outcome) -> None:
    bar.update()
    bar.write(f"{outcome.chapter}: {outcome.status}, {outcome.seconds:.0f} s")


def run_one(chapter: Chapter, running: set[subprocess.Popen], execute: Any = None) -> Outcome:
    """Run one chapter in its folder, from its checkpoints on if there are any, and say how it went.

    `execute` does it, and returns what went wrong; it is `execute_chapter` if none is given.
    """
    if out_of_time():
        return Outcome(chapter.name, "stopped", 0.0, "not begun")
    for name in ("results.json", records.KERNEL):
        (chapter.folder / name).unlink(missing_ok=True)
    resumed = (chapter.folder / "checkpoints").exists()
    start, before = time.monotonic(), read_state(chapter).get("spent", 0.0)
    error = (execute or execute_chapter)(chapter, running)
    spent = round(before + time.monotonic() - start, 1)
    if error:
        write_json(chapter.folder / "run.json", read_state(chapter) | {"spent": spent})
        stopped = error.startswith(STOPPED)
        return Outcome(chapter.name, "stopped" if stopped else "failed", spent, error)
    kernel = chapter.folder / records.KERNEL
    measured = {
        "device": "",  # where nothing was kept
        "machine": f"{platform.system()} {platform.machine()}, {cores()} cores",
        "resumed": resumed,
        "seconds": spent,
        "finished": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit_of(chapter.notebook.parent),
        **precision_of(chapter),
        **(read_json(kernel) if kernel.exists() else {}),
    }
    state = {**read_state(chapter), "measured": measured, "seconds": spent}
    state.pop("spent", None)
    write_json(chapter.folder / "run.json", state)
    return Outcome(chapter.name, "done", spent)


def precision_of(chapter: Chapter) -> dict[str, str]:
    """The precision that this machine chose for a chapter that leaves it open, by name."""
    if chapter.provenance["parameters"].get("precision") != "auto":
        return {}
    from fmabs_lite.training import best_device, chosen_precision

    return {"precision": chosen_precision("auto", best_device())}


def commit_of(folder: Path) -> str:
    """The commit that is checked out, with "+" where files differ from it; "" without git."""
    asked = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+"]
    asked += ["--exclude", "*"]  # no tags: they may be moved
    try:
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def execute_chapter(
    chapter: Chapter, running: set[subprocess.Popen], held: tuple[int, ...] = ()
) -> str:
    """Execute a chapter in a process of its own; return what went wrong, or nothing.

    That process and its kernel keep the files `held` (descriptors) open as long as they live.
    """
    job = [str(chapter.notebook), str(chapter.executed), json.dumps(chapter.overrides)]
    job += [chapter.provenance["profile"], json.dumps(held)]
    process = subprocess.Popen(
        [sys.executable, "-m", "fmabs_lite.press.runner", *job],
        env=environment(chapter),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",  # as PYTHONIOENCODING says, whatever the terminal's is
        errors="replace",
        pass_fds=held,
    )
    running.add(process)
    output, errors = process.communicate()
    running.discard(process)
    if process.returncode == 0:
        return ""
    told = output.strip() or _end_of(process.returncode, errors)
    if told == NO_KERNEL:  # which has said why itself
        told += ": " + _end_of(process.returncode, errors)
    return f"{told}. The notebook as far as it got: {chapter.executed}"


def _end_of(status: int, errors: str) -> str:
    """What ended a chapter's process that could say nothing itself."""
    if status < 0:  # what its kernel says meanwhile is not the cause
        name = signal.Signals(-status).name
        return f"its process was killed ({name}), by somebody or for want of memory; run it again"
    told = [line for line in errors.strip().splitlines() if not line.startswith(FOLLOWS)]
    return (told or [f"it ended with status {status}"])[-1]


def environment(chapter: Chapter) -> dict[str, str]:
    """The environment of a chapter's process and kernel: nothing of the reader's habits in it."""
    env = {key: value for key, value in os.environ.items() if key not in HABITS}
    env[records.RUN_DIR] = str(chapter.folder)
    if chapter.shared:
        env[records.SHARED_DIR] = str(chapter.shared)
    env |= dict.fromkeys(THREADS, str(chapter.threads)) | MEMORY
    try:
        Path.home()
    except RuntimeError:  # a user whom the system does not list, and no HOME: Jupyter needs one
        env["HOME"] = str(chapter.folder)
    env["IPYTHONDIR"] = str(chapter.folder / "ipython")  # no start-up files of the reader's
    if env.get("FMABS_CACHE"):  # which may be relative, and the kernel has another folder
        from fmabs_lite.data.folder import cache_dir

        env["FMABS_CACHE"] = str(cache_dir())
    env["PYTHONIOENCODING"] = "utf-8"
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else debugpy warns in every kernel
    package = Path(__file__).parents[2]
    if (package / "pyproject.toml").exists():  # of two checkouts, the one that is hashed
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(package), env.get("PYTHONPATH")]))
    return env


# --- the process of one chapter


def work(source: str, target: str, overrides: str, profile: str, held: str = "[]") -> str:
    """Execute one notebook with papermill; return what went wrong, or nothing.

    `overrides` and `held` (see `execute_chapter`) are JSON.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from fmabs_lite.press.engine import ENGINE
    from fmabs_lite.press.kernels import manager_class

    try:
        papermill.execute_notebook(
            as_asked(Path(source), profile, json.loads(overrides)),
            target,
            json.loads(overrides),
            engine_name=ENGINE,
            kernel_name="python3",
            progress_bar=False,
            cwd=str(Path(target).parent),
            execution_timeout=LONGEST if profile == "quick" else None,
            kernel_manager_class=manager_class(json.loads(held)),
            shutdown_kernel="immediate",  # nothing in it is wanted any more
        )
    except (PapermillExecutionError, OSError, RuntimeError) as error:
        return _told(error, target)
    _tidy(Path(target))
    return ""


def _told(error: Exception, target: str) -> str:
    """What went wrong with a notebook, in words."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return f"{STOPPED}{error.evalue}" if error.ename == "OutOfTime" else describe(error)
    if isinstance(error, CellTimeoutError):  # an OSError by birth, but not of the disk
        return f"a cell did not end within {LONGEST} s: it hangs, or this machine is too busy"
    if isinstance(error, DeadKernelError):
        return "the kernel died, most likely for want of memory; try smaller values or --jobs 1"
    if isinstance(error, OSError):
        return f"{error.strerror or error} ({error.filename or target}); free space and run again"
    if "Kernel died before" not in str(error):
        raise error
    return NO_KERNEL


def as_asked(source: Path, profile: str, overrides: dict[str, Any]) -> Any:
    """Read a chapter; leave out the cells that this run cannot or need not execute.

    A chapter may open with what its record holds, in cells tagged `opening`: the run that makes the
    first record has nothing to open with yet. And a run of some rows only, a sweep's cell, ends
    with the cell tagged `rows`, which trains and keeps them: the rest is about all of them.
    """
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    made = any((source.parent / "records").glob(f"{source.stem}.*.json"))
    some = (overrides.get("rows") or [ALL]) not in ([ALL], [FEW])
    if some or (profile in records.PROFILES and not made):
        notebook.cells = [cell for cell in notebook.cells if "opening" not in tags_of(cell)]
    if some:
        last = [n for n, cell in enumerate(notebook.cells) if "rows" in tags_of(cell)]
        notebook.cells = notebook.cells[: last[-1] + 1 if last else None]
    return notebook


def tags_of(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def describe(error: Any) -> str:
    """Say in one line where a notebook stopped: the cell, its line, the error."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    found = re.search(r"(?:Cell In|In )\s*\[\d+\], line (\d+)", plain)
    lines = error.source.splitlines()
    number = int(found.group(1)) if found else 1
    line = lines[min(number, len(lines)) - 1].strip()
    return (
        f"stopped in cell [{error.exec_count}], line {number}: `{line}`: "
        f"{error.ename}: {error.evalue}"
    )


def _tidy(path: Path) -> None:
    """Drop papermill's stamps (paths, times) and the state of widgets; hide the cell it put in."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)  # without a kernel a page shows explore's player
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata.tags.append("remove-cell")
    nbformat.write(notebook, path)


def _follow_parent() -> None:
    """End this process, and so its kernel, when the run that started it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _follow_parent()
    problem = work(*sys.argv[1:])
    print(problem)
    sys.exit(1 if problem else 0)
