"""CUHK Avenue: both layouts, both label sets, and every error."""

import shutil

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from fmabs_lite.data import Avenue, DataError
from fmabs_lite.data.avenue import frame_labels

SIZE = (18, 32)
LENGTHS = {1: 5, 2: 4, 10: 6}  # all test videos; 2 is labelled but not there
V73 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400)
ABNORMAL = {1: [3, 4], 2: [0], 10: [0, 1, 2, 3, 4, 5]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))


def write_video(path, length):
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 36))
    for value in range(length):
        video.write(np.full((36, 64, 3), 20 * value, np.uint8))
    video.release()


def write_masks(path, length, abnormal):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, length), object)
    for frame in range(length):
        mask = np.zeros((36, 64), np.uint8)
        if frame in abnormal:
            mask[:18, :32] = 1
        cells[0, frame] = mask
    savemat(path, {"volLabel": cells}, do_compression=True)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "avenue"
    write_video(root / "training_videos/01.avi", 3)
    write_video(root / "training_videos/02.avi", 4)
    for number in (1, 10):
        write_video(root / f"testing_videos/{number:02d}.avi", LENGTHS[number])
    for number, length in LENGTHS.items():
        path = root / f"ground_truth_demo/testing_label_mask/{number}_label.mat"
        write_masks(path, length, ABNORMAL[number])
    intervals = np.zeros((1, 15), np.int8)
    intervals[0, [2, 3, 4, 9]] = 1  # video 1: frames 2-4; video 2: none; video 10: its first
    (tmp_path / "labels").mkdir()
    np.save(tmp_path / "labels/frame_labels_avenue.npy", intervals)
    return root


def test_videos_come_with_labels_and_masks(root):
    avenue = Avenue(root, SIZE)
    assert [clip.name for clip in avenue.train] == ["01", "02"]
    assert [clip.frames.shape for clip in avenue.train] == [(3, 1, *SIZE), (4, 1, *SIZE)]
    assert all(clip.labels is None and clip.masks is None for clip in avenue.train)
    first, last = avenue.test
    assert (first.name, last.name) == ("01", "10")
    assert first.labels.tolist() == [0, 0, 0, 1, 1] and first.labels.dtype == np.int8
    assert last.labels.all()
    assert first.masks.shape == (5, *SIZE) and first.masks.dtype == bool
    assert first.masks[3, :9, :16].all() and first.masks[3].sum() == 9 * 16
    assert not first.masks[:3].any()


def test_sparse_masks_and_masks_of_any_number_are_read(root):
    from scipy.sparse import csc_matrix

    path = root / "ground_truth_demo/testing_label_mask/1_label.mat"
    full = Avenue(root, SIZE).test[0]
    cells = np.empty((1, 5), object)
    for frame, mask in enumerate(full.masks):
        large = np.kron(mask, np.ones((2, 2)))
        large[:, :8] *= 100  # two numbers, of which one is more than twice the other
        cells[0, frame] = csc_matrix(large)
    savemat(path, {"volLabel": cells})
    sparse = Avenue(root, SIZE).test[0]
    assert full.masks.any() and np.array_equal(sparse.masks, full.masks)
    assert sparse.labels.tolist() == full.labels.tolist() == [0, 0, 0, 1, 1]


def test_the_interval_labels_are_cut_by_all_videos_also_absent_ones(root):
    first, last = Avenue(root, SIZE, labels="intervals").test
    assert first.labels.tolist() == [0, 0, 1, 1, 1]
    assert last.labels.tolist() == [1, 0, 0, 0, 0, 0]
    assert first.masks.any((1, 2)).tolist() == [False, False, False, True, True]


def test_the_interval_file_may_be_flat_and_may_lie_in_the_root(root):
    path = root.parent / "labels/frame_labels_avenue.npy"
    np.save(root / path.name, np.load(path).reshape(-1))
    path.unlink()
    assert Avenue(root, SIZE, labels="intervals").test[0].labels.tolist() == [0, 0, 1, 1, 1]


def test_frame_labels_cover_videos_that_are_not_there(root):
    masks, intervals = frame_labels(root), frame_labels(root, "intervals")
    assert list(masks) == list(intervals) == ["01", "02", "10"]
    assert masks["02"].tolist() == [1, 0, 0, 0]
    assert intervals["02"].tolist() == [0, 0, 0, 0]
    assert [int((masks[name] != intervals[name]).sum()) for name in masks] == [1, 1, 5]


def test_only_selects_test_videos(root):
    avenue = Avenue(root, SIZE, only=["10"])
    assert [clip.name for clip in avenue.test] == ["10"]
    assert len(avenue.train) == 2
    assert [clip.name for clip in Avenue(root, SIZE, only=["1"]).test] == ["01"]
    with pytest.raises(DataError, match="Video 07.*testing_videos.*Videos there: 01, 10"):
        _ = Avenue(root, SIZE, only=["07"]).test


@pytest.mark.parametrize("place", ["{}/frames/{:02d}", "{}/{:02d}", "{}_videos/{:02d}"])
def test_folders_of_frames_serve_as_videos(root, place):
    for split, number, length in (("training", 1, 3), ("testing", 1, 5), ("testing", 10, 6)):
        folder = root / place.format(split, number)
        folder.mkdir(parents=True)
        for frame in range(length):
            image = np.full((36, 64), 20 * frame, np.uint8)
            cv2.imwrite(str(folder / f"{frame:04d}.png"), image)
        for path in (root / f"{split}_videos").glob("*.avi"):
            path.unlink()
    if "_videos" not in place:
        shutil.rmtree(root / "training_videos")
        shutil.rmtree(root / "testing_videos")
    avenue = Avenue(root, SIZE)
    assert [len(clip) for clip in avenue.train] == [3]
    assert avenue.test[0].frames[:, 0, 0, 0].tolist() == [0, 20, 40, 60, 80]
    assert avenue.test[1].labels.all()


def test_colour_on_request(root):
    assert Avenue(root, SIZE, grey=False).train[0].frames.shape == (3, 3, *SIZE)


def test_an_unknown_label_set_is_refused_at_once(root):
    with pytest.raises(ValueError, match="labels is 'mask'; choose one of masks, intervals"):
        Avenue(root, SIZE, labels="mask")


def mask_file(root, number=1):
    return root / f"ground_truth_demo/testing_label_mask/{number}_label.mat"


def interval_file(root):
    return root.parent / "labels/frame_labels_avenue.npy"


def shorten_intervals(root):
    np.save(interval_file(root), np.zeros(14, np.int8))


def other_values(root):
    np.save(interval_file(root), np.full(15, 2, np.int8))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda r: shutil.rmtree(r / "testing_videos"), "no testing videos.*testing/frames"),
        (lambda r: shutil.rmtree(r / "training_videos"), "no training videos"),
        (lambda r: shutil.rmtree(r / "ground_truth_demo"), "no labels.*ground_truth_demo.zip"),
        (lambda r: mask_file(r).unlink(), "Test video 01 has no labels.*1_label.mat is missing"),
        (lambda r: write_masks(mask_file(r), 7, []), "01.avi decodes to 5 frames, .*label.mat la"
                                                     "bels 7"),
        (lambda r: mask_file(r).write_bytes(b"x" * 500), "1_label.mat is not a label file"),
        (lambda r: shutil.copy(mask_file(r), mask_file(r, "copy_of_1")), "1_label.mat and .*copy_of"
                                                                         "_1_label.mat stand for"),
        (lambda r: mask_file(r).write_bytes(V73), r"7\.3, which is not read.*save\('1_label.mat', "
                                                  "'volLabel', '-v7'"),
        (lambda r: savemat(mask_file(r), {"other": 1}), "1_label.mat is not a label file"),
        (lambda r: savemat(mask_file(r), {"volLabel": np.ones(5)}), "is not a label file"),
        (lambda r: (r / "testing_videos/01.avi").write_bytes(b""), "01.avi cannot be decoded"),
        (lambda r: (r / "training_videos/03.avi.part").touch(), "03.avi.part is a download"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_path_and_a_remedy(root, damage, says):
    damage(root)
    avenue = Avenue(root, SIZE)
    with pytest.raises(DataError, match=says):
        _ = avenue.train, avenue.test


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda r: interval_file(r).unlink(), "needs frame_labels_avenue.npy.*labels='masks'"),
        (lambda r: interval_file(r).write_bytes(b"x"), "frame_labels_avenue.npy cannot be read"),
        (shorten_intervals, "holds 14 values, but the 3 files .* cover 15 frames"),
        (other_values, "each 0 or 1"),
        (lambda r: mask_file(r, 2).unlink(), "holds 15 values, but the 2 files .* cover 11"),
        (lambda r: mask_file(r, 2).write_bytes(b"x"), "2_label.mat is not a label file"),
    ],
)
def test_what_is_wrong_with_the_interval_labels_is_named(root, damage, says):
    damage(root)
    with pytest.raises(DataError, match=says):
        _ = Avenue(root, SIZE, labels="intervals").test
