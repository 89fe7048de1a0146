"""UCSD Ped2: UCSD's tree and MNAD's, labels from masks or intervals, and every error."""

import shutil

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from fmabs_lite.data import DataError, UCSDPed2

SIZE = (12, 18)
LABELS = {1: [0, 0, 1, 1, 1, 0], 2: [1, 1, 1, 1]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))


def write(folder, images, first, suffix):
    folder.mkdir(parents=True)
    for number, image in enumerate(images, first):
        assert cv2.imwrite(str(folder / f"{number:03d}.{suffix}"), image)


def frames(length):
    return [np.full((24, 36), 10 * value, np.uint8) for value in range(length)]


def masks(labels):
    corner = np.zeros((24, 36), np.uint8)
    corner[:8, :8] = 255
    return [corner * label for label in np.array(labels, np.uint8)]


def write_intervals(root, intervals):
    cells = np.empty((1, len(intervals)), object)
    for number, pairs in enumerate(intervals):
        cells[0, number] = np.array(pairs, np.uint8).T  # rows: first frames, last frames
    savemat(root / "ped2.mat", {"gt": cells})


@pytest.fixture
def ucsd(tmp_path):
    root = tmp_path / "ucsd"
    write(root / "Train/Train001", frames(3), 1, "tif")
    for number, labels in LABELS.items():
        write(root / f"Test/Test{number:03d}", frames(len(labels)), 1, "tif")
        write(root / f"Test/Test{number:03d}_gt", masks(labels), 1, "bmp")
    return root


@pytest.fixture
def mnad(tmp_path):
    root = tmp_path / "mnad"
    write(root / "training/frames/01", frames(3), 0, "png")
    for number, labels in LABELS.items():
        write(root / f"testing/frames/{number:02d}", frames(len(labels)), 0, "png")
    write_intervals(root, [[(3, 5)], [(1, 4)]])
    return root


def check_contents(ped2):
    assert [(clip.name, clip.frames.shape) for clip in ped2.train] == [("01", (3, 1, *SIZE))]
    assert ped2.train[0].labels is None
    assert [clip.name for clip in ped2.test] == ["01", "02"]
    assert [clip.labels.tolist() for clip in ped2.test] == list(LABELS.values())
    assert ped2.test[0].labels.dtype == np.int8
    assert ped2.test[0].frames[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]


def test_the_tree_of_ucsd_has_labels_from_its_masks(ucsd):
    (ucsd / "Test/Test001/._003.tif").write_bytes(b"left by a Mac")
    ped2 = UCSDPed2(ucsd, SIZE)
    check_contents(ped2)
    assert ped2.test[0].masks.dtype == bool
    assert ped2.test[0].masks[2, :4, :4].all() and ped2.test[0].masks[2].sum() == 16
    assert ped2.test[0].masks.any((1, 2)).tolist() == [bool(x) for x in LABELS[1]]


def test_the_tree_of_mnad_has_labels_from_the_intervals(mnad):
    ped2 = UCSDPed2(mnad, SIZE)
    check_contents(ped2)
    assert [clip.masks for clip in ped2.test] == [None, None]


def test_masks_beside_the_frames_of_mnad_are_read(mnad):
    for number, labels in LABELS.items():
        write(mnad / f"testing/masks/{number:02d}", masks(labels), 0, "png")
    check_contents(UCSDPed2(mnad, SIZE))
    assert UCSDPed2(mnad, SIZE).test[1].masks.all(0).sum() == 16
    (mnad / "ped2.mat").unlink()
    check_contents(UCSDPed2(mnad, SIZE))


def test_masks_of_16_bits_and_of_ones_say_the_same(mnad):
    (mnad / "ped2.mat").unlink()
    for number, labels in LABELS.items():
        ones = [(mask > 0).astype(np.uint16) for mask in masks(labels)]
        write(mnad / f"testing/masks/{number:02d}", ones, 0, "png")
    check_contents(UCSDPed2(mnad, SIZE))
    assert UCSDPed2(mnad, SIZE).test[1].masks.all(0).sum() == 16


def test_an_inverted_mask_is_named_with_its_frame(mnad):
    for number, labels in LABELS.items():
        inverted = [np.tile(np.uint8(np.arange(36) > 0), (24, 1)) for _ in labels]
        write(mnad / f"testing/masks/{number:02d}", inverted, 0, "png")
    with pytest.raises(DataError, match="masks/01: the mask of frame 0 covers 97% of its picture"):
        _ = UCSDPed2(mnad, SIZE).test


def test_a_clip_may_have_several_intervals(mnad):
    write_intervals(mnad, [[(1, 2), (5, 6)], [(1, 4)]])
    assert UCSDPed2(mnad, SIZE).test[0].labels.tolist() == [1, 1, 0, 0, 1, 1]


def test_a_tiny_mask_still_makes_its_frame_abnormal(ucsd):
    path = ucsd / "Test/Test001_gt/001.bmp"
    speck = np.zeros((24, 36), np.uint8)
    speck[5, 5] = 255
    cv2.imwrite(str(path), speck)
    for _ in range(2):  # what is read from the cache is told as well
        with pytest.warns(UserWarning, match="1 of 4 masks are empty at 12 x 18 .*frame 0 of Test"):
            first = UCSDPed2(ucsd, SIZE).test[0]
        assert first.labels[0] == 1 and not first.masks[0].any()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda r: shutil.rmtree(r / "Test"), "neither of the folders Test and testing/frames"),
        (lambda r: shutil.rmtree(r / "Test/Test002_gt"), "Test002 has no labels.*Test002_gt"),
        (lambda r: (r / "Test/Test001/003.tif").unlink(), "Test001: frame 2 is followed by 4"),
        (lambda r: (r / "Test/Test001_gt/006.bmp").unlink(), "5 masks for the 6 frames"),
        (lambda r: (r / "Test/Test001/006.tif").write_bytes(b"II*"), "006.tif cannot be read"),
        (lambda r: (r / "Train/Train001").rename(r / "Train/first"), "first.*end in a number"),
    ],
)
def test_what_is_wrong_in_ucsds_tree_is_named(ucsd, damage, says):
    damage(ucsd)
    ped2 = UCSDPed2(ucsd, SIZE)
    with pytest.raises(DataError, match=says):
        _ = ped2.train, ped2.test


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda r: (r / "ped2.mat").unlink(), "01 has no labels: neither .*ped2.mat nor"),
        (lambda r: (r / "ped2.mat").write_bytes(b"no"), "ped2.mat is not Ped2's label file"),
        (lambda r: savemat(r / "ped2.mat", {"x": 1}), "ped2.mat is not Ped2's label file"),
        (lambda r: write_intervals(r, [[(3, 5)]]), "labels 1 clips.*has 2 test clips"),
        (lambda r: write_intervals(r, [[(3, 7)], [(1, 4)]]), "frames 3 to 7 of clip 01.*6 frames"),
        (lambda r: write_intervals(r, [[(0, 5)], [(1, 4)]]), "frames 0 to 5 of clip 01"),
        (lambda r: (r / "testing/frames/02/003.png").unlink(), "frames 1 to 4 of clip 02.*has 3"),
    ],
)
def test_what_is_wrong_in_mnads_tree_is_named(mnad, damage, says):
    damage(mnad)
    with pytest.raises(DataError, match=says):
        _ = UCSDPed2(mnad, SIZE).test
