"""Every way in which a mask is stored: what is above zero is a defect."""

import cv2
import numpy as np
import pytest

from fmabs_lite.data import DataError
from fmabs_lite.data.files import jpeg_ends, read_image
from fmabs_lite.data.masks import read_marks, read_mask, refuse_inverted_set, seems_inverted

TRUE = np.zeros((20, 24), bool)
TRUE[4:12, 6:18] = True


def written(path, pixels):
    assert cv2.imwrite(str(path), pixels)
    return path


def with_alpha(colour: int, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.full((*TRUE.shape, 3), colour, np.uint8), alpha])


KINDS = {
    "8 bits, 0 and 255": 255 * TRUE.astype(np.uint8),
    "8 bits, 0 and 1": TRUE.astype(np.uint8),
    "16 bits, 0 and 255": 255 * TRUE.astype(np.uint16),
    "16 bits, 0 and 1": TRUE.astype(np.uint16),
    "16 bits, 0 and 65535": 65535 * TRUE.astype(np.uint16),
    "grey levels for two kinds": np.where(TRUE, np.where(np.arange(24) < 12, 100, 255), 0)
    .astype(np.uint8),
    "class numbers 1, 2 and 3": (TRUE * (1 + np.arange(24) % 3)).astype(np.uint8),
    "colours": np.dstack([0 * TRUE, 0 * TRUE, 200 * TRUE]).astype(np.uint8),
    "transparency, black": with_alpha(0, 255 * TRUE.astype(np.uint8)),
    "transparency, white": with_alpha(255, 255 * TRUE.astype(np.uint8)),
    "transparency, all opaque": np.dstack([255 * TRUE.astype(np.uint8)] * 3
                                          + [np.full(TRUE.shape, 255, np.uint8)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_read_as_it_was_meant(tmp_path, kind):
    mask = read_mask(written(tmp_path / "mask.png", KINDS[kind]), TRUE.shape)
    assert mask.dtype == bool and np.array_equal(mask, TRUE)


@pytest.mark.parametrize("ending", [".tif", ".bmp", ".webp"])
def test_other_formats_say_the_same(tmp_path, ending):
    path = tmp_path / f"mask{ending}"
    assert cv2.imwrite(str(path), 255 * TRUE.astype(np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert np.array_equal(read_mask(path, TRUE.shape), TRUE)


def test_a_palette_and_one_bit_say_the_same(tmp_path):
    from PIL import Image

    indexed = Image.fromarray(TRUE.astype(np.uint8), mode="P")
    indexed.putpalette([0, 0, 0, 255, 255, 255])
    indexed.save(tmp_path / "palette.png")
    Image.fromarray(TRUE).convert("1").save(tmp_path / "bit.png")
    for name in ("palette.png", "bit.png"):
        assert np.array_equal(read_mask(tmp_path / name, TRUE.shape), TRUE)


def test_a_jpeg_blurs_edges_which_count_from_the_half(tmp_path):
    path = written(tmp_path / "mask.jpg", 255 * TRUE.astype(np.uint8))
    assert (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[~TRUE] > 0).any(), "else nothing is tested"
    assert np.array_equal(read_mask(path, TRUE.shape), TRUE)


@pytest.mark.parametrize(("pixels", "match"), [
    (0 * TRUE, r"mask\.png is the mask of a defective picture and is empty"),
    (255 * (np.arange(480).reshape(20, 24) > 4), "covers 99% of its picture, as an inverted"),
])  # fmt: skip
def test_a_mask_that_cannot_be_meant_is_refused(tmp_path, pixels, match):
    path = written(tmp_path / "mask.png", pixels.astype(np.uint8))
    with pytest.raises(DataError, match=match):
        read_mask(path, TRUE.shape)


def test_a_mask_of_another_size_is_refused(tmp_path):
    path = written(tmp_path / "mask.png", 255 * TRUE.astype(np.uint8))
    with pytest.raises(DataError, match="20 x 24 pixels, its image is 20 x 25"):
        read_mask(path, (20, 25))


def test_lossy_files_are_known_by_their_content_not_by_their_name(tmp_path):
    from PIL import Image

    noisy = Image.fromarray(255 * TRUE.astype(np.uint8)).convert("RGB")
    for kind, options in (("JPEG", {"quality": 50}), ("WEBP", {"quality": 20})):
        noisy.save(tmp_path / "mask.png", kind, **options)
        assert (cv2.imread(str(tmp_path / "mask.png"), 0)[~TRUE] > 0).any(), "nothing is tested"
        assert np.array_equal(read_mask(tmp_path / "mask.png", TRUE.shape), TRUE)


def test_a_jpeg_of_two_grey_levels_keeps_both(tmp_path):
    levels = np.zeros((64, 64), np.uint8)
    levels[8:24, 8:24], levels[40:56, 40:56] = 100, 255
    mask = read_mask(written(tmp_path / "mask.jpg", levels), levels.shape)
    assert np.array_equal(mask, levels > 0)


def test_a_palette_whose_colours_contradict_its_numbers_is_refused(tmp_path):
    from PIL import Image

    indexed = Image.fromarray(TRUE.astype(np.uint8), mode="P")
    indexed.putpalette([255, 255, 255, 0, 0, 0])  # 1, the defect, is black
    indexed.save(tmp_path / "mask.png")
    indexed.putpalette([200, 200, 200, 255, 0, 0])  # no black at all: the numbers tell
    indexed.save(tmp_path / "colours.png")
    assert np.array_equal(read_mask(tmp_path / "colours.png", TRUE.shape), TRUE)
    with pytest.raises(DataError, match="palette in which black is not colour 0"):
        read_mask(tmp_path / "mask.png", TRUE.shape)


def test_a_float_mask_counts_what_is_above_zero(tmp_path):
    path = written(tmp_path / "mask.tif", 0.01 * TRUE.astype(np.float32))
    assert np.array_equal(read_mask(path, TRUE.shape), TRUE)


def test_a_tiff_of_16_bits_a_colour_counts_what_is_above_zero(tmp_path):
    path = written(tmp_path / "mask.tif", np.dstack(3 * [TRUE.astype(np.uint16)]))
    assert np.array_equal(read_mask(path, TRUE.shape), TRUE)


def test_the_mask_of_a_normal_frame_may_be_empty(tmp_path):
    assert not read_marks(written(tmp_path / "mask.png", 0 * TRUE.astype(np.uint8))).any()


def test_inverted_masks_of_large_defects_are_known_by_the_set():
    assert seems_inverted(~TRUE) and not seems_inverted(TRUE)
    large = np.ones((20, 24), bool)
    large[:3] = False  # most of the picture, but not its upper corners
    assert not seems_inverted(large)
    refuse_inverted_set(1, 2, "bent")  # one large defect among others is no proof
    with pytest.raises(DataError, match="2 of the 3 masks in bent cover more than half"):
        refuse_inverted_set(2, 3, "bent")


def jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def test_what_a_phone_writes_behind_a_jpeg_does_no_harm(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg() + 5000 * b"x")
    assert read_image(tmp_path / "a.jpg").shape == (40, 40, 3)


def test_fill_bytes_between_the_parts_of_a_jpeg_do_no_harm(tmp_path):
    whole = jpeg()
    (tmp_path / "a.jpg").write_bytes(whole[:2] + 3 * b"\xff" + whole[2:])
    (tmp_path / "b.jpg").write_bytes(whole)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), read_image(tmp_path / "b.jpg"))


def test_a_small_picture_inside_does_not_hide_that_the_large_one_breaks_off(tmp_path):
    whole = jpeg()
    inside = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    cut = whole[:2] + inside + whole[2 : len(whole) // 2]
    assert b"\xff\xd9" in cut and not jpeg_ends(cut)
    (tmp_path / "a.jpg").write_bytes(cut)
    with pytest.raises(DataError, match="damaged"):
        read_image(tmp_path / "a.jpg")
