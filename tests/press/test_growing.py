"""A record that grows by interrupted sweeps is the one of a sweep that ran through."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from growing_sweep import ROWS, make_growing

from fmabs_lite.lesson.records import as_record, read_json

PROGRAM = Path(__file__).resolve().parents[1] / "growing_sweep.py"
TIMES = ("seconds", "finished", "resumed", "checksum")


def start(folder: Path, minutes: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, PROGRAM, folder, str(minutes)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip


def statuses(process: subprocess.Popen) -> list[str]:
    return process.communicate(timeout=300)[0].splitlines()[-1].split()


def begun(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def but_for_times(path: Path) -> str:
    """A record's text without what the clock put in."""
    content = read_json(path)
    for part in (content, *content["cells"]):
        part["provenance"] = {k: v for k, v in part["provenance"].items() if k not in TIMES}
    return json.dumps(content, indent=1)


def wait_until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_record_is_the_same_however_often_its_sweep_was_interrupted(tmp_path):
    pytest.importorskip("distributed")
    through, torn = tmp_path / "through", tmp_path / "torn"
    for folder in (through, torn):
        make_growing(folder)
    assert statuses(start(through, 60)) == ["done"] * 12

    for enough in (3, 6):  # time is over in the middle of a training
        (torn / "enough").write_text(str(enough))
        told = statuses(start(torn, 60))
        assert "stopped" in told and len(begun(torn)) >= enough
    assert {"kept", "done"} & set(told), "the second time something was finished"
    (torn / "enough").unlink()
    before, killed = len(begun(torn)), start(torn, 60)
    wait_until(lambda: len(begun(torn)) > before)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    told = statuses(start(torn, 60))
    assert set(told) == {"kept", "done"} and len(told) == 12

    records = [folder / "book" / "records" / "01_one.cpu.json" for folder in (through, torn)]
    assert but_for_times(records[0]) == but_for_times(records[1])
    rows = as_record(read_json(records[1]), records[1]).results["rows"]
    assert list(rows) == ["trivial: none", *ROWS]
    assert len({run["loss"] for row in ROWS for run in rows[row]}) == 12  # each trained by itself
    shared = list((torn / "_build" / "sweeps" / "grow" / "shared").rglob("*.pt"))
    assert sum("teacher" in path.name for path in shared) == 3, "one teacher a seed, for all rows"

    told = statuses(start(torn, 60))
    assert told == ["kept"] * 12
    shutil.rmtree(torn / "_build")  # as on another machine: the record knows what there is
    assert statuses(start(torn, 60)) == ["kept"] * 12
