"""A sweep of twelve cells that train, each one row of one seed; as a program, in a process.

    python tests/growing_sweep.py FOLDER MINUTES

runs it in the book in FOLDER and adds what is finished to the chapter's record. Where that folder
has a file `enough` with a number in it, time is over for all cells after that many were begun.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tiny_book import make_book, write_chapter

ROWS = ["control", "mimics", "weight 4", "weight 9"]
PARAMETERS = "seeds = [0]  # which\nrows = []  # which; empty: all\nsteps = 3  # of each training"
FILE = f"""\
chapter: 01_one
profile: cpu
grid:
  seeds: [[0], [1], [2]]
  rows: {[[row] for row in ROWS]}
fixed:
  steps: 12
"""


def make_growing(root: Path) -> Path:
    """Write a book of one chapter, and the sweep; return the sweep's file."""
    make_book(root, **{"01_one": "print(seeds, rows, steps)"})
    write_chapter(root, "01_one", "print(seeds, rows, steps)", PARAMETERS)
    (root / "book" / "records").mkdir()
    path = root / "grow.yml"
    path.write_text(FILE)
    return path


def execute(chapter, running: set, held: tuple[int, ...]) -> str:
    """Do in the worker what a chapter's process does: train, keep; stop when time is over."""
    import torch

    from fmabs_lite import training
    from fmabs_lite.lesson import records
    from fmabs_lite.press.runner import STOPPED

    torch.set_num_threads(1)
    training.SAVE_EVERY = 0.1  # so that a kill costs little here too
    repo = chapter.notebook.parents[1]
    with open(repo / "log", "a") as log:
        log.write(f"{chapter.folder.name}\n")
    begun = len((repo / "log").read_text().splitlines())
    if (repo / "enough").exists() and begun >= int((repo / "enough").read_text()):
        os.environ[training.UNTIL] = "1"
    os.environ |= {records.RUN_DIR: str(chapter.folder), records.SHARED_DIR: str(chapter.shared)}
    values = chapter.provenance["parameters"]
    try:
        losses = train(values["rows"][0], values["seeds"][0], values["steps"])
    except training.OutOfTime as error:
        return f"{STOPPED}{error}"
    records.keep(rows={"trivial: none": [{"loss": 1.0}], values["rows"][0]: [{"loss": losses}]})
    shutil.copy(chapter.notebook, chapter.executed)
    return ""


def train(row: str, seed: int, steps: int) -> float:
    """The mean loss after training one row of one seed, its teacher first."""
    import torch

    from fmabs_lite.lesson.study import Runs
    from fmabs_lite.mimicry import Boosted
    from fmabs_lite.models import AutoEncoder, Reconstruction

    data = torch.randint(0, 256, (24, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    runs = Runs("noise", data.byte(), lambda: Reconstruction(AutoEncoder(width=8, code=8)),
                steps=steps, batch_size=8, lr=1e-3)  # fmt: skip
    weight = {"mimics": 1.0, "weight 4": 4.0, "weight 9": 9.0}.get(row)
    if weight is None:
        system = runs.control(seed)
    else:
        system = runs.student(row, seed, lambda d, t: Boosted(d, t, weight=weight))
    prepared = system.eval().prepare(data.float() / 255)
    with torch.no_grad():
        return float(system.loss(prepared))


if __name__ == "__main__":
    from growing_sweep import execute as known  # by its module's name, which the workers know

    from fmabs_lite.press import sweep

    sweep.visible_gpus = tuple
    folder, minutes = Path(sys.argv[1]), float(sys.argv[2])
    outcomes, _ = sweep.run_sweep(folder, folder / "grow.yml", workers=2, execute=known,
                                  minutes=minutes, keep_records=True)  # fmt: skip
    print(*(outcome.status for outcome in outcomes))
