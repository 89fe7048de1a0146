"""The plan (parameters, profiles, what a chapter depends on) and the runs of a tiny book."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty

import nbformat
import pytest
import zmq
from jupyter_client.channels import AsyncZMQSocketChannel
from tiny_book import (
    FRAGILE,
    PARAMETERS,
    ROOT,
    SOUND,
    alive,
    make_book,
    make_data,
    write_chapter,
)

from fmabs_lite.data.folder import DataError
from fmabs_lite.lesson import records
from fmabs_lite.press import kernels, runner
from fmabs_lite.press.plan import (
    RunError,
    Settings,
    package_hash,
    parameter_defaults,
    plan,
    read_notebook,
)
from fmabs_lite.press.runner import (
    as_asked,
    clear_changed,
    commit_of,
    cores,
    precision_of,
    run,
)

READS_ALL = "print(data, steps, rate, name)"


@pytest.fixture
def repo(tmp_path: Path, same_package) -> Path:
    make_data(tmp_path)
    return make_book(tmp_path, **{"01_one": READS_ALL, "02_two": READS_ALL})


def settings(repo: Path, **others) -> Settings:
    return Settings(data=str(repo / "sets"), **others)


def configuration(repo: Path, **others) -> str:
    return plan(repo, ["01_one"], settings(repo, **others))[0].configuration


# --- parameters


def test_values_come_from_notebook_profile_and_command_line(repo):
    (repo / "book" / "profiles.yml").write_text(
        "quick: {}\ncpu:\n  01_one: {steps: 7, rate: 1e-2, name: cable}\n"
    )
    one, two = plan(repo, [], settings(repo, profile="cpu", values={"name": "12", "steps": "9"}))
    data = str(repo / "sets")
    assert one.overrides == {"data": data, "steps": 9, "rate": 0.01, "name": "12"}
    assert two.overrides == {"data": data, "steps": 9, "name": "12"}
    assert one.provenance["parameters"] == {"steps": 9, "rate": 0.01, "name": "12"}


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (["01_noe"], {}, "unknown chapter '01_noe' .*_toc.yml.*did you mean 01_one"),
        ([], {"profile": "qiuck"}, "unknown profile 'qiuck' .*profiles.yml.*quick"),
        ([], {"values": {"stesp": "3"}}, "unknown parameter 'stesp' .*--set.*steps"),
        ([], {"values": {"steps": "three"}}, "--set steps: 'three' is not of type int"),
        ([], {"values": {"steps": "3.5"}}, "--set steps: 3.5 is not of type int"),
        ([], {"values": {"rate": "true"}}, "--set rate: True is not of type float"),
        ([], {"values": {"data": "/x"}}, "--data DIR"),
        ([], {"values": {"steps": "3"}, "keep_records": True}, "leave out --set"),
    ],
)
def test_a_wrong_request_stops_before_anything_starts(repo, names, asked, message):
    with pytest.raises(RunError, match=message):
        run(repo, names, settings(repo, **asked))
    assert not (repo / "_build").exists()


def test_profiles_are_checked(repo):
    path = repo / "book" / "profiles.yml"
    path.write_text("quick:\n  01_one: {stpes: 3}\n")
    with pytest.raises(RunError, match="'stpes' .*quick in book/profiles.yml, chapter 01_one"):
        plan(repo, [], settings(repo))
    path.write_text("quick:\n  03_one: {steps: 3}\n")
    with pytest.raises(RunError, match="unknown chapter '03_one' .*profiles.yml"):
        plan(repo, [], settings(repo))
    path.write_text("quick: {\n")
    with pytest.raises(RunError, match="profiles.yml is not valid YAML"):
        plan(repo, [], settings(repo))


def test_a_parameter_that_no_later_cell_reads_is_an_error(repo):
    write_chapter(repo, "01_one", "steps = 1\nprint(data, rate, 'name', f'{steps}')")
    with pytest.raises(RunError, match="01_one: parameter name is never read"):
        plan(repo, [], settings(repo))


def test_parameter_cells(repo):
    def defaults(code: str, parameters: str = PARAMETERS) -> dict:
        write_chapter(repo, "01_one", code, parameters)
        return parameter_defaults(read_notebook(repo / "book" / "01_one.ipynb"), "01_one")

    magic = "%matplotlib inline\nif True:\n    !ls\n    %pip list\n"
    assert defaults(f"{magic}{READS_ALL}") == {"data": "", "steps": 3, "rate": 0.5, "name": "screw"}
    assert defaults("print(a, b)", "a: int = -1\nb = (1, 2)") == {"a": -1, "b": (1, 2)}
    with pytest.raises(RunError, match="default of a is not a plain value"):
        defaults("print(a)", "a = max(1, 2)")
    with pytest.raises(RunError, match="line 2 of the parameters cell assigns no value"):
        defaults("print(a)", "a = 1\nprint(a)")
    with pytest.raises(RunError, match="line 2 is not Python"):
        defaults("print(a)\nif", "a = 1")


def test_missing_and_damaged_files_are_named(repo):
    (repo / "book" / "01_one.ipynb").write_text('{"cells": [')
    with pytest.raises(RunError, match="01_one.ipynb is not a notebook"):
        plan(repo, [], settings(repo))
    (repo / "book" / "01_one.ipynb").unlink()
    with pytest.raises(RunError, match="01_one.ipynb is missing"):
        plan(repo, [], settings(repo))
    with pytest.raises(DataError, match="nowhere"):
        plan(repo, ["02_two"], Settings(data=str(repo / "nowhere")))


# --- what a chapter depends on


def test_the_configuration_changes_with_what_it_depends_on(repo):
    first = configuration(repo)
    assert configuration(repo) == first
    assert configuration(repo, values={"steps": "4"}) != first
    picture = repo / "sets" / "mvtec" / "screw" / "000.png"
    os.utime(picture, (1, 1))
    touched = configuration(repo)
    assert touched != first
    write_chapter(repo, "02_two", f"1\n{READS_ALL}")
    assert configuration(repo) == touched, "another chapter is no part of it"
    write_chapter(repo, "01_one", f"1\n{READS_ALL}")
    assert configuration(repo) != touched


def test_the_configuration_changes_with_the_records_it_reads(repo):
    write_chapter(repo, "01_one", f"load_record('02_two')\n{READS_ALL}")
    first = configuration(repo)
    folder = repo / "book" / "records"
    folder.mkdir()
    (folder / "01_one.quick.json").write_text("{}")
    (folder / "03_three.cpu.json").write_text("{}")
    assert configuration(repo) == first, "neither its own record nor one that it does not read"
    (folder / "02_two.cpu.json").write_text("{}")
    assert configuration(repo) != first


def test_the_package_counts_without_its_tools(tmp_path):
    counts = {"metrics.py": True, "lesson/study.py": True, "press/checks/prose.py": False}
    for name in counts:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    first = package_hash(tmp_path)
    for name, counted in counts.items():
        (tmp_path / name).write_text("2")
        assert (package_hash(tmp_path) != first) == counted, name
        (tmp_path / name).write_text("1")


def test_checkpoints_stay_until_the_configuration_changes(repo):
    chapters = plan(repo, ["01_one"], settings(repo))
    clear_changed(chapters, force=False)
    checkpoint = chapters[0].folder / "checkpoints"
    checkpoint.mkdir()
    clear_changed(plan(repo, ["01_one"], settings(repo)), force=False)
    assert checkpoint.exists()
    clear_changed(plan(repo, ["01_one"], settings(repo)), force=True)
    assert not checkpoint.exists()
    checkpoint.mkdir()
    clear_changed(plan(repo, ["01_one"], settings(repo, values={"steps": "4"})), force=False)
    assert not checkpoint.exists()


# --- runs, with kernels


def test_failing_resuming_skipping_and_running_again(tmp_path, monkeypatch, same_package):
    make_data(tmp_path)
    repo = make_book(tmp_path, **{"01_sound": SOUND, "02_fragile": FRAGILE})
    monkeypatch.setenv("MPLBACKEND", "Agg")
    asked = settings(repo, values={"steps": "4"}, jobs=2)

    sound, fragile = run(repo, (), asked)
    assert (sound.status, fragile.status) == ("done", "failed")
    assert sound.seconds > 0
    assert 'stopped in cell [3], line 9: `raise KeyError("no cable")`' in fragile.error
    folder = repo / "_build" / "runs" / "quick"
    assert str(folder / "02_fragile" / "02_fragile.ipynb") in fragile.error
    assert "no cable" in (folder / "02_fragile" / "02_fragile.ipynb").read_text()
    assert not (repo / "_build" / "executed" / "02_fragile.ipynb").exists()
    results = json.loads((folder / "01_sound" / "results.json").read_text())
    assert len(results["draws"]) == 4 and results["files"] == ["000.png"]
    threads = max(1, cores() // 2)
    assert results["threads"] == [str(threads), threads]

    sound, fragile = run(repo, (), asked)
    assert (sound.status, fragile.status) == ("kept", "done"), fragile.error
    assert json.loads((folder / "02_fragile" / "results.json").read_text()) == {"seen": True}
    measured = json.loads((folder / "02_fragile" / "run.json").read_text())["measured"]
    assert measured["resumed"] is True and measured["threads"] == threads

    (again,) = run(repo, ["01_sound"], settings(repo, values={"steps": "4"}, jobs=2, force=True))
    assert again.status == "done"
    again = json.loads((folder / "01_sound" / "results.json").read_text())
    assert again["draws"] == results["draws"], "fixed seed: the same numbers"

    notebook = nbformat.read(repo / "_build" / "executed" / "01_sound.ipynb", 4)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert [kind for kind in tags if "remove-cell" in kind] == [
        ["injected-parameters", "remove-cell"]
    ]
    assert "papermill" not in notebook.metadata
    assert notebook.cells[-1].outputs[-1].text.startswith("tensor")


@pytest.mark.parametrize(("profile", "status"), [("quick", "stopped"), ("colab", "ended")])
def test_a_cell_that_hangs_ends_in_quick_only(tmp_path, monkeypatch, profile, status):
    repo = make_book(tmp_path, **{"01_slow": "import time; time.sleep(6)\nprint(data)"})
    folder = repo / "_build" / "runs" / profile / "01_slow"
    folder.mkdir(parents=True)
    monkeypatch.setattr(runner, "LONGEST", 3)
    target = str(folder / "01_slow.ipynb")
    problem = runner.work(str(repo / "book" / "01_slow.ipynb"), target, "{}", profile)
    assert ("did not end within 3 s" in problem) == (status == "stopped"), problem


def test_a_message_that_wakes_nobody_is_read_all_the_same(tmp_path, monkeypatch):
    """An event loop that looks for messages at its time-outs only, and never is woken by one."""

    async def deaf(self, timeout=None):
        await asyncio.sleep(3600 if timeout is None else timeout)
        if not self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            raise Empty
        return await self._recv()

    monkeypatch.setattr(AsyncZMQSocketChannel, "get_msg", deaf)
    monkeypatch.setattr(kernels, "LOOK", 0.2)
    monkeypatch.setattr(runner, "LONGEST", 30)
    repo = make_book(tmp_path, **{"01_one": "print(data)"})
    folder = repo / "_build" / "runs" / "quick" / "01_one"
    folder.mkdir(parents=True)
    target = str(folder / "01_one.ipynb")
    assert runner.work(str(repo / "book" / "01_one.ipynb"), target, "{}", "quick") == ""


@pytest.mark.parametrize("timeout", [0, 0.3])
def test_a_channel_waits_as_long_as_it_is_asked_to(monkeypatch, timeout):
    asked = []

    async def nothing(self, timeout=None):
        asked.append(timeout)
        await asyncio.sleep(timeout)
        raise Empty

    monkeypatch.setattr(AsyncZMQSocketChannel, "get_msg", nothing)
    monkeypatch.setattr(kernels, "LOOK", 0.1)
    channel, start = kernels.Channel.__new__(kernels.Channel), time.monotonic()
    with pytest.raises(Empty):
        asyncio.run(channel.get_msg(timeout))
    assert time.monotonic() - start >= timeout and max(asked) <= 0.1
    assert len(asked) <= 1 + timeout / 0.1 + 1


def test_a_killed_run_leaves_no_process_and_goes_on(tmp_path, monkeypatch):
    make_data(tmp_path)
    slow = FRAGILE.replace('raise KeyError("no cable")', "time.sleep(100)")
    repo = make_book(tmp_path, **{"01_slow": slow})
    command = f"from fmabs_lite.press.cli import main; main(['run', '--data', '{repo / 'sets'}'])"
    process = subprocess.Popen([sys.executable, "-c", command], cwd=repo)
    mark = repo / "_build" / "runs" / "quick" / "01_slow" / "checkpoints" / "mark"
    wait_for(lambda: mark.exists() and mark.read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not alive(int(mark.read_text())))

    (outcome,) = run(repo, (), settings(repo, keep_records=True))
    assert outcome.status == "done", outcome.error
    monkeypatch.chdir(repo)
    record = records.load_record("01_slow", "quick")
    assert record.results == {"seen": True}
    assert record.parameters == {"steps": 3, "rate": 0.5, "name": "screw"}
    text = (repo / "book" / "records" / "01_slow.quick.json").read_text()
    assert str(tmp_path) not in text and str(Path.home()) not in text


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def test_the_first_record_is_made_without_the_cells_that_open_with_it(tmp_path):
    make_book(tmp_path, ch=SOUND)
    source = tmp_path / "book" / "ch.ipynb"
    content = json.loads(source.read_text())
    content["cells"][2]["metadata"]["tags"] = ["opening"]
    source.write_text(json.dumps(content))

    def cells(profile: str) -> int:
        return len(as_asked(source, profile, {}).cells)

    assert (cells("quick"), cells("cpu")) == (3, 2)
    (tmp_path / "book" / "records").mkdir()
    (tmp_path / "book" / "records" / "ch.cpu.json").write_text("{}")
    assert cells("cpu") == 3


def test_a_run_of_some_rows_ends_where_they_are_kept(tmp_path):
    make_book(tmp_path, ch="keep()")
    source = tmp_path / "book" / "ch.ipynb"
    content = json.loads(source.read_text())
    opening, rows, rest = (dict(content["cells"][2], id=name) for name in ("o", "r", "x"))
    opening["metadata"], rows["metadata"] = {"tags": ["opening"]}, {"tags": ["fold", "rows"]}
    content["cells"] += [opening, rows, rest]
    source.write_text(json.dumps(content))
    whole = ["title", "parameters", "work", "o", "r", "x"]
    for asked, expected in ((None, whole), ([], whole), (["a"], [*whole[:3], "r"])):
        cells = as_asked(source, "quick", {"rows": asked}).cells
        assert [cell.id for cell in cells] == expected


TRAINS = """\
import os, torch
from pathlib import Path
from fmabs_lite.lesson.records import keep
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.training import fit
print(data, rate, name)
if not Path(os.environ["FMABS_RUN_DIR"], "checkpoints").exists():
    os.environ["FMABS_UNTIL"] = "1"  # time is over in the middle of the first run's training
torch.manual_seed(0)
images = torch.randint(0, 256, (4, 3, 16, 16)).byte()
keep(losses=fit(Reconstruction(AutoEncoder(width=4, code=4)), images, steps=steps,
                batch_size=2, checkpoint="net"))"""


def test_a_run_out_of_time_stops_at_a_checkpoint_and_the_next_goes_on(tmp_path):
    make_data(tmp_path)
    repo = make_book(tmp_path, **{"01_one": TRAINS})
    (first,) = run(repo, settings=settings(repo))
    assert first.status == "stopped" and "net stopped after step 1; run again" in first.error
    (second,) = run(repo, settings=settings(repo))
    folder = repo / "_build" / "runs" / "quick" / "01_one"
    state = records.read_json(folder / "run.json")
    assert second.status == "done" and second.seconds > first.seconds  # of both parts
    assert state["measured"]["resumed"] and "spent" not in state
    losses = records.read_json(folder / "results.json")["losses"]
    (again,) = run(repo, settings=settings(repo, force=True, values={"steps": "3"}))
    assert len(losses) == 3 and again.status == "stopped"


def test_no_chapter_is_begun_when_time_is_over(repo):
    outcomes = run(repo, settings=settings(repo, minutes=0))
    assert [outcome.status for outcome in outcomes] == ["stopped"] * len(outcomes)
    assert outcomes[0].error == "not begun" and "FMABS_UNTIL" not in os.environ


def test_a_run_names_its_commit(tmp_path):
    assert commit_of(tmp_path) == ""  # no repository
    known = r"[0-9a-f]{12}\+?" if (ROOT / ".git").exists() else ""
    assert re.fullmatch(known, commit_of(ROOT))


def test_a_run_names_the_precision_that_the_machine_chose(repo, monkeypatch):
    monkeypatch.setattr("fmabs_lite.training.chosen_precision", lambda name, device: "fp16")
    chapter = plan(repo, ["01_one"], settings(repo))[0]
    assert precision_of(chapter) == {}
    for named, found in (("bf16", {}), ("auto", {"precision": "fp16"})):
        chapter.provenance["parameters"]["precision"] = named
        assert precision_of(chapter) == found
