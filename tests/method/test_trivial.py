"""The trivial detectors: hand-computed numbers, another implementation of the blur, bad input."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fmabs_lite.metrics import auroc
from fmabs_lite.trivial import PixelDeviation, frame_difference, speed_contrast


def test_pixel_deviation_by_hand():
    # One pixel, three channels; over two training images 0 and 102 (0.4): mean 0.2, deviation 0.2.
    train = np.zeros((2, 3, 1, 1), np.uint8)
    train[1] = 102
    test = np.full((1, 3, 1, 1), 153, np.uint8)  # 0.6
    test[0, 2] = 51  # 0.2: the mean itself
    maps = PixelDeviation(eps=0.0).fit(train).maps(test)
    assert maps.shape == (1, 1, 1) and maps.dtype == np.float32
    assert maps.item() == pytest.approx((2 + 2 + 0) / 3, rel=1e-6)


def test_pixel_deviation_equals_numpy_on_the_whole_array():
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (2, 12, 3, 7, 5), dtype=np.uint8)
    mean, std = (train / 255).mean(axis=0), (train / 255).std(axis=0)
    expected = (np.abs(test / 255 - mean) / (std + 1 / 255)).mean(axis=1)
    np.testing.assert_allclose(PixelDeviation().fit(train).maps(test), expected, rtol=1e-5)


def test_pixel_deviation_takes_tensors_and_pixels_that_never_vary():
    train = torch.full((4, 3, 6, 6), 200, dtype=torch.uint8)
    test = train[:1].clone()
    test[0, :, 2, 3] = 202
    maps = PixelDeviation().fit(train).maps(test)
    assert np.isfinite(maps).all()
    assert maps[0, 2, 3] == pytest.approx(2, rel=1e-5)  # two grey levels, in units of one
    assert np.count_nonzero(maps > 1e-6) == 1


def test_pixel_deviation_finds_what_is_out_of_place_on_aligned_images():
    rng = np.random.default_rng(1)
    train = rng.integers(90, 110, (20, 3, 16, 16), dtype=np.uint8)
    test = rng.integers(90, 110, (6, 3, 16, 16), dtype=np.uint8)
    masks = np.zeros((6, 16, 16), bool)
    masks[:3, 4:7, 4:7] = True
    test[:3, :, 4:7, 4:7] += 40
    assert auroc(PixelDeviation().fit(train).maps(test), masks) > 0.999


@pytest.mark.parametrize("sigma", [0, 0.7, 2, 5])
def test_frame_difference_equals_scipy(sigma):
    frames = np.random.default_rng(2).integers(0, 256, (5, 3, 40, 60), dtype=np.uint8)
    maps = frame_difference(frames, sigma)
    for t in range(1, 5):
        change = np.abs(frames[t] / 255 - frames[t - 1] / 255).mean(axis=0)
        expected = ndimage.gaussian_filter(change, sigma) if sigma else change
        np.testing.assert_allclose(maps[t], expected, atol=1e-5)
    np.testing.assert_array_equal(maps[0], maps[1])
    assert maps.dtype == np.float32 and maps.shape == (5, 40, 60)


def test_frame_difference_in_units_of_brightness_and_without_a_sign():
    frames = np.zeros((3, 1, 4, 4), np.uint8)
    frames[1] = 255
    np.testing.assert_array_equal(frame_difference(frames, 0), np.ones((3, 4, 4), np.float32))


def walkers(seed: int, count: int) -> list[np.ndarray]:
    """Noisy clips of one soft blob that drifts two pixels a frame."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :64]
    clips = []
    for _ in range(count):
        clip = rng.normal(60, 12, (20, 1, 32, 64))
        for t in range(20):
            distance = (rows - 16) ** 2 + (columns - 12 - 2 * t) ** 2
            clip[t, 0] += 70 * np.exp(-distance / (2 * 4**2))
        clips.append(clip.clip(0, 255).astype(np.uint8))
    return clips


def test_the_speed_contrast_is_highest_at_the_blur_that_fits_what_moves():
    # Without blur the maximum is noise; with a blur far wider than the blob it is lost again.
    contrast = speed_contrast(walkers(3, 4), [0, 3, 40])
    assert list(contrast) == [0, 3, 40]
    assert contrast[3] > contrast[0] + 0.1 and contrast[3] > contrast[40]


def test_footage_that_stands_still_has_no_speed_contrast():
    clip = np.random.default_rng(4).integers(0, 256, (1, 1, 16, 16), dtype=np.uint8)
    still = np.repeat(clip, 9, axis=0)
    assert speed_contrast(iter([still, still]), iter([0, 2])) == {0: 0.5, 2: 0.5}


def test_unfit_input_is_refused():
    images = np.zeros((2, 3, 8, 8), np.uint8)
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, C, H, W\)"):
        PixelDeviation().fit(images / 255)
    with pytest.raises(ValueError, match="not empty"):
        PixelDeviation().fit(images[:0])
    with pytest.raises(ValueError, match=r"images are \(3, 4, 8\), but fit saw \(3, 8, 8\)"):
        PixelDeviation().fit(images).maps(images[:, :, :4])
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, C, H, W\)"):
        frame_difference(images[:, 0], 1)
    with pytest.raises(ValueError, match="one frame only"):
        frame_difference(images[:1], 1)
    with pytest.raises(ValueError, match="sigma is -1"):
        frame_difference(images, -1)
