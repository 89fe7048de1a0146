"""A sweep of cells of milliseconds, for the tests; as a program, a sweep in a process of its own.

What a cell does is told by files in the repository, named after the cell: in `deadly` (kill the
worker, once), `broken` (fail, as often as the number in it says), `stuck` (wait until it is gone).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

from tiny_book import make_book, write_chapter

PARAMETERS = 'steps = 3  # how many\nrate = 0.5  # how far\nname = "screw"'
FILE = """\
chapter: 01_one
profile: quick
grid:
  name: [cable, screw]
  steps: {steps}
fixed:
  rate: 0.25
"""


def make_sweep(root: Path, steps: int, code: str = "print(steps, rate, name)") -> Path:
    """Write a book of one chapter, and a sweep of it with twice as many cells as steps."""
    make_book(root, **{"01_one": code})
    write_chapter(root, "01_one", code, PARAMETERS)
    path = root / "grid.yml"
    path.write_text(FILE.format(steps=list(range(1, steps + 1))))
    return path


def execute(chapter, running: set, held: tuple[int, ...]) -> str:
    """Do in the place of `execute_chapter` what the files say; note the begin and the end."""
    repo, cell = chapter.notebook.parents[1], chapter.folder.name
    note(repo, f"begin {cell} {os.getpid()}")
    if (repo / "deadly" / cell).exists():
        (repo / "deadly" / cell).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    while (repo / "stuck" / cell).exists():
        time.sleep(0.02)
    broken = repo / "broken" / cell
    if broken.exists() and int(broken.read_text()) > 0:
        broken.write_text(str(int(broken.read_text()) - 1))
        return f"no such thing. The notebook as far as it got: {chapter.executed}"
    time.sleep(0.02)
    shutil.copy(chapter.notebook, chapter.executed)
    note(repo, f"end {cell} {os.getpid()}")
    return ""


def note(repo: Path, line: str) -> None:
    """Add a line to the log, whole, whoever else writes."""
    file = os.open(repo / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def noted(repo: Path, word: str) -> list[tuple[str, int]]:
    """Cell and process of each line of the log that begins with a word."""
    lines = (repo / "log").read_text().splitlines() if (repo / "log").exists() else []
    return [(cell, int(pid)) for kind, cell, pid in map(str.split, lines) if kind == word]


def main(repo: Path, workers: int) -> None:
    """Run the sweep with so many processes; with none, with two threads of this one."""
    from distributed import LocalCluster
    from tiny_sweep import execute  # by its module's name, which the workers know

    from fmabs_lite.press import sweep

    sweep.visible_gpus = tuple  # none, wherever this runs; PyTorch is not asked
    if workers:
        sweep.run_sweep(repo, repo / "grid.yml", workers=workers, execute=execute)
        return
    options = dict(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0")
    with LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        path = repo / "grid.yml"
        outcomes, _ = sweep.run_sweep(repo, path, scheduler=address, execute=execute)
    assert {outcome.status for outcome in outcomes} <= {"done", "kept"}, outcomes


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
