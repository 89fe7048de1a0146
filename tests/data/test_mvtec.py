"""MVTec AD: what is read, how it is resized, and every error."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmabs_lite.data import DataError, MVTecAD, mvtec
from fmabs_lite.data.folder import cache_dir
from fmabs_lite.data.mvtec import resize_mask


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(value, size=40, channels=3):
    shape = (size, size, channels) if channels > 1 else (size, size)
    return np.full(shape, value, np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def root(tmp_path):
    """Category 'bolt': 3 normal to train on; 1 normal, 2 bent, 1 cut to test on."""
    bolt = tmp_path / "bolt"
    for number in range(3):
        save(bolt / f"train/good/{number:03d}.png", picture(10 * number))
    save(bolt / "test/good/000.png", picture(50))
    mask = picture(0, channels=1)
    mask[:20] = 255
    for defect, number in (("bent", 0), ("bent", 1), ("cut", 0)):
        save(bolt / f"test/{defect}/{number:03d}.png", picture(100 + number))
        save(bolt / f"ground_truth/{defect}/{number:03d}_mask.png", mask)
    return tmp_path


def test_train_and_test_are_read_with_labels_defects_and_names(root):
    bolt = MVTecAD(root, "bolt", size=20)
    assert len(bolt.train) == 3 and len(bolt.test) == 4
    assert bolt.train.images.shape == (3, 3, 20, 20) and bolt.train.images.dtype == torch.uint8
    assert bolt.train.images[:, 0, 0, 0].tolist() == [0, 10, 20]
    assert bolt.train.labels.tolist() == [0, 0, 0] and not bolt.train.masks.any()
    assert bolt.test.defects == ["bent", "bent", "cut", "good"]
    assert bolt.test.names[0] == "test/bent/000.png"
    assert bolt.test.labels.tolist() == [1, 1, 1, 0] and bolt.test.labels.dtype == torch.int64
    assert bolt.test.masks.dtype == torch.bool
    assert bolt.test.masks.sum((1, 2)).tolist() == [200, 200, 200, 0]
    assert bolt.test.masks[0, :10].all()


def test_colours_come_in_the_order_red_green_blue(root):
    save(root / "bolt/train/good/000.png", np.full((40, 40, 3), (1, 2, 3), np.uint8))  # BGR
    assert MVTecAD(root, "bolt", size=40).train.images[0, :, 0, 0].tolist() == [3, 2, 1]


def test_grey_transparent_jpeg_and_unmarked_masks_are_read_alike(root):
    bolt = root / "bolt"
    save(bolt / "train/good/000.png", picture(77, channels=1))
    save(bolt / "train/good/001.png", picture(77, channels=4))
    save(bolt / "train/good/003.JPG", picture(77))
    shutil.move(bolt / "ground_truth/cut/000_mask.png", bolt / "ground_truth/cut/000.png")
    mask = picture(0, channels=1)
    mask[:, :20] = 255
    (bolt / "ground_truth/bent/000_mask.png").unlink()
    save(bolt / "ground_truth/bent/000_mask.jpg", mask)
    read = MVTecAD(root, "bolt", size=20)
    assert read.train.images[[0, 1, 3]].unique().tolist() == [77]
    assert read.test.masks.sum((1, 2)).tolist() == [200, 200, 200, 0]


def test_an_image_is_shrunk_by_area_and_enlarged_smoothly(root):
    board = np.indices((40, 40)).sum(0).astype(np.uint8) % 2 * 200
    save(root / "bolt/train/good/000.png", board)
    assert MVTecAD(root, "bolt", size=20).train.images[0].unique().tolist() == [100]
    assert MVTecAD(root, "bolt", size=80).train.images.shape == (3, 3, 80, 80)


def test_resize_mask_keeps_a_new_pixel_when_half_of_it_was_anomalous():
    mask = np.zeros((4, 6), np.uint8)
    mask[0, 0] = mask[1, 1] = 255  # 2 of 4
    mask[0, 2] = 255  # 1 of 4
    mask[2:, 4:] = 255  # 4 of 4
    expected = [[True, False, False], [False, False, True]]
    assert resize_mask(mask, (2, 3)).tolist() == expected
    assert resize_mask(mask // 255, (2, 3)).tolist() == expected
    assert resize_mask(mask > 0, (2, 3)).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6), factor=st.integers(1, 8), height=st.integers(1, 6),
    width=st.integers(1, 6), density=st.floats(0, 1),
)  # fmt: skip
def test_resize_mask_equals_block_averages(seed, factor, height, width, density):
    shape = (height * factor, width * factor)
    mask = np.random.default_rng(seed).random(shape) < density
    counts = mask.reshape(height, factor, width, factor).sum((1, 3))
    assert np.array_equal(resize_mask(mask, (height, width)), 2 * counts >= factor**2)


def test_masks_that_vanish_by_shrinking_are_told_and_stay_anomalous(root):
    mask = picture(0, channels=1)
    mask[4, 4] = 255
    save(root / "bolt/ground_truth/bent/001_mask.png", mask)
    with pytest.warns(UserWarning, match=r"1 of 3 masks .* at 20 x 20 .*: bent/001_mask.png\. The"):
        test = MVTecAD(root, "bolt", size=20).test
    assert test.labels.tolist() == [1, 1, 1, 0]
    assert test.masks.sum((1, 2)).tolist() == [200, 0, 200, 0]


def test_a_16_bit_mask_marks_the_pixels_that_it_marks(root):
    mask = np.zeros((40, 40), np.uint16)
    mask[:20] = 255
    save(root / "bolt/ground_truth/bent/001_mask.png", mask)
    assert MVTecAD(root, "bolt", size=20).test.masks.sum((1, 2)).tolist() == [200, 200, 200, 0]


@pytest.mark.parametrize(("ending", "pixels"), [
    ("png", np.full((40, 40), 1023, np.uint16)), ("tif", np.full((40, 40), 1023, np.uint16)),
    ("tif", np.full((40, 40), 1023, np.float32)), ("tif", np.full((40, 40), 1023, np.int32)),
])  # fmt: skip
def test_a_picture_of_more_than_8_bits_is_refused_with_its_largest_value(root, ending, pixels):
    save(root / f"bolt/train/good/009.{ending}", pixels)
    says = rf"009.{ending} .*{pixels.dtype} up to 1023.*10 bits in use: 4"
    with pytest.raises(DataError, match=says):
        _ = MVTecAD(root, "bolt", size=20).train


def test_one_bit_and_webp_are_read(root):
    half = np.zeros((40, 40), np.uint8)
    half[:20] = 255
    assert cv2.imwrite(str(root / "bolt/train/good/000.png"), half, [cv2.IMWRITE_PNG_BILEVEL, 1])
    save(root / "bolt/train/good/003.webp", picture(77))
    images = MVTecAD(root, "bolt", size=20).train.images
    assert images[0, 0, :, 0].tolist() == 10 * [255] + 10 * [0] and images[3].unique() == 77


def test_categories_are_the_folders_with_a_train_folder(root):
    (root / "notes").mkdir()
    save(root / "anchor/train/good/0.png", picture(0))
    assert MVTecAD.categories(root) == ["anchor", "bolt"]
    with pytest.raises(DataError, match="nowhere does not exist"):
        MVTecAD.categories(root / "nowhere")


def test_a_missing_category_lists_those_present_and_the_closest(root):
    save(root / "anchor/train/good/0.png", picture(0))
    with pytest.raises(DataError) as error:
        MVTecAD(root, "bolts")
    assert "Categories there: anchor, bolt. Did you mean 'bolt'?" in str(error.value)
    assert str(root) in str(error.value)


def empty_train(bolt):
    for path in (bolt / "train/good").iterdir():
        path.unlink()


def no_test(bolt):
    shutil.rmtree(bolt / "test")


def empty_defect(bolt):
    (bolt / "test/dust").mkdir()


def cut_off_png(bolt):
    path = bolt / "test/cut/000.png"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".png", noise)[1].tobytes()[:900])


def cut_off_jpeg(bolt):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    (bolt / "train/good/009.jpg").write_bytes(cv2.imencode(".jpg", noise)[1].tobytes()[:1500])


def empty_file(bolt):
    (bolt / "train/good/009.png").write_bytes(b"")


def mask_without_image(bolt):
    (bolt / "test/bent/001.png").unlink()


def masks_without_images(bolt):
    shutil.rmtree(bolt / "test/cut")


def image_without_mask(bolt):
    (bolt / "ground_truth/bent/001_mask.png").unlink()


def no_masks(bolt):
    shutil.rmtree(bolt / "ground_truth")


def mask_of_another_size(bolt):
    mask = picture(0, size=41, channels=1)
    mask[:20] = 255
    save(bolt / "ground_truth/bent/001_mask.png", mask)


def mask_in_two_files(bolt):
    shutil.copy(bolt / "ground_truth/bent/001_mask.png", bolt / "ground_truth/bent/001.png")


def image_in_two_files(bolt):
    save(bolt / "test/bent/001.jpg", picture(9))


def inverted_masks(bolt):
    for path in (bolt / "ground_truth").rglob("*.png"):
        mask = picture(255, channels=1)
        mask[10:20, 10:30] = 0
        save(path, mask)


def three_broken_files(bolt):
    for name in ("test/good/000.png", "test/bent/000.png", "ground_truth/bent/001_mask.png"):
        (bolt / name).write_bytes(b"broken")


def picture_in_another_format(bolt):
    (bolt / "train/good/phone.HEIC").write_bytes(b"a picture")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (empty_train, r"train/good holds no images.*Unpack 'bolt' again"),
        (no_test, r"bolt/test is missing or empty.*Unpack"),
        (empty_defect, r"test/dust holds no images.*Unpack"),
        (cut_off_png, r"test/cut/000.png cannot be read.*Get this file again"),
        (cut_off_jpeg, r"good/009.jpg cannot be read.*Get this file again"),
        (empty_file, r"good/009.png cannot be read.*\(0 bytes\)"),
        (mask_without_image, r"bent/001_mask.png is a mask without its image.*remove the mask"),
        (masks_without_images, r"ground_truth/cut holds masks without their images.*test/cut"),
        (image_without_mask, r"bent/001.png is anomalous.*no mask.*001_mask.png.*Add the mask"),
        (no_masks, r"test/bent/000.png is anomalous.*no mask"),
        (mask_of_another_size, r"001_mask.png is 41 x 41.*its image is 40 x 40"),
        (mask_in_two_files, r"bent/001.png and .*bent/001_mask.png stand for the same"),
        (image_in_two_files, r"bent/001.jpg and .*bent/001.png stand for the same"),
        (inverted_masks, r"3 of the 3 masks in .* cover more than half.*as inverted ones do"),
        (three_broken_files, r"(?s)bent/000.png .*\n.*bent/001_mask.png .*\n.*good/000.png "),
        (picture_in_another_format, r"good/phone.HEIC: pictures in this format are not read"),
    ],
)
def test_what_is_wrong_is_named_with_its_path_and_a_remedy(root, damage, says):
    read = MVTecAD(root, "bolt", size=20)
    damage(root / "bolt")
    with pytest.raises(DataError, match=says):
        _ = read.train, read.test


# --- the cache -------------------------------------------------------------------------------


def test_pictures_are_decoded_once_and_then_the_same(root, monkeypatch):
    first = MVTecAD(root, "bolt", size=20).test
    monkeypatch.setattr(mvtec, "read_image", None)  # a second decoding would fail
    again = MVTecAD(root, "bolt", size=20).test
    assert torch.equal(again.images, first.images) and torch.equal(again.masks, first.masks)
    again.images.add_(1)  # one's own, not the cache's
    assert torch.equal(MVTecAD(root, "bolt", size=20).test.images, first.images)


@pytest.mark.parametrize("changed", ["test/bent/000.png", "ground_truth/bent/000_mask.png"])
def test_another_size_or_a_changed_file_is_decoded_anew(root, changed):
    first = MVTecAD(root, "bolt", size=20).test
    assert MVTecAD(root, "bolt", size=10).test.images.shape[-1] == 10
    image = picture(0, channels=1)
    image[:4] = 200
    save(root / "bolt" / changed, image)
    again = MVTecAD(root, "bolt", size=20).test
    same = torch.equal(again.images, first.images), torch.equal(again.masks, first.masks)
    assert same == ((False, True) if changed.startswith("test") else (True, False))


def test_what_is_refused_is_not_kept_and_what_is_lost_is_told_from_the_cache_too(root):
    mask = picture(0, channels=1)
    mask[4, 4] = 255
    save(root / "bolt/ground_truth/bent/001_mask.png", mask)
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 3 masks"):
            _ = MVTecAD(root, "bolt", size=20).test
    (root / "bolt/test/bent/000.png").write_bytes(b"broken")
    for _ in range(2):
        with pytest.raises(DataError, match="bent/000.png cannot be read"):
            _ = MVTecAD(root, "bolt", size=20).test
    assert len(list((cache_dir() / "frames").iterdir())) == 1


def test_a_link_that_leads_nowhere_is_named(root):
    (root / "bolt/train/good/007.png").symlink_to(root / "gone.png")
    with pytest.raises(DataError, match="007.png cannot be read: No such file"):
        _ = MVTecAD(root, "bolt", size=20).train
