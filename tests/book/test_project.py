"""The files around the package: what installs it, runs it elsewhere and cites it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(name: str):
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def command(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """What `pip install` unpacks where there is no checkout: the contents of a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = command(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob(pattern)}


def test_a_wheel_holds_the_package_and_what_it_reads_of_the_book(site):
    package = contents(site / "fmabs_lite", "*.py")
    assert package == contents(ROOT / "fmabs_lite", "*.py")
    assert {"press/cli.py", "data/fetch/mvtec.py", "lesson/records.py"} <= set(package)
    scripts = contents(site / "fmabs_lite", "*.js")
    assert scripts == contents(ROOT / "fmabs_lite", "*.js")
    named = {f"lesson/live/{name}.js" for name in ("clip", "engine", "paint", "threshold")}
    assert named <= set(scripts)
    assert (site / "fmabs_lite/lesson/live/paint.css").exists()
    book, inside = ROOT / "book", site / "fmabs_lite" / "_book"
    for folder in ("records", "cells"):
        assert contents(inside / folder, "*.json") == contents(book / folder, "*.json") != {}
    read = re.compile(r'\bbook_(?:yaml|path)\("([\w.]+)"\)')
    named = {name for code in package.values() for name in read.findall(code.decode())}
    assert {"records", "paper_tables.yml", "ledger.yml", "open_questions.yml"} <= named
    for name in (named - {"records"}) | {"profiles.yml"}:
        assert (inside / name).read_bytes() == (book / name).read_bytes()


WITHOUT_CHECKOUT = """
from fmabs_lite.lesson import ledger, questions, records
assert records.find_repo() is None
print(records.book_path("profiles.yml"), *records.book_yaml("profiles.yml"))
print(records.load_record("10_draem").profile, records.paper_table("fmabs-4")["doi"])
print(len(questions.read_questions()))
print(records.profile_values("10_draem", "colab")["precision"])
"""


def test_a_chapter_reads_the_book_where_there_is_no_checkout(site, tmp_path):
    away = {**os.environ, "PYTHONPATH": str(site)}
    done = command(sys.executable, "-c", WITHOUT_CHECKOUT, cwd=tmp_path, env=away)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "auto"
    path, *profiles = done.stdout.splitlines()[0].split()
    assert Path(path) == site / "fmabs_lite" / "_book" / "profiles.yml"
    assert profiles == ["quick", "cpu", "colab", "full"]


def test_version_is_the_same_everywhere():
    import fmabs_lite

    assert fmabs_lite.__version__ == version("fmabs-lite") == str(load("CITATION.cff")["version"])


def test_environment_takes_python_and_the_one_extra():
    dependencies = load("environment.yml")["dependencies"]
    *conda, pip = dependencies
    assert [re.split("[<>=]", name)[0] for name in conda] == ["python", "pip"]
    assert pip == {"pip": ["-e .[book]"]}


def test_pip_part_of_the_environment_installs():
    (requirement,) = load("environment.yml")["dependencies"][-1]["pip"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = command(*pip, "install", "--dry-run", "--no-deps", *requirement.split(), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Would install fmabs[-_]lite", done.stdout), done.stdout
    asked = [Requirement(line) for line in requires("fmabs-lite")]
    book = [one for one in asked if not one.marker or one.marker.evaluate({"extra": "book"})]
    assert {"torch", "jupyter-book", "papermill"} <= {one.name for one in book}
    wrong = [str(one) for one in book if not one.specifier.contains(version(one.name), True)]
    assert not wrong


def test_constraints_pin_tools_exactly_and_nothing_that_computes():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    names = {pin.name for pin in pins}
    assert {"jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme", "papermill"} <= names
    core = {Requirement(line).name for line in requires("fmabs-lite") if "extra" not in line}
    assert "torch" in core and not names & (core | {"scikit-learn", "pandas", "ipykernel"})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_valid_and_call_make(path):
    schema = ("--builtin-schema", "vendor.github-workflows")
    done = command(sys.executable, "-m", "check_jsonschema", *schema, path)
    assert done.returncode == 0, done.stdout
    assert "make book" in path.read_text()


def test_both_workflows_exist():
    assert [path.name for path in WORKFLOWS] == ["publish.yml", "test.yml"]


def test_citation_is_valid():
    schema = ("--builtin-schema", "vendor.citation-file-format")
    done = command(sys.executable, "-m", "check_jsonschema", *schema, ROOT / "CITATION.cff")
    assert done.returncode == 0, done.stdout
    assert load("CITATION.cff")["repository-code"] == load("_config.yml")["repository"]["url"]


def test_make_says_when_python_is_too_old_or_absent(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    done = command("make", "book", "PYTHON=false", cwd=tmp_path)
    assert done.returncode != 0
    assert "needs Python 3.10 or newer" in done.stdout
    assert "make PYTHON=python3.12 book" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_make_installs_again_only_when_the_lists_change(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/python", ".venv/book"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    plain = command("make", "-n", "book", cwd=tmp_path).stdout
    assert "pip install" not in plain and "--data" not in plain
    assert 'fmabs-lite build --profile "quick"' in plain
    real = command("make", "-n", "book", "DATA=my sets", "PROFILE=cpu", cwd=tmp_path).stdout
    assert '--profile "cpu" --data "my sets"' in real
    (tmp_path / "constraints.txt").write_text("new")
    assert "pip install" in command("make", "-n", "book", cwd=tmp_path).stdout


def test_the_scripts_for_machines_are_sound():
    assert command("bash", "-n", ROOT / ".ci" / "run").returncode == 0
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_only_the_quick_profile_leaves_rows_out():
    """A profile keeps a notebook's value where it names none, and a record has every row."""
    quick, *others = load("book/profiles.yml").values()
    short = [chapter for chapter, values in quick.items() if values.get("rows") == ["few"]]
    assert len(short) == 6
    for chapter in short:
        assert [values[chapter]["rows"] for values in others] == [["all"]] * 3, chapter
