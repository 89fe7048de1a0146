"""Pictures of one's own: folders as people have them, and what must not pass in silence."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from fmabs_lite.data import DataError, Photos


def put(path: Path, level: int, shape=(12, 16)) -> Path:
    """A grey picture with a level of its own, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, level, np.uint8))
    return path


def put_mask(path: Path, shape=(12, 16), filled: bool = True) -> Path:
    """The left half is anomalous, or nothing."""
    mask = np.zeros(shape, np.uint8)
    mask[:, : shape[1] // 2] = 255 * filled
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), mask)
    return path


def many(folder: Path, count: int, first: int = 0, end: str = ".png") -> list[Path]:
    return [put(folder / f"{k:03d}{end}", first + k) for k in range(count)]


def levels(images) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


def test_a_good_and_a_bad_folder_without_masks(tmp_path):
    many(tmp_path / "good", 10)
    many(tmp_path / "bad", 3, 100)
    photos = Photos(tmp_path / "good", tmp_path / "bad", size=(12, 16))
    parts = photos.train, photos.held_out, photos.test
    assert [len(part) for part in parts] == [6, 2, 5]
    assert photos.test.labels.tolist() == [0, 0, 1, 1, 1]
    assert photos.test.defects == ["good", "good", "bad", "bad", "bad"]
    assert photos.test.masks is None
    assert photos.train.images.shape == (6, 3, 12, 16)
    seen = [level for part in parts for level in levels(part)]
    assert sorted(seen) == [*range(10), 100, 101, 102]


def test_the_split_follows_its_seed_and_nothing_else(tmp_path):
    many(tmp_path, 20)
    first, same, other = (Photos(tmp_path, size=8, seed=seed) for seed in (0, 0, 1))
    assert levels(first.train) == levels(same.train) != levels(other.train)


def test_normal_pictures_alone_have_no_anomalous_ones(tmp_path):
    many(tmp_path, 10)
    assert Photos(tmp_path, size=8).test.labels.tolist() == [0, 0]


def test_btad_has_its_own_normal_pictures_to_judge(tmp_path):
    many(tmp_path / "train/ok", 10, end=".bmp")
    many(tmp_path / "test/ok", 2, 50, end=".bmp")
    many(tmp_path / "test/ko", 2, 100, end=".bmp")
    for k in range(2):
        put_mask(tmp_path / f"ground_truth/ko/{k:03d}.png")
    photos = Photos(tmp_path / "train/ok", tmp_path / "test/ko", tmp_path / "ground_truth/ko",
                    size=(12, 16), test=tmp_path / "test/ok")  # fmt: skip
    assert len(photos.train) == 8 and len(photos.held_out) == 2
    assert levels(photos.test) == [50, 51, 100, 101]
    assert photos.test.masks.sum(dim=(1, 2)).tolist() == [0, 0, 96, 96]


def test_visa_is_nested_and_its_masks_are_elsewhere(tmp_path):
    data = tmp_path / "candle/Data"
    many(data / "Images/Normal", 10, end=".JPG")
    many(data / "Images/Anomaly", 2, 100, end=".JPG")
    for k in range(2):
        put_mask(data / f"Masks/Anomaly/{k:03d}.png")
    photos = Photos(data / "Images/Normal", data / "Images/Anomaly", data / "Masks", size=(12, 16))
    assert photos.test.masks[-2:].sum(dim=(1, 2)).tolist() == [96, 96]


def test_mvtec_has_the_same_names_in_the_folder_of_each_defect(tmp_path):
    many(tmp_path / "train/good", 10)
    for k, kind in enumerate(("crack", "cut")):
        put(tmp_path / f"test/{kind}/000.png", 100 + k)
        put_mask(tmp_path / f"ground_truth/{kind}/000_mask.png", filled=True)
    cut = np.zeros((12, 16), np.uint8)
    cut[:6] = 255
    cv2.imwrite(str(tmp_path / "ground_truth/cut/000_mask.png"), cut)
    photos = Photos(tmp_path / "train/good", tmp_path / "test", tmp_path / "ground_truth",
                    size=(12, 16))  # fmt: skip
    assert photos.test.defects[-2:] == ["crack", "cut"]
    crack, cut = photos.test.masks[-2:].numpy()
    assert crack[:, :8].all() and not crack[:, 8:].any()
    assert cut[:6].all() and not cut[6:].any()


def test_kolektor_has_a_label_beside_each_picture_and_the_labels_tell(tmp_path):
    for part in range(12):
        folder = tmp_path / f"kos{part:02d}"
        put(folder / "Part0.jpg", 10 * part)
        put_mask(folder / "Part0_label.bmp", filled=part in (3, 7))
    photos = Photos(tmp_path, masks=tmp_path.rglob("*_label.bmp"), size=(12, 16))
    assert photos.test.labels.sum() == 2
    assert levels(photos.test)[-2:] == [30, 70]
    assert len(photos.train) + len(photos.held_out) + len(photos.test) == 12


def test_masks_of_16_bits_and_of_ones_tell_normal_from_anomalous(tmp_path):
    many(tmp_path / "all", 12)
    for part, name in enumerate(sorted(path.stem for path in (tmp_path / "all").iterdir())):
        mask = np.zeros((12, 16), np.uint16)
        mask[:, :8] = part in (3, 7)
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"masks/{name}_mask.png"), mask)
    photos = Photos(tmp_path / "all", masks=tmp_path / "masks", size=(12, 16))
    assert photos.test.labels.sum() == 2
    assert photos.test.masks.sum((1, 2)).tolist()[-2:] == [96, 96]


def test_a_list_of_files_and_folders(tmp_path):
    first = many(tmp_path / "a", 4)
    many(tmp_path / "b" / "deep", 4, 10)
    photos = Photos([*map(str, first), tmp_path / "b"], size=8)
    assert len(photos.train) + len(photos.held_out) + len(photos.test) == 8


def test_what_is_no_picture_is_left_out_and_named_once(tmp_path):
    many(tmp_path, 6)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "IMG_1.heic").write_bytes(b"x")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"^2 files are no pictures.*IMG_1\.heic.*notes\.txt"):
        photos = Photos(tmp_path, size=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(photos.train) == 4


def test_a_picture_that_is_normal_and_anomalous_is_refused(tmp_path):
    both = many(tmp_path, 6)
    with pytest.raises(DataError, match=r"Given twice: .*005\.png"):
        Photos(tmp_path, both[-1], size=8)


def test_all_damaged_pictures_are_named(tmp_path):
    many(tmp_path / "good", 6)
    judged = many(tmp_path / "test", 3)
    for path in judged[1:]:
        path.write_bytes(b"no picture")
    photos = Photos(tmp_path / "good", size=8, test=judged)
    with pytest.raises(DataError, match=r"(?s)001\.png.*002\.png"):
        photos.test  # noqa: B018


def test_one_mask_that_is_missing_is_named_with_its_remedy(tmp_path):
    many(tmp_path / "good", 6)
    many(tmp_path / "bad", 2, 100)
    put_mask(tmp_path / "masks/000_mask.png")
    with pytest.raises(DataError, match=r"1 of 2 .*001\.png.*001_mask\.png"):
        Photos(tmp_path / "good", tmp_path / "bad", tmp_path / "masks", size=8)


def test_a_mask_that_fits_two_pictures_is_refused(tmp_path):
    many(tmp_path / "good", 6)
    for kind in ("crack", "cut"):
        put(tmp_path / kind / "000.png", 100)
    put_mask(tmp_path / "masks/000.png")
    with pytest.raises(DataError, match="fits two pictures"):
        Photos(tmp_path / "good", [tmp_path / "crack", tmp_path / "cut"], tmp_path / "masks")


def test_a_mask_without_a_picture_is_named(tmp_path):
    many(tmp_path / "good", 6)
    put(tmp_path / "bad/000.png", 100)
    put_mask(tmp_path / "masks/000.png")
    put_mask(tmp_path / "masks/777.png")
    with pytest.warns(UserWarning, match=r"777\.png"):
        Photos(tmp_path / "good", tmp_path / "bad", tmp_path / "masks", size=8)


@pytest.mark.parametrize(("count", "share", "match"), [(4, 0.2, "at least 5"), (6, 0.05, "20")])
def test_too_few_pictures_to_hold_some_out(tmp_path, count, share, match):
    many(tmp_path, count)
    with pytest.raises(DataError, match=match):
        Photos(tmp_path, size=8, share=share)


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Photos(tmp_path / "nowhere")
