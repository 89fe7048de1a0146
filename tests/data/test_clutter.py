"""What systems and editors leave among the files of a data set changes nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fmabs_lite.data import DTD, Avenue, MVTecAD, ShanghaiTech, UCSDPed2, open_data
from fmabs_lite.data.folder import checksum, files_below, listing
from fmabs_lite.models.backbones import find_weights

LEFT = (".DS_Store", "Thumbs.db", "desktop.ini", "._000.png", "._01.avi", "._1_label.mat",
        "._01_0014.npy", ".ipynb_checkpoints/000.png", "__MACOSX/000.png", "@eaDir/000.png",
        "lost+found/000.png")  # fmt: skip


def litter(root: Path) -> None:
    """Leave all of it in each folder below `root`; nothing of it can be read."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        for name in LEFT:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"none of the data")


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> tuple[Path, Path]:
    """The drawn sets, and a copy that has been through several hands."""
    clean, copy = open_data("").root, tmp_path_factory.mktemp("copy") / "sets"
    shutil.copytree(clean, copy)
    litter(copy)
    for folder in ("test", "ground_truth"):
        (copy / "mvtec" / "screw" / folder / "license.txt").write_text("CC BY-NC-SA 4.0")
    return clean, copy


def clips_of(found) -> list[np.ndarray]:
    return [clip.frames for clip in (*found.train, *found.test)]


READ = {
    "mvtec": lambda root: [getattr(MVTecAD(root, "screw", 16), part).images.numpy()
                           for part in ("train", "test")],
    "avenue": lambda root: clips_of(Avenue(root, size=(16, 24))),
    "ucsd_ped2": lambda root: clips_of(UCSDPed2(root, size=(16, 24))),
    "shanghaitech": lambda root: clips_of(ShanghaiTech(root, size=(16, 24))),
    "dtd": lambda root: [DTD(root, 16).images.numpy()],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* masks are empty at")  # so small they are read
@pytest.mark.parametrize("name", READ)
def test_a_set_with_litter_reads_as_without(roots, name, tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path))
    clean, copy = (READ[name](root / name) for root in roots)
    assert len(clean) == len(copy) > 0
    assert all(np.array_equal(a, b) for a, b in zip(clean, copy, strict=True))


def test_categories_and_checksums_are_those_of_the_data(roots):
    clean, copy = (root / "mvtec" for root in roots)
    assert MVTecAD.categories(clean) == MVTecAD.categories(copy)
    for name in ("dtd", "avenue"):
        assert len(files_below(roots[0] / name)) == len(files_below(roots[1] / name))
        assert checksum(roots[0] / name) == checksum(roots[1] / name)


def test_weights_are_found_among_litter(tmp_path):
    (tmp_path / "weights").mkdir()
    for name in ("._net.safetensors", "net.safetensors"):
        (tmp_path / "weights" / name).write_bytes(b"")
    assert find_weights("net", tmp_path).name == "net.safetensors"


def test_the_rule_leaves_everything_else(tmp_path):
    for name in ("_good", "000.png", "thumbs", "cut"):
        (tmp_path / name).mkdir()
    assert [path.name for path in listing(tmp_path)] == ["000.png", "_good", "cut", "thumbs"]
