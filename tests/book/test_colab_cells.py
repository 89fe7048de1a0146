"""The cells of chapter 00 for a reader on Colab, run with a Drive and a server on this machine."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shlex
import sys
import tarfile
import threading
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distributions, requires
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from packaging.requirements import Requirement

from fmabs_lite.data import MVTecAD, open_data
from fmabs_lite.data.fetch import SOURCES
from fmabs_lite.data.fetch.archive import Archive
from fmabs_lite.lesson.records import RecordError, keep, load_record, profile_values, read_json
from fmabs_lite.models import AutoEncoder, Reconstruction
from fmabs_lite.press import cli
from fmabs_lite.press.checks import chapter_files
from fmabs_lite.press.checks.notebook import Notebook
from fmabs_lite.press.plan import parameter_defaults, read_notebook
from fmabs_lite.training import fit

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = chapter_files(ROOT)
MOUNT = "/content/drive"  # where Colab mounts it, and its users expect it


def cells() -> list[str]:
    """The blocks of the section that a reader pastes, in order."""
    texts = [cell.source for cell in Notebook.read(CHAPTERS[0]).markdown()]
    (section,) = [text for text in texts if text.startswith("## On Colab")]
    return re.findall(r"^```(?:python)?\n(.*?)^```$", section, flags=re.S | re.M)


class Served(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def screw(tmp_path, monkeypatch):
    """A tiny screw on a server of this machine, in place of MVTec's; returns what it was asked."""
    folder = tmp_path / "server" / "screw"
    bad = ("test/scratch_head/000", "ground_truth/scratch_head/000_mask")
    for k, name in enumerate(("train/good/000", "train/good/001", "test/good/000", *bad)):
        (path := folder / f"{name}.png").parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(k).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        if "mask" in name:
            picture[:, :20] = 0  # half of it is no defect
        assert cv2.imwrite(str(path), picture)
    with tarfile.open(packed := folder.with_suffix(".tar.xz"), "w:xz") as tar:
        tar.add(folder, "screw")
    handler = partial(Served, directory=str(packed.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, content = [], packed.read_bytes()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        one = Archive(
            packed.name, (f"http://127.0.0.1:{server.server_port}/{packed.name}",),
            hashlib.sha256(content).hexdigest(), len(content),
        )  # fmt: skip
        monkeypatch.setattr(SOURCES["mvtec"], "contents", {one: ("screw",)})
        monkeypatch.setattr(SOURCES["mvtec"], "counts", {"screw": (2, 2)})
        yield server.asked
        server.shutdown()


@pytest.fixture
def paste(tmp_path, monkeypatch):
    """Runs all cells as a fresh notebook would, on a Drive that stays; returns its names."""
    mounted = []
    drive = ModuleType("google.colab.drive")
    drive.mount = mounted.append
    colab = ModuleType("google.colab")
    colab.drive = drive
    for name, module in (("google", ModuleType("google")), ("google.colab", colab)):
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("FMABS_CACHE", "FMABS_RUN_DIR"):
        monkeypatch.setenv(name, "")  # so that what the cells set is taken back

    def run() -> dict:
        names = parameter_defaults(read_notebook(ROOT / "book" / "10_draem.ipynb"), "10_draem")
        for cell in cells():
            assert all(len(line) <= 76 for line in cell.splitlines())
            cell = cell.replace(MOUNT, str(tmp_path / "drive"))
            if not cell.startswith("!"):
                exec(cell, names)
                continue
            program, *arguments = shlex.split(cell[1:])
            assert program == "fmabs-lite"
            done = CliRunner().invoke(cli.main, arguments)
            assert done.exit_code == 0, done.output
        assert mounted.pop() == str(tmp_path / "drive")
        return names

    return run


def test_the_cells_keep_data_checkpoints_and_results_on_the_drive(paste, screw, tmp_path):
    names, drive = paste(), tmp_path / "drive" / "MyDrive"
    assert names["size"] == profile_values("10_draem", "colab")["size"] == 256
    assert names["category"] == "screw" and names["weight"] == 1.0  # what the profile leaves
    assert screw.count("/screw.tar.xz") == len(screw) == 1
    part = MVTecAD(open_data(names["data"]).mvtec, names["category"], size=32)
    assert drive in part.folder.parents

    def trained():
        torch.manual_seed(0)
        detector = Reconstruction(AutoEncoder(width=4, code=4))
        losses = fit(detector, part.train.images, steps=3, batch_size=2, checkpoint="teacher-0")
        return losses, detector.state_dict()

    (losses, weights), folder = trained(), Path(os.environ["FMABS_RUN_DIR"])
    keep(rows={"plain": [1.0]})
    assert drive in folder.parents and read_json(folder / "results.json")["rows"]
    assert (folder / "checkpoints" / "teacher-0.pt").exists()

    # The machine is gone, the Drive is not: nothing is fetched or trained a second time.
    assert paste()["data"] == names["data"] and len(screw) == 1
    torch.manual_seed(1)
    again, same = trained()
    assert again == losses and all(torch.equal(weights[key], same[key]) for key in weights)


def test_a_folder_of_results_without_a_run_is_no_run_of_the_book(paste, screw):
    paste()
    keep(rows={"plain": [1.0]})
    assert load_record("10_draem").profile == "cpu"
    with pytest.raises(RecordError, match="there is no record of chapter 00_start_here"):
        load_record("00_start_here")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_takes_the_profiles_values(path):
    own = parameter_defaults(read_notebook(path), path.stem)
    for profile in ("quick", "cpu", "colab", "full"):
        assert set(profile_values(path.stem, profile)) <= set(own)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_chapter_takes_them_by_itself(path):
    """Papermill puts its values right below the parameters cell: these would win over them."""
    assert not any("profile_values" in cell.source for cell in Notebook.read(path).code())


# Pillow comes with torchvision, urllib3 with requests, IPython with any notebook. timm is of the
# extra [weights], which the set-up cell of a chapter that needs it installs.
ALSO_THERE = {"PIL", "urllib3", "IPython"}
PLAIN = {
    Requirement(line).name.lower() for line in requires("fmabs-lite") if "extra ==" not in line
}


@cache
def brought() -> dict[str, set[str]]:
    """Module -> packages, by the lists of files of all of them.

    Python 3.10 has `packages_distributions`, but it knows those with a top_level.txt only.
    """
    found: dict[str, set[str]] = {}
    for one in distributions():
        for path in one.files or ():
            found.setdefault(path.parts[0].split(".")[0], set()).add(one.metadata["Name"])
    return found


def packages_of(module: str) -> set[str]:
    return {name.lower() for name in brought().get(module, ())}


def strangers(tree: ast.AST) -> set[str]:
    """Modules imported when `tree` is run that a plain installation does not bring."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        elif not isinstance(node, ast.FunctionDef):
            found |= strangers(node)
    known = set(sys.stdlib_module_names) | {"fmabs_lite"} | ALSO_THERE
    return {name for name in found - known if not packages_of(name) & PLAIN}


def test_what_a_plain_installation_does_not_bring_is_seen():
    tree = ast.parse("import timm\nimport cv2, os\ntry:\n    from papermill import x\nfinally: 1")
    assert strangers(tree) == {"timm", "papermill"}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_imports_what_a_plain_installation_brings(path):
    assert not set().union(*(strangers(cell.tree) for cell in Notebook.read(path).code()))


def test_so_do_the_modules_behind_it():
    package = ROOT / "fmabs_lite"
    paths = [path for path in package.rglob("*.py") if "press" not in path.parts]
    found = {path.name: strangers(ast.parse(path.read_text("utf-8"))) for path in paths}
    assert {name: modules for name, modules in found.items() if modules} == {}
