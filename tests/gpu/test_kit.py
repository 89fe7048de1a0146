"""The kit for a GPU: it packs what reads the same, and goes its whole way on a CPU, in small."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import agreement
import cv2
import kit
import numpy as np
import pytest
import torch

from fmabs_lite.data import DTD, MVTecAD

ROOT = Path(__file__).resolve().parents[2]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@CUDA
@pytest.mark.parametrize("name", agreement.cases())
def test_the_gpu_computes_what_the_cpu_computes(name, exact):
    wrong = [one for one in agreement.compare(name, torch.device("cuda")) if not one.fits]
    assert wrong == []


@CUDA
def test_a_training_moves_from_the_gpu_to_the_cpu(exact):
    assert agreement.moves().fits


@pytest.fixture
def exact(monkeypatch) -> None:
    """As `agreement.exact`, and back to what it was."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def test_the_cpu_agrees_with_itself():
    found = list(agreement.compare("03_reconstruction + SCA", agreement.CPU))
    assert all(one.fits for one in found)
    assert {one.what for one in found} >= {"prepared", "loss", "gradient", "mask 0", "S_o", "steps"}
    assert {one.precision for one in found} == set(agreement.PRECISIONS)
    assert all(one.off == 0 for one in found if one.precision == "fp32")


@pytest.mark.parametrize("part", ["loss", "gradient", "mask 0"])
def test_a_device_that_is_a_little_off_is_found(part, monkeypatch):
    real, calls = agreement.answers, []

    def answers(device, *args):
        found = real(device, *args)
        calls.append(device)
        if len(calls) == 3:  # after the truth, and the CPU's own error
            found[part] = found[part] * (1 + 1e-3)
        return found

    monkeypatch.setattr(agreement, "answers", answers)
    found = agreement.compare("03_reconstruction + SCA", agreement.CPU, ["fp32"])
    assert [one.what for one in found if not one.fits] == [part]


# --- prepare


@pytest.mark.parametrize("side", [400, 256, 120])
def test_what_is_packed_reads_the_same(side, tmp_path):
    draws = np.random.default_rng(side)
    for inside in ("train/good/000", "test/good/000", "test/bent/000"):
        write(tmp_path / f"mvtec/screw/{inside}.png", draws.integers(0, 256, (side, side)))
    mask = 255 * (draws.random((side, side)) < 0.5)
    write(tmp_path / "mvtec/screw/ground_truth/bent/000_mask.png", mask)
    for number in range(4):
        colours = draws.integers(0, 256, (side, side + 10, 3))
        write(tmp_path / f"dtd/images/banded/banded_{number:04}.jpg", colours)
    kit.pack_data(tmp_path, tmp_path / "packed", textures=2)
    ours, theirs = (MVTecAD(root / "mvtec", "screw", 256) for root in
                    (tmp_path / "packed", tmp_path))  # fmt: skip
    for a, b in ((ours.train, theirs.train), (ours.test, theirs.test)):
        assert torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks)
    assert ours.test.masks.any() and ours.test.defects == theirs.test.defects
    textures = DTD(tmp_path / "packed" / "dtd", 256).images
    assert torch.equal(textures, DTD(tmp_path / "dtd", 256).images[::2])


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image.astype(np.uint8))


def test_what_is_missing_is_fetched_with_all_that_it_needs():
    needs = {"a-b": ["c>=1", "torch"], "c": ["A_B", "d"], "d": []}
    has = kit.names_in("torch==2.9.0+cu130\nNum_Py==2.0\n\n# a comment\n")
    assert has == {"torch", "num-py"}
    fetched = []

    def fetch(requirement: str) -> list[str]:
        fetched.append(requirement)
        return needs[kit.plain(requirement.split(">")[0])]

    assert kit.missing(["a_b>=2", "num.py"], has, fetch) == ["a-b", "c", "d"]
    assert fetched == ["a_b>=2", "c>=1", "d"]


def test_the_package_and_a_sweep_are_needed_and_no_tool_beside_them():
    names = kit.names_in("\n".join(kit.needed()))
    assert names >= {"torch", "numpy", "papermill", "ipykernel", "distributed"}
    assert not names & {"pytest", "jupyter-book", "timm", "anomalib"}


# --- run


def test_all_rows_take_the_epochs_that_the_budget_allows():
    found = {"plain": 160.0, "boosted": 80.0, "batch": 8}
    trial = kit.Trial(rest=50)  # two plain rows of 0.05 s a step, two boosted of 0.1 s
    assert kit.steps_of(found, trial, 60 * 20) == 40 * (int((1200 - 200) / 0.3) // 40)
    assert kit.steps_of(found, trial, 1e9) == 28000
    assert kit.steps_of(found, trial, 1) == 1


@pytest.mark.slow
def test_the_kit_goes_its_way_in_slices(tmp_path):
    """Nothing is begun in a slice without time; the next one does all of it."""
    repo = tmp_path / "checkout"
    shutil.copytree(ROOT / "book", repo / "book")
    (repo / "fmabs_lite").symlink_to(ROOT / "fmabs_lite")

    def slice_of(minutes: float) -> subprocess.CompletedProcess:
        command = [sys.executable, ROOT / "tests" / "gpu" / "kit.py", "run", "--rehearse",
                   "--minutes", minutes, "--repo", repo, "--packed", tmp_path / "nothing",
                   "--out", tmp_path / "out"]  # fmt: skip
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        return subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)

    assert slice_of(0).returncode == kit.AGAIN
    done = slice_of(9)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "out" / "10_draem.quick.json").read_text())
    assert [cell["provenance"]["parameters"]["rows"] for cell in record["cells"]] == [["+ CA"]]
    assert "10_draem" in (tmp_path / "out" / "bench.txt").read_text()
    assert json.loads((tmp_path / "out" / "agreement.json").read_text())
    state = json.loads((tmp_path / "out" / "state.json").read_text())
    assert state["steps"] == 4 and state["sweep"] == 0
