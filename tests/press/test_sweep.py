"""Sweeps: the file, the cells' names, claims, deaths in the middle, costs, the command."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from tiny_book import alive
from tiny_sweep import execute, make_sweep, noted

from fmabs_lite.lesson.records import read_json, write_json, write_record
from fmabs_lite.press import cli, costs, sweep
from fmabs_lite.press.claims import CellError, claim, claimed_by
from fmabs_lite.press.comparison import read_runs
from fmabs_lite.press.plan import RunError
from fmabs_lite.press.runner import clear_changed, execute_chapter, read_state
from fmabs_lite.press.sweep import cell_name, read_sweep, run_sweep

ROOT = Path(__file__).resolve().parents[2]
READY = sorted((ROOT / "book" / "sweeps").glob("*.yml"))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_sweep(tmp_path, 3)
    return tmp_path


@pytest.fixture(scope="module")
def address():
    """A Dask scheduler with one worker of two threads, in this process."""
    distributed = pytest.importorskip("distributed")
    options = dict(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0")
    with distributed.LocalCluster(**options) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def start(tmp_path: Path):
    """Start a sweep in a process of its own, which does not outlive the test."""
    started = []

    def begin(workers: int) -> subprocess.Popen:
        program = ROOT / "tests" / "tiny_sweep.py"
        started.append(subprocess.Popen([sys.executable, program, tmp_path, str(workers)]))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition, seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def mark(repo: Path, folder: str, *cells: str, text: str = "") -> None:
    (repo / folder).mkdir(exist_ok=True)
    for cell in cells:
        (repo / folder / cell).write_text(text)


def read(repo: Path) -> sweep.Sweep:
    return read_sweep(repo, repo / "grid.yml")


# --- the file and its cells


def test_cells_are_named_by_their_values_in_grid_order(repo):
    found = read(repo)
    assert list(found.cells) == [
        f"name={name},steps={steps}" for name in ("cable", "screw") for steps in (1, 2, 3)
    ]
    chapter = found.cells["name=screw,steps=2"]
    assert chapter.overrides == {"steps": 2, "rate": 0.25}, "screw is the default"
    assert chapter.folder == repo / "_build" / "sweeps" / "grid" / "name=screw,steps=2"
    assert found.values("name=screw,steps=2") == {"name": "screw", "steps": 2}
    assert len({one.configuration for one in found.cells.values()}) == 6


def test_names_are_fit_for_files_and_stay_distinct():
    assert cell_name({"seeds": [0], "size": [9, 16], "lr": 1e-3}) == "seeds=0,size=9+16,lr=0.001"
    strange = [cell_name({"part": part}) for part in ("a b", "a/b", "../b", "a" * 300, "a" * 299)]
    assert len(set(strange)) == 5
    assert all("/" not in name and len(name) <= sweep.LONGEST_NAME for name in strange)
    assert cell_name({"part": "a b"}) == strange[0], "the same in every sweep"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chapter": "01_noe"}, "unknown chapter '01_noe' .*did you mean 01_one"),
        ({"profile": "fulll"}, "unknown profile 'fulll' .*did you mean full"),
        ({"chapter": None}, "grid.yml: `chapter` must be a name, and is None"),
        ({"profile": ["cpu"]}, "grid.yml: `profile` must be a name, and is .'cpu'."),
        ({"grdi": {}}, "unknown key 'grdi' .*grid.yml.*did you mean grid"),
        ({"grid": {}}, "grid.yml: `grid` is empty"),
        ({"grid": ["name"]}, "`grid` must be names with their values"),
        ({"grid": {"steps": []}}, "`grid`, steps: .. is not a list of values"),
        ({"grid": {"steps": 3}}, "`grid`, steps: 3 is not a list of values"),
        ({"grid": {"stpes": [3]}}, "unknown parameter 'stpes' .*grid.yml.*did you mean steps"),
        ({"grid": {3: [3]}}, "unknown parameter 3 .*grid.yml"),
        ({"grid": {"steps": [3, "x"]}}, "grid.yml: steps: 'x' is not of type int"),
        ({"grid": {"name": [3]}}, "grid.yml: name: 3 is not of type str"),
        ({"grid": {"steps": [3, 4, 3]}}, "the cell steps=3 is in the grid twice"),
        ({"fixed": {"steps": 1}}, "steps is both in `grid` and in `fixed`"),
        ({"fixed": {"data": "/x"}}, "name the data folder with --data DIR, not with .*grid.yml"),
        ({"fixed": {"rtae": 1}}, "unknown parameter 'rtae' .*did you mean rate"),
    ],
)
def test_a_wrong_file_stops_before_anything_starts(repo, change, message):
    path = repo / "grid.yml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(RunError, match=message):
        run_sweep(repo, path)
    assert not (repo / "_build").exists()


def test_a_number_in_words_is_a_number(repo):
    path = repo / "grid.yml"
    path.write_text("{chapter: 01_one, profile: quick, grid: {rate: [1e-3, 1, 0.5]}}")
    assert list(read(repo).cells) == ["rate=0.001", "rate=1.0", "rate=0.5"]


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_sweeps_name_what_there_is(path):
    least = 1 if path.stem.startswith("weights_") else 3  # one network that travels, or a table
    assert len(read_sweep(ROOT, path).cells) >= least


# --- claims


def test_a_claim_is_one_persons_and_ends_with_its_block(tmp_path):
    cell = tmp_path / "cell"
    assert claimed_by(cell) == ""
    with claim(cell) as first:
        assert first is not None
        with claim(cell) as second, claim(tmp_path / "other") as other:
            assert second is None and other is not None
        assert claimed_by(cell).startswith(f"process {os.getpid()} on ")
        threading.Timer(0.3, os.close, [os.dup(first)]).start()  # shared a little longer
    with claim(cell) as early, claim(cell, patience=30) as late:
        assert early is None and late is not None


def test_a_dead_process_holds_no_claim(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom fmabs_lite.press.sweep import claim\n"
        "with claim(Path(sys.argv[1])):\n    print(flush=True)\n    time.sleep(300)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cell")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    assert f"process {process.pid}" in claimed_by(tmp_path / "cell")
    process.kill()
    process.communicate()
    assert claimed_by(tmp_path / "cell") == ""


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(CellError, match="keeps no locks .*No locks available.*option flock"):
        with claim(tmp_path / "cell"):
            pass


def test_a_cell_stays_claimed_while_its_kernel_lives(tmp_path):
    code = "import os, time, pathlib\npathlib.Path('pid').write_text(f'{os.getpid()}')\n"
    make_sweep(tmp_path, 1, f"{code}time.sleep(300)\nprint(steps, rate, name)")
    chapter = read(tmp_path).cells["name=cable,steps=1"]
    pid, running = chapter.folder / "pid", set()
    with claim(chapter.folder) as held:
        clear_changed([chapter], force=False)
        shared = os.dup(held)
        job = threading.Thread(target=execute_chapter, args=(chapter, running, (shared,)))
        job.start()
        wait_for(lambda: pid.exists() and pid.read_text())
        os.close(shared)
    kernel, (process,) = int(pid.read_text()), running
    os.kill(kernel, signal.SIGSTOP)  # or it would see in a second that its parent is gone
    process.kill()
    process.wait()
    claimed = claimed_by(chapter.folder)
    os.kill(kernel, signal.SIGKILL)
    assert claimed, "nothing but the kernel was left"
    wait_for(lambda: not claimed_by(chapter.folder))
    job.join()


# --- runs


@pytest.mark.slow
def test_two_sweeps_at_once_run_each_cell_once(tmp_path, start):
    make_sweep(tmp_path, 8)
    cells = list(read(tmp_path).cells)
    mark(tmp_path, "stuck", *cells[:2])  # as many as a sweep has threads: the other does the rest
    both = [start(workers=0), start(workers=0)]
    wait_for(lambda: len(noted(tmp_path, "end")) == len(cells) - 2)
    shutil.rmtree(tmp_path / "stuck")
    assert [process.wait(150) for process in both] == [0, 0]
    for word in ("begin", "end"):
        assert sorted(cell for cell, _ in noted(tmp_path, word)) == sorted(cells)
    assert {pid for _, pid in noted(tmp_path, "end")} == {process.pid for process in both}
    results = read_json(tmp_path / "_build" / "sweeps" / "grid" / "results.json")
    assert [cell["cell"] for cell in results["cells"]] == cells


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_sweep_cost_only_their_cells(tmp_path, start, monkeypatch):
    make_sweep(tmp_path, 12)
    cells = list(read(tmp_path).cells)
    mark(tmp_path, "deadly", cells[5])
    mark(tmp_path, "stuck", *cells[12:])
    process = start(workers=4)
    wait_for(lambda: len(noted(tmp_path, "end")) == 12 and len(noted(tmp_path, "begin")) == 17)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert {cell for cell, _ in noted(tmp_path, "end")} == set(cells[:12])
    wait_for(lambda: not any(alive(pid) for _, pid in noted(tmp_path, "begin")))
    shutil.rmtree(tmp_path / "stuck")

    monkeypatch.setattr(sweep, "visible_gpus", tuple)
    path = tmp_path / "grid.yml"
    outcomes, results = run_sweep(tmp_path, path, workers=4, execute=execute)
    assert [outcome.status for outcome in outcomes] == ["kept"] * 12 + ["done"] * 12
    ends = [cell for cell, _ in noted(tmp_path, "end")]
    assert sorted(ends) == sorted(cells), "each to its end, once"
    content = read_json(results)
    assert [cell["cell"] for cell in content["cells"]] == cells and not content["missing"]
    assert [cell["values"]["steps"] for cell in content["cells"]] == [*range(1, 13)] * 2


def test_failures_are_tried_again_and_stop_nobody(repo, address):
    first, second, *_ = read(repo).cells
    mark(repo, "broken", first, text="1")
    mark(repo, "broken", second, text="9")
    options = dict(scheduler=address, retries=1, execute=execute)
    outcomes, results = run_sweep(repo, repo / "grid.yml", **options)
    assert [outcome.status for outcome in outcomes] == ["done", "failed", *["done"] * 4]
    assert "no such thing" in outcomes[1].error
    assert str(repo / "_build" / "sweeps" / "grid" / second) in outcomes[1].error
    begun = [cell for cell, _ in noted(repo, "begin")]
    assert [begun.count(cell) for cell in read(repo).cells] == [2, 2, 1, 1, 1, 1]
    content = read_json(results)
    assert content["missing"] == [second] and len(content["cells"]) == 5

    mark(repo, "broken", second, text="0")
    outcomes, results = run_sweep(repo, repo / "grid.yml", **options)
    assert [outcome.status for outcome in outcomes] == ["kept", "done", *["kept"] * 4]
    assert read_json(results)["missing"] == []


def test_a_change_of_fixed_values_runs_the_cells_again(repo, address):
    options = dict(scheduler=address, execute=execute)
    path = repo / "grid.yml"
    run_sweep(repo, path, **options)
    path.write_text(path.read_text().replace("0.25", "0.75"))
    outcomes, results = run_sweep(repo, path, **options)
    assert {outcome.status for outcome in outcomes} == {"done"}
    cells = read_json(results)["cells"]
    assert {cell["provenance"]["parameters"]["rate"] for cell in cells} == {0.75}


@pytest.mark.slow
def test_two_cells_with_real_kernels_by_the_command(tmp_path, monkeypatch):
    code = "from fmabs_lite.lesson.records import keep\nkeep(said=[name, steps, rate])"
    make_sweep(tmp_path, 1, code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "visible_gpus", tuple)
    result = CliRunner().invoke(cli.main, ["sweep", "grid.yml", "--workers", "2"])
    assert result.exit_code == 0, result.output
    table = result.output[result.output.index("cell ") :].splitlines()
    assert [line.split()[:2] for line in table] == [
        ["cell", "status"],
        ["name=cable,steps=1", "done"],
        ["name=screw,steps=1", "done"],
    ]
    content = read_json(tmp_path / "_build" / "sweeps" / "grid" / "results.json")
    for cell, name in zip(content["cells"], ("cable", "screw"), strict=True):
        assert cell["values"] == {"name": name, "steps": 1}
        assert cell["results"] == {"said": [name, 1, 0.25]}
        assert cell["provenance"]["threads"] == 1  # whatever the cores
        assert cell["seconds"] == cell["provenance"]["seconds"] > 0
    assert str(tmp_path) not in json.dumps(content)
    assert not (tmp_path / "_build" / "executed").exists(), "a cell is not published"
    runs, remarks = read_runs(tmp_path / "_build" / "sweeps" / "grid")
    assert [runs[name].results["said"][0] for name in runs] == ["cable", "screw"] and not remarks


def test_a_sweep_that_cannot_write_says_so_before_a_cell_begins(tmp_path):
    path = make_sweep(tmp_path, 1)
    (tmp_path / "_build").write_text("in the way")
    with pytest.raises(OSError, match="_build"):
        run_sweep(tmp_path, path, workers=1, execute=execute)
    assert not noted(tmp_path, "begin")


def test_cells_whose_data_are_not_there_fail_without_running(tmp_path, address, monkeypatch):
    path = make_sweep(tmp_path, 1)
    lacking = {"cable": "There is no category 'cable'", "screw": ""}
    monkeypatch.setattr("fmabs_lite.press.plan._lacking", lambda used, own: lacking[own["name"]])
    (cable, screw), _ = run_sweep(tmp_path, path, scheduler=address, execute=execute)
    assert (cable.status, cable.error) == ("failed", "There is no category 'cable'")
    assert screw.status == "done" and [cell for cell, _ in noted(tmp_path, "begin")] == [
        "name=screw,steps=1"
    ]


# --- workers


def test_a_worker_takes_its_gpu(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "get_worker", lambda: SimpleNamespace(name=3))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "unset")
    for gpus, taken in (((), "unset"), (("4", "7"), "7")):
        sweep._take_gpu(gpus)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == taken


def test_gpus_are_named_as_this_process_sees_them(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert sweep.visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    assert sweep.visible_gpus() == ("GPU-a", "GPU-b")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert sweep.visible_gpus() == ()


def test_a_worker_elsewhere_must_see_the_same(repo, monkeypatch):
    chapter = read(repo).cells["name=cable,steps=1"]
    monkeypatch.setattr(sweep, "package_hash", lambda: "another")
    with pytest.raises(CellError, match="the package on .* not those that the sweep began with"):
        sweep.run_cell(chapter)
    shutil.rmtree(repo / "book")
    with pytest.raises(CellError, match="does not see .*01_one.ipynb.*file system.*share"):
        sweep.run_cell(chapter)


def test_without_dask_or_a_scheduler_it_says_what_to_do(repo, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweep, "ANSWER", 0.5)
    with pytest.raises(RunError, match="no Dask scheduler answers at tcp://127.0.0.1:9 .*start"):
        run_sweep(repo, repo / "grid.yml", scheduler="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RunError, match=r"pip install -e '\.\[sweep\]'"):
        run_sweep(repo, repo / "grid.yml", scheduler="tcp://127.0.0.1:9")


def test_a_cell_whose_workers_die_is_told_with_its_folder(repo):
    distributed = pytest.importorskip("distributed")
    error = distributed.KilledWorker("task", "worker", 3)
    chapter = read(repo).cells["name=cable,steps=1"]
    future = SimpleNamespace(status="error", exception=lambda: error)
    outcome = sweep._outcome(future, chapter)
    assert outcome.status == "failed" and str(chapter.folder) in outcome.error
    lost = sweep._outcome(SimpleNamespace(status="cancelled"), chapter)
    assert lost.status == "failed" and "start the sweep again" in lost.error


# --- costs


@pytest.fixture
def any_name(monkeypatch):
    """The tiny chapter's `name` is what the book's `category` is: it makes no difference."""
    monkeypatch.setattr(costs, "SAME_COST", {"name"})


def finish(chapter, seconds: float, resumed: bool = False) -> None:
    """Leave a cell as a run on a GPU does."""
    clear_changed([chapter], force=False)
    measured = {"device": "A GPU", "threads": 1, "resumed": resumed, "seconds": seconds}
    write_json(chapter.folder / "run.json", read_state(chapter) | {"measured": measured})
    chapter.executed.touch()


def test_costs_are_unknown_until_something_is_measured(repo):
    lines = costs.tell_costs(repo, read(repo))
    assert lines[0].split() == ["cell", "state", "seconds"]
    assert lines[1].split()[:4] == ["name=cable,steps=1", "to", "run", "unknown"]
    assert "6 cells: 0 finished, 6 to run." in lines[-2] and "6 of these: unknown" in lines[-1]


def test_costs_of_finished_cells_are_measured_and_others_follow_by_their_steps(repo, any_name):
    found = read(repo)
    chapters = list(found.cells.values())
    finish(chapters[0], 3000)
    finish(chapters[1], 4200)
    finish(chapters[2], 10, resumed=True)
    clear_changed([chapters[3]], force=False)
    with claim(chapters[4].folder):
        lines = [" ".join(line.split()) for line in costs.tell_costs(repo, found)]
    mean = "extrapolated from the mean of 2 finished cell(s)"  # 3000 and 2100 a step
    assert [line.split(" ", 1)[1] for line in lines[1:7]] == [
        "finished 3000 measured",
        "finished 4200 measured",
        "finished 10 measured, its last part only",
        f"begun 2550 {mean}",
        f"running 5100 {mean}",
        f"to run 7650 {mean}",
    ]
    assert lines[7:] == [
        "6 cells: 3 finished, 3 to run.",
        "3 of these: 4.2 hours of one process on A GPU, estimated.",
    ]


def test_a_cell_of_another_configuration_is_said_to_change(repo):
    finish(read(repo).cells["name=cable,steps=1"], 3000)
    path = repo / "grid.yml"
    path.write_text(path.read_text().replace("0.25", "0.75"))
    lines = costs.tell_costs(repo, read(repo))
    assert lines[1].split()[1:3] == ["changed", "unknown"]


def test_costs_come_from_a_whole_run_by_seeds_and_steps(repo):
    chapter = read(repo).cells["name=cable,steps=2"]
    record = repo / "book" / "records" / "01_one.cpu.json"
    record.parent.mkdir()
    whole = {"chapter": "01_one", "profile": "cpu", "data": {}, "versions": {}, "finished": "",
             "device": "cpu", "threads": 2, "resumed": False, "seconds": 30.0}  # fmt: skip

    def cost(rate: float = 0.25, **change) -> costs.Cost:
        parameters = {"steps": 6, "rate": rate, "name": "cable"}
        write_record(record, {**whole, "parameters": parameters, **change}, {"ap": 0.5})
        return costs.cell_cost(repo, read(repo), chapter)

    source = "extrapolated from the record in profile cpu, 0.333 times its seeds and steps"
    assert cost() == costs.Cost(10.0, source, "cpu (2 threads)")
    resumed = cost(resumed=True)
    assert resumed.seconds is None and resumed.source.endswith("went on from a checkpoint")
    other = cost(rate=9.0)
    assert other.seconds is None and other.source == "the record in profile cpu has other values"
    for text in ("{", '{"provenance": {"chapter": "01_one"}, "cells": []}'):
        record.write_text(text)
        assert costs.cell_cost(repo, read(repo), chapter).seconds is None


@pytest.mark.parametrize(
    ("mine", "other", "times"),
    [
        ({"seeds": [0], "steps": 50}, {"seeds": [0, 1, 2], "steps": 100}, 1 / 6),
        ({"category": "cable"}, {"category": "screw"}, 1),
        ({"category": "cable", "size": 256}, {"category": "cable", "size": 128}, None),
        ({"steps": 50}, {"steps": 50, "width": 8}, None),
    ],
)
def test_only_seeds_and_steps_change_a_cost(mine, other, times):
    assert costs.how_many_times(mine, other) == (times and pytest.approx(times))


# --- the command


def call(*arguments: str):
    return CliRunner().invoke(cli.main, ["sweep", *arguments])


def test_the_command_lists_the_cells_and_runs_nothing(repo, monkeypatch):
    monkeypatch.chdir(repo)
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = call("grid.yml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.output.count("to run  ") == 6
    assert not (repo / "_build").exists()


def test_the_command_says_what_is_wrong(repo, monkeypatch):
    monkeypatch.chdir(repo)
    (repo / "grid.yml").write_text("chapter: 01_one\nprofile: quick\ngrid: {stepz: [1]}\n")
    result = call("grid.yml")
    assert result.exit_code == 1
    assert result.output.endswith(
        "\nError: unknown parameter 'stepz' (grid.yml:, chapters 01_one); did you mean steps?\n"
    )
    assert call("nowhere.yml").exit_code == 2
    both = call("grid.yml", "--workers", "2", "--scheduler", "tcp://x:1")
    assert both.exit_code == 2 and "leave out --workers or --scheduler" in both.output
