"""DTD: what is read, how it is resized, every error; and the real pictures where they are."""

import os
import shutil

import cv2
import numpy as np
import pytest
import torch

from fmabs_lite.data import DTD, DataError, DataFolder


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def root(tmp_path):
    """Two classes, written in the wrong order: 2 pictures of 'woven', 1 of 'banded'."""
    for kind, number, value in (("woven", 2, 120), ("woven", 1, 80), ("banded", 1, 40)):
        path = tmp_path / f"dtd/images/{kind}/{kind}_{number:04d}.jpg"
        save(path, np.full((30, 40, 3), value, np.uint8))
    return tmp_path / "dtd"


def test_pictures_come_class_by_class_sorted_as_squares(root):
    textures = DTD(root, size=20)
    assert textures.classes == ["banded", "woven"] and len(textures) == 3
    assert textures.names == [
        "banded/banded_0001.jpg", "woven/woven_0001.jpg", "woven/woven_0002.jpg",
    ]  # fmt: skip
    assert textures.images.shape == (3, 3, 20, 20) and textures.images.dtype == torch.uint8
    assert textures.images[:, 0, 0, 0].tolist() == [40, 80, 120]
    assert textures.images is textures.images  # read once
    assert DTD(root).images.shape == (3, 3, 256, 256)


def test_colours_come_in_the_order_red_green_blue(root):
    save(root / "images/banded/banded_0000.png", np.full((9, 9, 3), (1, 2, 3), np.uint8))  # BGR
    assert DTD(root, size=9).images[0, :, 0, 0].tolist() == [3, 2, 1]


def test_a_picture_of_any_shape_is_shrunk_by_area(root):
    board = np.zeros((40, 80), np.uint8)
    board[:, ::4] = board[:, 1::4] = 200
    save(root / "images/banded/banded_0000.png", board)
    halves = DTD(root, size=20).images[0]
    assert halves.unique().tolist() == [100]  # 2 x 4 samples to a pixel


def test_other_files_and_hidden_folders_are_left_out(root):
    (root / "labels").mkdir()
    (root / "images/.thumbnails").mkdir()
    (root / "images/notes.txt").write_text("no texture")
    (root / "images/woven/.directory").write_text("no texture")
    assert len(DTD(root)) == 3 and DTD(root).classes == ["banded", "woven"]


def test_the_archive_in_a_folder_of_its_own_is_read_too(root):
    outer = root.parent / "dtd-r1.0.1"
    outer.mkdir()
    root.rename(outer / "dtd")
    assert DTD(DataFolder(root.parent).dtd).classes == ["banded", "woven"]


def no_images(root):
    shutil.rmtree(root / "images")


def no_classes(root):
    for folder in list((root / "images").iterdir()):
        shutil.rmtree(folder)


def empty_class(root):
    (root / "images/dotted").mkdir()


def cut_off_jpeg(root):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (root / "images/woven/woven_0003.jpg").write_bytes(data[:1500])


def empty_file(root):
    (root / "images/woven/woven_0003.jpg").write_bytes(b"")


def test_all_broken_pictures_are_named(root):
    for name in ("banded/banded_0001", "woven/woven_0002"):
        (root / f"images/{name}.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"(?s)banded_0001.jpg .*\n.*woven_0002.jpg "):
        _ = DTD(root, size=20).images


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (shutil.rmtree, r"dtd does not hold DTD.*no folder .*dtd/images.*Unpack"),
        (no_images, r"dtd does not hold DTD.*no folder .*dtd/images.*Unpack"),
        (no_classes, r"dtd/images holds no folders.*Unpack DTD again"),
        (empty_class, r"images/dotted holds no images.*Unpack DTD again, or remove"),
        (cut_off_jpeg, r"woven_0003.jpg cannot be read.*Get this file again"),
        (empty_file, r"woven_0003.jpg cannot be read.*\(0 bytes\)"),
    ],
)
def test_what_is_wrong_is_named_with_its_path_and_a_remedy(root, damage, says):
    damage(root)
    with pytest.raises(DataError, match=says):
        _ = DTD(root, size=20).images


@pytest.mark.skipif(
    not os.environ.get("FMABS_DATA"), reason="FMABS_DATA names no folder with real data"
)
def test_the_real_textures():
    folder = DataFolder(os.environ["FMABS_DATA"])
    if not folder.has("dtd"):
        pytest.skip("no DTD in FMABS_DATA")
    textures = DTD(folder.dtd, size=32)
    for kind in textures.classes:
        assert sum(name.startswith(f"{kind}/{kind}_") for name in textures.names) == 120
    assert textures.images.shape == (120 * len(textures.classes), 3, 32, 32)
    spread = textures.images.float().std((1, 2, 3))
    assert (spread > 0).all() and spread.median() > 20
