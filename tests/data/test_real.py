"""The loaders on real data, where FMABS_DATA names a folder that holds it.

Counts are those of the data sets' publishers. Decoded frames stay in the usual cache.
"""

import os

import numpy as np
import pytest

from fmabs_lite.data import Avenue, MVTecAD, ShanghaiTech, UCSDPed2, Windows, open_data
from fmabs_lite.data.avenue import frame_labels
from fmabs_lite.data.clips import find_beside
from fmabs_lite.data.shanghaitech import CHECK_FILE, campus_labels

pytestmark = pytest.mark.skipif(
    not os.environ.get("FMABS_DATA"), reason="FMABS_DATA names no folder with real data"
)


@pytest.fixture(scope="module")
def folder():
    return open_data(os.environ["FMABS_DATA"])


def test_the_screws_of_mvtec_ad(folder):
    screw = MVTecAD(folder.mvtec, "screw", size=128)
    assert len(screw.train) == 320 and set(screw.train.defects) == {"good"}
    counts = {defect: screw.test.defects.count(defect) for defect in set(screw.test.defects)}
    assert counts == {
        "good": 41, "manipulated_front": 24, "scratch_head": 24, "scratch_neck": 25,
        "thread_side": 23, "thread_top": 23,
    }  # fmt: skip
    assert screw.test.labels.sum() == 119
    assert screw.test.masks[screw.test.labels == 0].sum() == 0
    assert (screw.test.masks[screw.test.labels == 1].sum((1, 2)) > 0).all()


def test_the_two_label_sets_of_avenue(folder):
    masks, intervals = frame_labels(folder.avenue), frame_labels(folder.avenue, "intervals")
    assert list(masks) == list(intervals) == [f"{number:02d}" for number in range(1, 22)]
    flat, other = (np.concatenate(list(labels.values())) for labels in (masks, intervals))
    assert len(flat) == len(other) == 15324
    assert (flat.sum(), other.sum(), (flat != other).sum()) == (3712, 3867, 441)
    assert sum((masks[name] != intervals[name]).any() for name in masks) == 15
    assert [name for name in masks if masks[name].all()] == ["08", "18"]


def test_a_video_of_avenue_with_either_label_set(folder):
    (clip,) = Avenue(folder.avenue, (90, 160), only=["17"]).test
    assert clip.frames.shape == (426, 1, 90, 160) and clip.labels.sum() == 384
    assert clip.masks.any((1, 2)).sum() == 384
    (other,) = Avenue(folder.avenue, (90, 160), labels="intervals", only=["17"]).test
    assert other.labels.sum() == 358 and np.array_equal(other.masks, clip.masks)


def test_all_of_ucsd_ped2(folder):
    ped2 = UCSDPed2(folder.ped2)
    assert (len(ped2.train), len(ped2.test)) == (16, 12)
    assert sum(map(len, ped2.train)) == 2550 and sum(map(len, ped2.test)) == 2010
    assert sum(clip.labels.sum() for clip in ped2.test) == 1648
    assert [clip.name for clip in ped2.test if clip.labels.all()] == ["08", "09", "10", "11"]
    for clip in ped2.test:
        if clip.masks is not None:
            assert np.array_equal(clip.masks.any((1, 2)), clip.labels == 1)
    windows = Windows(ped2.train, 5)
    assert len(windows) == 2550 - 16 * 4
    assert windows[[0, len(windows) - 1]].shape == (2, 5, 1, 128, 192)


def test_the_labels_of_shanghaitech_that_public_code_uses(folder):
    path, _ = find_beside(folder.root, CHECK_FILE)
    if path is None:
        pytest.skip(f"{folder.root} has no {CHECK_FILE}")
    labels = np.load(path)
    assert (labels.shape, labels.sum()) == ((40791,), 17326) and set(labels) == {0, 1}


def test_all_of_shanghaitech(folder):
    if not folder.has("shanghaitech"):
        pytest.skip(f"{folder.root} has no ShanghaiTech")
    labels = campus_labels(folder.shanghaitech)
    assert len(labels) == 107 and sum(map(len, labels.values())) == 40791
    assert sum(values.sum() for values in labels.values()) == 17326
    assert [name for name, values in labels.items() if values.all()] == ["04_0011"]
    campus = ShanghaiTech(folder.shanghaitech, (60, 107), scenes=[4])
    assert all(clip.name.startswith("04_") for clip in campus.train + campus.test)
    for clip in campus.test:
        assert clip.labels.tolist() == labels[clip.name].tolist()
