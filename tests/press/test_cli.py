"""The command line on a tiny book: messages, exit status, tables, pages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_book import ROOT, make_book, make_data

from fmabs_lite.press import build, claims, cli, runner

PRINTS = "print(data, steps, rate, name)"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch, same_package) -> Path:
    make_data(tmp_path)
    make_book(tmp_path, **{"01_one": PRINTS, "02_two": PRINTS})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_kernels(monkeypatch):
    """Copy notebooks instead of executing them; chapter 02 fails while a file `broken` lies by."""

    def execute(chapter, running, held=()) -> str:
        shutil.copy(chapter.notebook, chapter.executed)
        broken = chapter.name == "02_two" and Path("broken").exists()
        return "stopped in cell [1], line 1: `x`: NameError: x" if broken else ""

    monkeypatch.setattr(runner, "execute_chapter", execute)


def call(*arguments: str):
    return CliRunner().invoke(cli.main, list(arguments))


def test_expected_errors_are_one_message_and_no_traceback(repo):
    result = call("run", "--data", "sets", "--set", "stepz=3")
    assert result.exit_code == 1
    assert result.output.endswith(
        "\nError: unknown parameter 'stepz' (--set, chapters 01_one, 02_two); did you mean steps?\n"
    )
    assert "Traceback" not in result.output
    assert call("run", "--data", "nowhere").exit_code == 1
    assert "nowhere" in call("run", "--data", "nowhere").output
    assert call("run", "--set", "steps").exit_code == 2
    assert "--set name=value" in call("run", "--set", "steps").output


@pytest.mark.parametrize("command", [["data"], ["run"], ["data", "--fetch", "dtd", "--dry-run"]])
def test_a_user_without_a_home_is_told_of_the_cache(repo, monkeypatch, command):
    def nobody(number: int):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "FMABS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    result = call(*command)
    assert result.exit_code == 1 and "Error: ~/.cache/fmabs-lite: no home" in result.output
    assert "set FMABS_CACHE to a folder" in result.output


@pytest.mark.parametrize(
    "command",
    [["run", "--data", "~nobody_x/y"], ["data", "--data", "~nobody_x/y"],
     ["data", "--fetch", "dtd", "--dry-run", "--to", "~nobody_x/y"],
     ["data", "--fetch", "dtd", "--dry-run", "--from", "~nobody_x/y"]],
)  # fmt: skip
def test_the_folder_of_a_user_who_is_not_there_is_named(repo, command):
    result = call(*command)
    assert result.exit_code == 1
    assert "Error: ~nobody_x/y: no home folder is known" in result.output


def test_unexpected_errors_keep_their_traceback(repo, monkeypatch):
    def fail(*_):
        raise ValueError("a mistake in the code")

    monkeypatch.setattr(runner, "run", fail)
    assert isinstance(call("run").exception, ValueError)


def test_outside_a_checkout_says_where_to_run(monkeypatch):
    monkeypatch.setattr(cli, "find_repo", lambda: None)
    result = call("run")
    assert result.exit_code == 1 and "inside a checkout of the book" in result.output


def test_run_ends_with_a_table_and_fails_if_a_chapter_failed(repo, no_kernels):
    Path("broken").touch()
    result = call("run", "--data", "sets")
    assert result.exit_code == 1
    table = result.output[result.output.index("chapter  status") :]
    assert [line.split()[:2] for line in table.splitlines()[1:3]] == [
        ["01_one", "done"],
        ["02_two", "failed"],
    ]
    assert "02_two: stopped in cell [1], line 1: `x`: NameError: x" in result.output
    Path("broken").unlink()
    result = call("run", "--data", "sets")
    assert result.exit_code == 0
    assert "01_one   kept" in result.output and "02_two   done" in result.output


def test_a_build_folder_that_cannot_be_written(repo, no_kernels):
    Path("_build").write_text("in the way")
    result = call("run", "--data", "sets")
    assert result.exit_code == 1
    assert "_build" in result.output and "move it away" in result.output
    assert "Traceback" not in result.output


def test_a_full_disk_is_told(repo, no_kernels, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(runner, "write_json", full)
    result = call("run", "--data", "sets")
    assert result.exit_code == 1
    assert "run.json: No space left on device; free some space and run again" in result.output


def test_a_run_tells_where_the_executed_notebooks_are(repo, no_kernels):
    shelf = repo / "_build" / "executed"
    assert call("run", "01_one", "--data", "sets").output.endswith(
        f"Executed: {shelf}/01_one.ipynb\n"
    )
    assert call("run", "--data", "sets").output.endswith(f"Executed: {shelf}\n")
    Path("broken").touch()
    broken = call("run", "02_two", "--force", "--data", "sets")
    assert broken.exit_code == 1 and "Executed" not in broken.output


def test_outside_of_a_checkout_it_says_where_it_works(
    repo, no_kernels, tmp_path_factory, monkeypatch
):
    said = f"Working in {repo}, where this fmabs-lite is installed from.\n"
    for inside in (repo, repo / "book"):
        monkeypatch.chdir(inside)
        assert said not in call("run", "--data", str(repo / "sets")).output
    monkeypatch.setattr(cli, "find_repo", lambda: repo)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    for command in (["run"], ["check"], ["sync"]):
        assert call(*command).output.startswith(said)


def test_the_package_of_another_checkout_is_named(repo, no_kernels, monkeypatch):
    said = f"The book in {repo} is run with the package in {ROOT}.\n"
    assert call("run", "--data", "sets").output.startswith(said)
    monkeypatch.setattr(cli, "__file__", str(repo / "fmabs_lite" / "press" / "cli.py"))
    assert said not in call("run", "--data", "sets").output


@pytest.mark.parametrize("command", [["run", "--minutes"], ["bench", "--seconds"]])
@pytest.mark.parametrize("time", ["nan", "inf"])
def test_a_time_that_does_not_end_is_refused(repo, command, time):
    result = call(*command, time)
    assert result.exit_code == 2 and f"{time} is not a finite number" in result.output


def test_a_value_that_is_set_twice_is_refused(repo):
    result = call("run", "--set", "steps=3", "--set", "steps=4")
    assert result.exit_code == 2 and "--set steps is there twice; leave one out" in result.output


def test_letters_that_a_terminal_lacks_are_written_another_way(repo):
    (repo / "sets").rename(repo / "λ")
    program = "from fmabs_lite.press.cli import main; main(['data', '--data', chr(955)])"
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, capture_output=True,
                          env=os.environ | {"PYTHONIOENCODING": "latin-1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"\u03bb (" in done.stdout


def test_weights_and_records_are_not_written_by_two_at_once(repo, monkeypatch):
    monkeypatch.setattr(claims, "BRIEF", 0.0)
    monkeypatch.setattr(runner, "BRIEF", 0.0)
    (repo / "net.pt").touch()
    for name, command in (
        ("weights", ["weights", str(repo), "net.pt", "one"]),
        ("records/peers.cpu.json", ["peers", "--keep-records"]),
    ):
        with claims.claim(repo / "_build" / name):
            result = call(*command)
        assert result.exit_code == 1 and f"Error: process {os.getpid()} on " in result.output


@pytest.mark.slow
def test_build_makes_pages_once_and_warnings_are_errors(repo, no_kernels):
    index = repo / "book" / "index.md"
    index.write_text("# A tiny book\n\n[nowhere](missing.md)\n")
    result = call("build", "--data", "sets")
    assert result.exit_code == 1
    assert "missing.md" in result.output and "WARNING" in result.output

    index.write_text("# A tiny book\n\n[one](01_one.ipynb)\n")
    (gone := repo / "_build" / "html" / "00_gone.html").write_text("of a chapter that is gone")
    result = call("build", "--data", "sets")
    assert result.exit_code == 0, result.output
    page = repo / "_build" / "html" / "index.html"
    assert f"Open {page}" in result.output
    assert "01_one.html" in page.read_text()
    chapter = page.with_name("01_one.html").read_text()
    assert "colab.research.google.com/github/fmabs-lite" in chapter
    assert "Show code: </span>Parameters</p>" in chapter and "Hide code: Parameters</p>" in chapter
    assert "@title" not in chapter and "Toggle hidden content" not in chapter
    assert result.output.count("  kept  ") == 2 and "pages    done" in result.output
    assert not gone.exists()

    assert call("build", "--data", "sets").output.count("  kept  ") == 3


def test_a_second_build_says_who_is_at_work(repo, no_kernels):
    with claims.claim(repo / "_build" / "html"):
        result = call("build", "--data", "sets")
    assert result.exit_code == 1
    assert f"process {os.getpid()} on " in result.output and "on the pages of" in result.output
    assert not (repo / "_build" / "runs").exists(), "no chapter was begun"


def test_no_page_is_built_when_a_chapter_failed(repo, no_kernels, monkeypatch):
    monkeypatch.setattr(build, "html", lambda repo: pytest.fail("built"))
    Path("broken").touch()
    result = call("build", "--data", "sets")
    assert result.exit_code == 1
    assert "pages    left out" in result.output and "NameError: x" in result.output


def test_keep_records_copies_what_has_results(repo, no_kernels, monkeypatch):
    def execute(chapter, running, held=()) -> str:
        shutil.copy(chapter.notebook, chapter.executed)
        if chapter.name == "01_one":
            (chapter.folder / "results.json").write_text('{"auroc": 0.5}')
        return ""

    monkeypatch.setattr(runner, "execute_chapter", execute)
    assert call("run", "--data", "sets", "--profile", "cpu", "--keep-records").exit_code == 0
    folder = repo / "book" / "records"
    assert [path.name for path in folder.iterdir()] == ["01_one.cpu.json"]
    record = json.loads((folder / "01_one.cpu.json").read_text())
    assert record["results"] == {"auroc": 0.5}
    assert record["provenance"]["threads"] == 1  # whatever the cores
    assert call("run", "--data", "sets", "--profile", "cpu").output.count("kept") == 2


def test_data_tells_what_a_folder_holds(repo):
    result = call("data", "--data", "sets")
    assert result.exit_code == 0
    assert "mvtec        1 files in" in result.output
    assert "ped2         not there; name its folder one of: ucsd_ped2" in result.output


def test_check_prints_findings_and_fails(repo, monkeypatch):
    from fmabs_lite.press import checks

    monkeypatch.setattr(checks, "run_checks", lambda root: [f"{root.name}: a finding"])
    result = call("check")
    assert result.exit_code == 1 and f"{repo.name}: a finding" in result.output
    monkeypatch.setattr(checks, "run_checks", lambda root: [])
    assert call("check").exit_code == 0


def test_check_counts_open_lines(repo):
    result = call("check", "--lines")
    assert result.exit_code == 0
    assert "01_one   1     0     0          1\n" in result.output
    assert "open lines: 2 (at most 3341)" in result.output
    assert call("check", "--lines", "book").exit_code == 2


PLAIN = """
import sys
sys.modules.update(dict.fromkeys(["papermill", "nbformat", "nbclient", "jupyter_client"]))
from fmabs_lite.press.cli import main
main(prog_name="fmabs-lite")
"""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["run"], ["build"], ["check"]])
def test_without_the_tools_of_the_book_a_command_says_what_to_install(arguments):
    done = subprocess.run([sys.executable, "-c", PLAIN, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch(r"Error: the tools of.*pip install 'fmabs-lite\[book\]'\n", done.stderr)


@pytest.mark.slow
def test_without_the_tools_of_the_book_data_are_found_and_fetched(repo):
    for arguments in (["--data", "sets"], ["--fetch", "mvtec", "--dry-run"]):
        command = [sys.executable, "-c", PLAIN, "data", *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and "mvtec" in done.stdout, done.stderr


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "fmabs_lite.press.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Usage:" in done.stdout
