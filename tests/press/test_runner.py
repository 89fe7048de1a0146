"""The plan (parameters, profiles, what a chapter depends on) and the runs of a tiny book."""

from __future__ import annotations

import asyncio
import errno
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
from jupyter_client.kernelspec import get_kernel_spec
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
from fmabs_lite.lesson.records import read_json
from fmabs_lite.press import kernels, runner
from fmabs_lite.press.claims import BusyError, claim, claimed_by
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
    environment,
    precision_of,
    record_claim,
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
        ([], {"values": {"steps": "3.5"}}, "--set steps: 3.5 is not of type int; write it as 3"),
        ([], {"values": {"steps": "0400"}}, "--set steps: '0400' cannot be read: 0400 is no numbe"),
        ([], {"values": {"steps": "1:30"}}, "--set steps: '1:30' is not of type int"),
        ([], {"values": {"steps": "[3"}}, r"--set steps: '\[3' cannot be read: did not find"),
        ([], {"values": {"rate": ".inf"}}, "--set rate: inf is not a finite number"),
        ([], {"values": {"rate": "inf"}}, "--set rate: 'inf' is not of type float"),
        ([], {"values": {"rate": "nan"}}, "--set rate: 'nan' is not of type float"),
        ([], {"values": {"rate": "true"}}, "--set rate: True is not of type float"),
        ([], {"values": {"data": "/x"}}, "--data DIR"),
        ([], {"values": {"steps": "3"}, "keep_records": True}, "leave out --set"),
    ],
)
def test_a_wrong_request_stops_before_anything_starts(repo, names, asked, message):
    with pytest.raises(RunError, match=message):
        run(repo, names, settings(repo, **asked))
    assert not (repo / "_build").exists()


LISTS = 'seeds = [0]\nrates = [0.1, 0.2]\nparts = []\ncategory = "screw"'
READS_LISTS = "print(seeds, rates, parts, category)"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rates", "[1e-3,1e-2]", [0.001, 0.01]),
        ("rates", "[1, .5]", [1.0, 0.5]),
        ("seeds", "[1_0, 0x10]", [10, 16]),
        ("rates", "[]", []),
        ("parts", "[no, 2026-01-01, 10_draem]", ["no", "2026-01-01", "10_draem"]),
    ],
)
def test_entries_of_a_list_are_read_as_python_reads_them(repo, name, text, value):
    write_chapter(repo, "01_one", READS_LISTS, LISTS)
    (chapter,) = plan(repo, ["01_one"], Settings(values={name: text}))
    assert chapter.overrides == {name: value}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("seeds", "[]", "01_one: seeds .. is empty; name at least one, as in .0."),
        ("seeds", "[010]", "--set seeds: '.010.' cannot be read: 010 is no number in Python"),
        ("seeds", "[1:30]", r"--set seeds\[0\]: '1:30' is not of type int"),
        ("seeds", "[0, 1, 1]", "01_one: seeds .0, 1, 1. has an entry twice"),
        ("seeds", "3", r"--set seeds: 3 is not of type list; write it as \[0\]"),
        ("rates", "[0.1, .nan]", r"--set rates\[1\]: nan is not a finite number"),
        ("rates", "[low]", r"--set rates\[0\]: 'low' is not of type float"),
    ],
)
def test_a_list_whose_entries_are_wrong_is_refused(repo, name, text, message):
    write_chapter(repo, "01_one", READS_LISTS, LISTS)
    with pytest.raises(RunError, match=message):
        plan(repo, ["01_one"], Settings(values={name: text}))


def test_a_category_that_is_not_there_is_refused_before_a_kernel_starts(repo, monkeypatch):
    (repo / "sets" / "mvtec" / "screw" / "train").mkdir()
    reads = "from fmabs_lite.data.folder import open_data\nopen_data(data).mvtec, category"
    write_chapter(repo, "01_one", reads, 'data = ""\ncategory = "screw"')
    monkeypatch.setattr(runner, "execute_chapter", lambda *_, **held: "began")
    with pytest.raises(RunError, match="01_one: There is no category 'scrw'.*screw"):
        run(repo, ["01_one"], settings(repo, values={"category": "scrw"}))
    assert not (repo / "_build").exists()
    (outcome,) = run(repo, ["01_one"], settings(repo))
    assert outcome.error == "began"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu:\n  01_one: {steps: 0400}", "0400 is no number in Python"),
        ("cpu:\n  01_one: {steps: 4}\n  01_one: {rate: 1.0}", "'01_one' stands here twice"),
        ("cpu:\n  01_one: {steps: 1:30}", "'1:30' is not of type int"),
    ],
)
def test_numbers_in_a_profile_are_pythons(repo, text, message):
    (repo / "book" / "profiles.yml").write_text(text)
    with pytest.raises(RunError, match=message):
        plan(repo, [], settings(repo, profile="cpu"))


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


# --- what a chapter runs in


def test_the_threads_of_a_run_are_its_profiles_and_part_of_its_configuration(repo, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setattr("fmabs_lite.press.plan.THREADS", {"full": 5})
    for profile, threads in (("quick", 1), ("cpu", 1), ("full", 5)):
        (chapter,) = plan(repo, ["01_one"], settings(repo, profile=profile))
        assert chapter.provenance["threads"] == threads
        env = environment(chapter)
        assert {env[name] for name in runner.THREADS} == {str(threads)}
    first = configuration(repo)
    monkeypatch.setattr("fmabs_lite.press.plan.THREADS", {"quick": 2})
    assert configuration(repo) != first


def test_another_python3_kernel_in_front_is_not_taken(tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    other = {"argv": ["/other/python"], "display_name": "Python 3", "language": "python"}
    spec.write_text(json.dumps(other))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert get_kernel_spec("python3").argv == ["/other/python"], "Jupyter would take it"
    manager = kernels.manager_class([])(kernel_name="python3")
    assert manager.kernel_spec.argv[0] == sys.executable
    assert manager.format_kernel_cmd()[:3] == [sys.executable, "-m", "ipykernel_launcher"]


def test_a_readers_start_up_files_and_another_checkout_are_not_taken(repo, monkeypatch):
    monkeypatch.setenv("PYTHONSTARTUP", "mine.py")
    monkeypatch.setenv("PYTHONPATH", "/other/checkout")
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    env = environment(chapter)
    assert "PYTHONSTARTUP" not in env and Path(env["IPYTHONDIR"]).parent == chapter.folder
    assert env["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/other/checkout"]


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    sys.platform != "linux" or HUGE.exists() and "[always]" in HUGE.read_text(),
    reason="counts small pages of glibc's malloc",
)
def test_a_kernel_keeps_the_memory_of_a_tensor_for_the_next(repo, monkeypatch):
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")  # as Dask's workers have it
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    program = """if True:
        import resource, torch
        torch.set_num_threads(1)
        faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for step in range(100):
            if step == 50:
                before = faults()
            torch.ones(1 << 20)  # 4 MiB
        print((faults() - before) / 50)"""

    def pages_new_in_a_step(env):
        done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert pages_new_in_a_step(dict(os.environ)) > 900
    assert pages_new_in_a_step(environment(chapter)) < 100


def test_a_user_without_a_home_has_one_while_a_chapter_runs(repo, monkeypatch):
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    monkeypatch.setenv("HOME", "/home/ann")
    assert environment(chapter)["HOME"] == "/home/ann"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert environment(chapter)["HOME"] == str(chapter.folder)


def test_a_relative_cache_is_the_same_folder_for_the_kernel(repo, monkeypatch):
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    monkeypatch.chdir(repo)
    for cache, place in (("mine", repo / "mine"), ("~/mine", Path.home() / "mine")):
        monkeypatch.setenv("FMABS_CACHE", cache)
        assert environment(chapter)["FMABS_CACHE"] == str(place)


def test_a_run_states_what_its_kernel_computed_with(repo, monkeypatch):
    said = {"versions": {"torch": "0"}, "device": "A GPU", "threads": 3}

    def execute(chapter, running) -> str:
        records.write_json(chapter.folder / "results.json", {"ap": 0.5})
        records.write_json(chapter.folder / records.KERNEL, said)
        return ""

    (chapter,) = plan(repo, ["01_one"], settings(repo))
    clear_changed([chapter], force=False)
    runner.run_one(chapter, set(), execute)
    whole = runner.whole_provenance(chapter)
    assert {name: whole[name] for name in said} == said


# --- two at once


def test_what_never_ran_comes_first_from_the_end_on_then_the_long_ones(repo):
    chapters = plan(repo, [], settings(repo))
    names = [chapter.name for chapter in chapters]
    assert [chapter.name for chapter in runner.long_ones_first(chapters)] == names[::-1]
    clear_changed(chapters, force=False)
    for chapter, seconds in zip(chapters[:2], (9.0, 4.0), strict=True):
        records.write_json(chapter.folder / "run.json", {"seconds": seconds})
    ordered = [chapter.name for chapter in runner.long_ones_first(chapters)]
    assert ordered == [*names[:1:-1], *names[:2]]


def test_a_second_run_of_a_chapter_says_who_is_at_work_on_it(repo, monkeypatch):
    monkeypatch.setattr(runner, "PATIENCE", 0.0)
    monkeypatch.setattr(runner, "execute_chapter", lambda *_, **held: "began")
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    clear_changed([chapter], force=False)
    (chapter.folder / "results.json").write_text('{"first": 1}')
    with claim(chapter.folder):
        who = f"process {os.getpid()} on .* is at work on 01_one in profile quick; wait"
        for names in (["01_one"], []):
            with pytest.raises(BusyError, match=who):
                run(repo, names, settings(repo, force=True))
        assert read_json(chapter.folder / "results.json") == {"first": 1}, "nothing was wiped"
        (other,) = run(repo, ["02_two"], settings(repo))
        assert other.error == "began"
    assert run(repo, ["01_one"], settings(repo))[0].error == "began"


def test_a_chapter_stays_claimed_while_its_process_lives(repo, monkeypatch):
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    seen = []

    def execute(chapter, running, held) -> str:
        os.fstat(held[0])  # an open file, which the process of the chapter is given
        seen.append(claimed_by(chapter.folder))
        return "stopped here"

    monkeypatch.setattr(runner, "execute_chapter", execute)
    run(repo, ["01_one"], settings(repo))
    assert seen[0].startswith(f"process {os.getpid()} on ") and not claimed_by(chapter.folder)


def test_where_a_file_system_keeps_no_locks_a_chapter_runs_and_it_is_said(
    repo, monkeypatch, capsys
):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    monkeypatch.setattr(runner, "execute_chapter", lambda *_, held: f"began with {held}")
    outcomes = run(repo, [], settings(repo))
    assert [outcome.error for outcome in outcomes] == ["began with ()"] * 2
    assert capsys.readouterr().err.count("keeps no locks: start one of these at a time.") == 1


def test_a_record_that_somebody_writes_is_not_written_meanwhile(repo, monkeypatch):
    monkeypatch.setattr(runner, "BRIEF", 0.0)
    with record_claim(repo, "01_one.cpu.json") as target:
        assert target == repo / "book" / "records" / "01_one.cpu.json"
        with pytest.raises(BusyError, match="is at work on the record 01_one.cpu.json; wait"):
            with record_claim(repo, "01_one.cpu.json"):
                pass


def test_records_that_cannot_be_written_are_refused_before_the_run(repo, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(runner, "execute_chapter", lambda *_, **held: pytest.fail("began"))
    with pytest.raises(RunError, match="records cannot be written, so no record can be kept"):
        run(repo, ["01_one"], settings(repo, keep_records=True))


# --- runs, with kernels


@pytest.mark.slow
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
    assert results["threads"] == ["1", 1], "of profile quick, whatever the cores"

    sound, fragile = run(repo, (), asked)
    assert (sound.status, fragile.status) == ("kept", "done"), fragile.error
    assert json.loads((folder / "02_fragile" / "results.json").read_text()) == {"seen": True}
    measured = json.loads((folder / "02_fragile" / "run.json").read_text())["measured"]
    assert measured["resumed"] is True and measured["threads"] == 1
    assert measured["versions"] == records.versions()

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


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("os.kill(os.getpid(), 9)", "its process was killed (SIGKILL), by somebody or for want"),
        (
            "sys.stderr.write('Parent appears to have exited'); os.kill(os.getpid(), 15)",
            "(SIGTERM)",
        ),
        ("sys.exit('no module named x')", "no module named x. The notebook"),
        ("sys.exit('no module x\\nParent appears to have exited, so')", "no module x. The noteboo"),
        ("print('its kernel did not start'); sys.exit('no home\\nError occurred while starting new "
         "kernel client')", "its kernel did not start: no home. The notebook"),
        ("sys.stdout.buffer.write('at λ'.encode()); sys.exit(1)", "at λ. The notebook"),
    ],
)  # fmt: skip
def test_what_ended_a_chapters_process_is_told(repo, monkeypatch, code, told):
    program = repo / "program"
    program.write_text(f"#!{sys.executable}\nimport os, sys\n{code}\n")
    program.chmod(0o755)
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    monkeypatch.setattr(runner.sys, "executable", str(program))
    problem = runner.execute_chapter(chapter, set())
    assert told in problem and str(chapter.executed) in problem


def test_a_chapters_own_error_is_seen_where_the_terminal_has_no_greek(repo, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    (chapter,) = plan(repo, ["01_one"], settings(repo))
    done = subprocess.run([sys.executable, "-c", "print(chr(955))"], env=environment(chapter),
                          capture_output=True)  # fmt: skip
    assert done.stdout.decode("utf-8").strip() == "\u03bb", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "status"), [("quick", "stopped"), ("colab", "ended")])
def test_a_cell_that_hangs_ends_in_quick_only(tmp_path, monkeypatch, profile, status):
    repo = make_book(tmp_path, **{"01_slow": "import time; time.sleep(6)\nprint(data)"})
    folder = repo / "_build" / "runs" / profile / "01_slow"
    folder.mkdir(parents=True)
    monkeypatch.setattr(runner, "LONGEST", 3)
    target = str(folder / "01_slow.ipynb")
    problem = runner.work(str(repo / "book" / "01_slow.ipynb"), target, "{}", profile)
    assert ("did not end within 3 s" in problem) == (status == "stopped"), problem
    cells = nbformat.read(target, as_version=4).cells
    assert any(cell.get("execution_count") for cell in cells), "kept as far as it got"


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


@pytest.mark.slow
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
    for asked, expected in (
        (None, whole), ([], whole), (["all"], whole), (["few"], whole), (["a"], [*whole[:3], "r"])
    ):
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


@pytest.mark.slow
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
