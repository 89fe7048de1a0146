"""Invented anomalies: each augmenter against another library, the masks against plain NumPy."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torchvision.transforms.v2 import functional as tv

import fmabs_lite.data.synthesis as synthesis
from fmabs_lite.data.synthesis import (
    AUGMENTERS,
    THRESHOLD,
    autocontrast,
    blend,
    brightness,
    colour,
    corrupt,
    distort,
    equalize,
    gamma,
    invert,
    perlin,
    posterize,
    rotate,
    sharpness,
    solarize,
    some_turned,
    turn,
    turned_coordinates,
)

CPU = torch.zeros(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def photo() -> torch.Tensor:
    """Two pictures in whole levels of 255, each channel with a histogram of its own."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((2, 3, 40, 56)), (0, 0, 3, 3))
    low, high = smooth.min(), smooth.max()
    stretched = ((smooth - low) / (high - low)) ** np.array([0.5, 1, 2]).reshape(3, 1, 1)
    return torch.from_numpy((30 + 200 * stretched).round() / 255).float()


def draw(monkeypatch, *values) -> None:
    """Let the next calls of `uniform` return these values, which must lie in the range asked."""
    queue = iter(values)

    def uniform(low, high, *shape, like):
        value = torch.as_tensor(next(queue), dtype=torch.float32)
        assert value.min() >= low and value.max() <= high
        return value.expand(shape).clone()

    monkeypatch.setattr(synthesis, "uniform", uniform)


def as_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def by_pil(images: torch.Tensor, change) -> torch.Tensor:
    changed = [np.asarray(change(as_pil(image))) for image in images]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).float() / 255


def by_colorsys(images: torch.Tensor, change) -> torch.Tensor:
    """`change` (hue, saturation, value) of each pixel, by the standard library."""
    pixels = images.double().movedim(1, -1).numpy()
    changed = [
        colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in pixels.reshape(-1, 3)
    ]
    return torch.from_numpy(np.reshape(changed, pixels.shape)).movedim(-1, 1).float()


def alike(a: torch.Tensor, b: torch.Tensor, atol: float = 2e-6) -> bool:
    return torch.allclose(a, b, rtol=0, atol=atol)


# --- what an augmenter does with a known parameter -------------------------------------------


def test_gamma_by_hand_and_for_each_channel(monkeypatch):
    draw(monkeypatch, torch.tensor([0.5, 1, 2]).view(1, 3, 1, 1))
    assert gamma(torch.full((1, 3, 1, 1), 0.25)).flatten().tolist() == [0.5, 0.25, 0.0625]


def test_gamma_like_torchvision(monkeypatch, photo):
    draw(monkeypatch, 1.7)
    assert alike(gamma(photo), tv.adjust_gamma(photo, 1.7))


@pytest.mark.parametrize("factor, shift", [(1.2, 0.1), (0.8, -0.1), (1.2, 30 / 255)])
def test_brightness_moves_the_value_of_hsv(monkeypatch, photo, factor, shift):
    draw(monkeypatch, factor, shift)
    expected = by_colorsys(photo, lambda h, s, v: (h, s, min(1, max(0, v * factor + shift))))
    assert alike(brightness(photo), expected)


def test_sharpness_of_one_bright_pixel_by_hand(monkeypatch):
    image = torch.zeros(1, 3, 5, 5)
    image[..., 2, 2] = 1
    draw(monkeypatch, 0.0)
    assert alike(
        sharpness(image)[0, 0, 1:4, 1:4] * 13, torch.tensor([[1, 1, 1.0], [1, 5, 1]])[[0, 1, 0]]
    )


@pytest.mark.parametrize("factor", [0.0, 0.4, 2.0])
def test_sharpness_like_torchvision_but_for_the_rim(monkeypatch, photo, factor):
    draw(monkeypatch, factor)
    inner = (..., slice(1, -1), slice(1, -1))  # torchvision leaves the rim as it was
    expected = tv.adjust_sharpness(photo, factor)[inner]
    assert alike(sharpness(photo).clamp(0, 1)[inner], expected)


@pytest.mark.parametrize("hue, saturation", [(50 / 255, 0), (-50 / 255, 0.1), (0.1, -50 / 255)])
def test_colour_like_the_standard_library(monkeypatch, photo, hue, saturation):
    grey_and_pure = torch.tensor([[0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    images = torch.cat([photo.flatten(2).movedim(1, -1).reshape(-1, 3), grey_and_pure])
    images = images.T[None, :, :, None]
    draw(monkeypatch, hue, saturation)
    expected = by_colorsys(
        images, lambda h, s, v: ((h + hue) % 1, min(1, max(0, s + saturation)), v)
    )
    # The hue of a nearly grey pixel is a quotient of small numbers.
    assert alike(colour(images), expected, atol=1e-5)


@pytest.mark.parametrize("level", [33, 100, 128])
def test_solarize_like_torchvision_in_the_half_that_is_chosen(monkeypatch, photo, level):
    draw(monkeypatch, (level - 0.5) / 255, torch.tensor([0.49, 0.51]).view(2, 1, 1, 1))
    got = solarize(photo)
    assert alike(got[0], tv.solarize(photo[0], (level - 0.5) / 255))
    assert not torch.equal(got[0], photo[0]) and torch.equal(got[1], photo[1])


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_every_level_like_pillow(monkeypatch, bits):
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    monkeypatch.setattr(torch, "randint", lambda low, high, shape: torch.full(shape, bits))
    assert alike(posterize(levels), by_pil(levels, lambda i: ImageOps.posterize(i, bits)))


def test_posterize_draws_one_to_eight_bits():
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(400, 3, 16, 16) / 255
    bits = [math.log2(len(image.unique())) for image in posterize(levels)]
    counts = [bits.count(k) for k in range(1, 9)]
    assert sum(counts) == 400 and min(counts) > 50 - 4 * math.sqrt(400 * 7 / 64)


def test_invert_and_equalize_like_pillow(photo):
    assert alike(invert(photo), by_pil(photo, ImageOps.invert))
    assert alike(equalize(photo), by_pil(photo, ImageOps.equalize))
    assert (equalize(photo) - photo).abs().max() > 0.1


@pytest.mark.parametrize("percent", [0, 1, 7, 20])
def test_autocontrast_like_pillow(monkeypatch, photo, percent):
    draw(monkeypatch, percent / 100)
    expected = by_pil(photo, lambda i: ImageOps.autocontrast(i, cutoff=percent))
    # Pillow cuts its result down to a whole level.
    difference = 255 * (autocontrast(photo).clamp(0, 1) - expected)
    assert difference.min() > -0.01 and difference.max() < 1.01


def test_autocontrast_leaves_a_flat_channel_alone(monkeypatch, photo):
    photo[:, 1] = 0.4
    draw(monkeypatch, 0.1)
    got = autocontrast(photo)
    assert torch.equal(got[:, 1], photo[:, 1]) and not torch.equal(got[:, 0], photo[:, 0])


NEUTRAL = {gamma: [1.0], brightness: [1.0, 0.0], sharpness: [1.0], colour: [0.0, 0.0],
           solarize: [0.3, 0.9], rotate: [0.0]}  # fmt: skip


@pytest.mark.parametrize("augment", NEUTRAL, ids=lambda a: a.__name__)
def test_neutral_parameters_change_nothing(monkeypatch, photo, augment):
    draw(monkeypatch, *NEUTRAL[augment])
    assert alike(augment(photo), photo, atol=1e-5)


# --- what it draws ---------------------------------------------------------------------------

RANGES = {
    gamma: [(0.5, 2)], brightness: [(0.8, 1.2), (-30 / 255, 30 / 255)], sharpness: [(0, 2)],
    colour: [(-50 / 255, 50 / 255)] * 2, solarize: [(32 / 255, 128 / 255), (0, 1)],
    autocontrast: [(0, 0.2)], rotate: [(-45, 45)],
}  # fmt: skip


@pytest.mark.parametrize("augment", RANGES, ids=lambda a: a.__name__)
def test_ranges_are_those_of_the_released_code(monkeypatch, photo, augment):
    asked = []

    def uniform(low, high, *shape, like):
        asked.append((low, high))
        return torch.full(shape, (low + high) / 2)

    monkeypatch.setattr(synthesis, "uniform", uniform)
    augment(photo)
    assert asked == RANGES[augment]


def test_uniform_fills_its_range():
    drawn = synthesis.uniform(-3, 5, 4000, 2, like=CPU)
    assert drawn.shape == (4000, 2) and -3 <= drawn.min() < -2.98 and 4.98 < drawn.max() < 5
    assert abs(drawn.mean() - 1) < 4 * 8 / math.sqrt(12 * 8000)


# Half of the images are not solarized; there are eight numbers of bits.
AT_LEAST = {gamma: 16, brightness: 16, sharpness: 16, colour: 16, solarize: 5, posterize: 4,
            autocontrast: 8, rotate: 16}  # fmt: skip


@pytest.mark.parametrize("augment", AT_LEAST, ids=lambda a: a.__name__)
def test_equal_images_of_a_batch_get_parameters_of_their_own(photo, augment):
    changed = augment(photo[:1].expand(16, -1, -1, -1).clone())
    assert len({image.numpy().tobytes() for image in changed}) >= AT_LEAST[augment]


@pytest.mark.parametrize("augment", AUGMENTERS, ids=lambda a: a.__name__)
def test_an_augmenter_leaves_its_argument_and_its_neighbours_alone(photo, augment):
    before = photo.clone()
    torch.manual_seed(1)
    pair = augment(photo)
    assert torch.equal(photo, before) and pair.shape == photo.shape
    torch.manual_seed(1)
    other = augment(torch.stack([photo[0], 1 - photo[1]]))
    assert torch.equal(other[0], pair[0])


def test_distort_takes_three_different_ones_in_random_order(monkeypatch):
    # Each augmenter writes its digit in front of the others, in base 11.
    digits = tuple(lambda x, k=k: (x + k + 1) / 11 for k in range(10))
    monkeypatch.setattr(synthesis, "AUGMENTERS", digits)
    n = 3000
    code = (distort(torch.zeros(n, 3, 1, 1))[:, 0, 0, 0] * 11**3).round().long()
    places = torch.stack([code // 121, code // 11 % 11, code % 11]) - 1  # last, second, first
    assert places.min() == 0 and places.max() == 9
    assert all(len(set(column)) == 3 for column in places.T.tolist())
    for place in places:
        counts = place.bincount(minlength=10)
        assert (counts - n / 10).abs().max() < 4 * math.sqrt(n * 0.09)
    assert len(set(map(tuple, places.T.tolist()))) > 600  # of 720 orders


def test_distorted_textures_stay_between_black_and_white(photo):
    flat = torch.stack([torch.zeros(3, 40, 56), torch.ones(3, 40, 56)])
    images = torch.cat([photo, flat, torch.rand(2, 3, 40, 56)]).repeat(40, 1, 1, 1)
    before = images.clone()
    got = distort(images)
    assert torch.equal(images, before)
    assert got.isfinite().all() and got.min() >= 0 and got.max() <= 1
    assert (got != images).flatten(1).any(dim=1).float().mean() > 0.7


# --- turning ---------------------------------------------------------------------------------


def test_a_quarter_turn_is_rot90():
    image = torch.rand(3, 2, 12, 12)
    turned = turn(image, torch.tensor([0.0, 90.0, -90.0]))
    assert alike(turned[0], image[0], atol=1e-5)
    assert alike(turned[1], image[1].rot90(1, (1, 2)), atol=1e-5)
    assert alike(turned[2], image[2].rot90(-1, (1, 2)), atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
def test_any_turn_like_scipy(shape):
    image = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 1)
    expected = ndimage.rotate(image, 31, reshape=False, order=1)
    got = turn(torch.from_numpy(image)[None, None].float(), torch.tensor([31.0]))[0, 0].numpy()
    inner = ndimage.binary_erosion(expected > 0, iterations=2)  # at the rim they fade otherwise
    assert inner.mean() > 0.5 and np.abs(got - expected)[inner].max() < 1e-4
    assert got[0, 0] == 0 and got[-1, -1] == 0  # what comes in is black


def test_three_in_ten_are_turned_by_up_to_ninety_degrees():
    n = 2000
    dot = torch.zeros(n, 1, 31, 31)
    dot[..., 15, 27] = 1  # on the right, twelve pixels from the middle
    turned = some_turned(dot, 0.3)
    moved = (turned != dot).flatten(1).any(dim=1)
    assert abs(moved.sum() - 0.3 * n) < 4 * math.sqrt(0.21 * n)
    assert torch.equal(turned[~moved], dot[~moved])
    weight = turned[moved][:, 0]
    place = torch.arange(31.0) - 15
    x = (weight.sum(1) * place).sum(1) / weight.sum((1, 2))
    y = (weight.sum(2) * place).sum(1) / weight.sum((1, 2))
    angle = torch.rad2deg(torch.atan2(-y, x))
    assert -91 < angle.min() < -85 and 85 < angle.max() < 91
    assert abs(angle.mean()) < 4 * 52 / math.sqrt(len(angle))


# --- Perlin noise ----------------------------------------------------------------------------


def plain_perlin(x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Perlin noise at positions in cells (x along columns, y along rows), by the textbook."""
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (np.polyval([6, -15, 10, 0, 0, 0], t) for t in (x - left, y - top))
    noise = 0
    for down in (0, 1):
        for right in (0, 1):
            a = angle[top + down, left + right]
            ramp = np.cos(a) * (x - left - right) + np.sin(a) * (y - top - down)
            noise = noise + ramp * (fx if right else 1 - fx) * (fy if down else 1 - fy)
    return math.sqrt(2) * noise


def plain_mask(size: int, rng: np.random.Generator) -> np.ndarray:
    """One mask by way of the released code: noise on a grid, then turned as an image.

    With cubic interpolation: the linear one of the released code flattens the peaks, which takes
    0.3 of 4.8 % off the area at 128², and 0.08 at 256².
    """
    rows, columns = 2 ** rng.integers(0, 6, 2)
    y, x = np.mgrid[:size, :size] / size
    noise = plain_perlin(
        x * columns, y * rows, rng.uniform(0, 2 * math.pi, (rows + 1, columns + 1))
    )
    return ndimage.rotate(noise, rng.uniform(-90, 90), reshape=False, order=3) > 0.5


@pytest.mark.parametrize("cells", [(1, 1), (32, 2), (4, 16)])
def test_noise_is_perlins_at_every_pixel(monkeypatch, cells):
    angle = torch.rand(1, 33 * 33) * 2 * math.pi
    monkeypatch.setattr(
        torch, "randint", lambda low, high, shape: torch.tensor([cells]).log2().long()
    )
    h, w = 48, 64
    y, x = ((np.mgrid[:h, :w] + 0.5).reshape(2, -1) / [[h], [w]]).reshape(2, h, w)
    draw(monkeypatch, 0.0, angle)
    expected = plain_perlin(x * cells[0], y * cells[1], angle.view(33, 33).numpy())
    assert np.abs(perlin(1, h, w, like=CPU)[0, 0].numpy() - expected).max() < 1e-4


def test_turned_noise_is_the_noise_turned(monkeypatch):
    angle = torch.rand(1, 33 * 33) * 2 * math.pi
    monkeypatch.setattr(torch, "randint", lambda low, high, shape: torch.tensor([[1, 2]]))
    noise = []
    for degrees in (0.0, 90.0, 30.0):
        draw(monkeypatch, degrees, angle)
        noise.append(perlin(1, 96, 96, like=CPU))
    assert alike(noise[1], noise[0].rot90(1, (2, 3)), atol=1e-4)
    expected = turn(noise[0], torch.tensor([30.0]))
    x, y = turned_coordinates(96, 96, torch.tensor([30.0]))
    inside = ((x - 0.5).abs() < 0.48) & ((y - 0.5).abs() < 0.48)
    assert (noise[2] - expected)[0][inside].abs().max() < 0.02  # one of them is interpolated
    outside = ((x - 0.5).abs() > 0.5) | ((y - 0.5).abs() > 0.5)
    assert outside.any() and (noise[2][0][outside] == 0).all()


def test_cells_and_angles_have_the_published_ranges(monkeypatch):
    asked = []
    ours, randint = synthesis.uniform, torch.randint
    monkeypatch.setattr(torch, "randint", lambda *a: asked.append(a) or randint(*a))
    monkeypatch.setattr(
        synthesis, "uniform", lambda *a, like: asked.append(a) or ours(*a, like=like)
    )
    perlin(5, 32, 32, like=CPU)
    assert asked == [(0, 6, (5, 2)), (-90, 90, 5), (0, 2 * math.pi, 5, 33 * 33)]


@pytest.fixture(scope="module")
def areas() -> np.ndarray:
    """The share of the image that is masked, in 3000 draws at 128²."""
    torch.manual_seed(0)
    masks = [perlin(50, 128, 128, like=CPU) > THRESHOLD for _ in range(60)]
    return torch.cat(masks).float().mean(dim=(1, 2, 3)).numpy()


def test_masks_have_the_sizes_of_the_released_code(areas):
    n, found = len(areas), areas[areas > 0]
    assert abs(np.mean(areas == 0) - 0.051) < 4 * math.sqrt(0.051 * 0.949 / n)
    assert abs(areas.mean() - 0.049) < 4 * areas.std() / math.sqrt(n)
    # The error of a quantile is √(q (1 − q) / n) over the density there: 0.0007 and 0.001.
    assert abs(np.median(found) - 0.048) < 0.003
    assert abs(np.quantile(found, 0.9) - 0.074) < 0.004


def test_masks_are_distributed_like_those_of_a_plain_implementation(areas):
    rng = np.random.default_rng(0)
    plain = np.array([plain_mask(128, rng).mean() for _ in range(600)])
    error = areas.std() * math.sqrt(1 / 600 + 1 / len(areas))
    assert abs(plain.mean() - areas.mean()) < 4 * error
    empty = np.mean(areas == 0)
    error = math.sqrt(empty * (1 - empty) * (1 / 600 + 1 / len(areas)))
    assert abs(np.mean(plain == 0) - empty) < 4 * error
    at = np.linspace(0.01, 0.15, 29)
    distance = np.abs((plain[:, None] > at).mean(0) - (areas[:, None] > at).mean(0)).max()
    assert distance < 1.95 * math.sqrt(1 / 600 + 1 / len(areas))  # Kolmogorov–Smirnov, p = 0.001


# --- all together ----------------------------------------------------------------------------


@pytest.fixture
def textures() -> torch.Tensor:
    return torch.randint(0, 256, (7, 3, 64, 64)).byte()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(48, 3, 64, 64)


def test_the_input_differs_from_the_target_exactly_in_the_mask(images, textures):
    before, kept = images.clone(), textures.clone()
    got = corrupt(images, textures)
    assert got.input.shape == got.target.shape == images.shape
    assert got.mask.shape == (48, 1, 64, 64) and got.mask.dtype == torch.bool
    differs = (got.input != got.target).any(dim=1, keepdim=True)
    # Random images and textures hardly ever agree where they overlap.
    assert not (differs & ~got.mask).any() and (got.mask & ~differs).sum() < 0.01 * got.mask.sum()
    touched = got.mask.flatten(1).any(dim=1)
    assert 10 < touched.sum() < 38 and torch.equal(got.input[~touched], got.target[~touched])
    assert got.input.min() >= 0 and got.input.max() <= 1
    assert torch.equal(images, before) and torch.equal(textures, kept)


def test_what_is_turned_is_turned_in_the_target_too(images, textures):
    got = corrupt(images, textures, share=0, turned=0.5)
    assert torch.equal(got.input, got.target) and not got.mask.any()
    turned = (got.target != images).flatten(1).any(dim=1)
    assert 10 < turned.sum() < 38
    got = corrupt(images, textures, share=1, turned=1)
    outside = (~got.mask).expand_as(images)
    assert torch.equal(got.input[outside], got.target[outside])
    assert (got.target != images).flatten(1).any(dim=1).all()


def test_no_share_changes_nothing(images, textures):
    got = corrupt(images, textures, share=0, turned=0)
    assert torch.equal(got.input, images) and torch.equal(got.target, images)
    assert not got.mask.any()


def test_nearly_half_of_the_images_are_truly_corrupted(monkeypatch):
    monkeypatch.setattr(synthesis, "distort", lambda drawn: drawn)  # only the masks count here
    n = 1600
    got = corrupt(torch.zeros(n, 1, 64, 64), torch.zeros(1, 1, 64, 64).byte())
    share = got.mask.flatten(1).any(dim=1).float().mean()
    assert abs(share - 0.477) < 4 * math.sqrt(0.25 / n)


def test_blend_by_hand_and_only_in_the_mask(monkeypatch):
    draw(monkeypatch, torch.tensor([0.0, 0.25, 0.8]).view(3, 1, 1, 1))
    mask = torch.tensor([[True, False]]).expand(3, 1, 1, 2)
    got = blend(torch.zeros(3, 3, 1, 2), torch.ones(3, 3, 1, 2), mask)
    assert alike(got[:, :, 0, 0], torch.tensor([[1.0], [0.75], [0.2]]).expand(3, 3))
    assert (got[..., 1] == 0).all()


def test_white_on_black_shows_that_beta_is_uniform_and_drawn_for_each_image(monkeypatch):
    monkeypatch.setattr(synthesis, "distort", lambda drawn: drawn)
    n = 1000
    got = corrupt(torch.zeros(n, 3, 32, 32), torch.full((1, 3, 32, 32), 255).byte(), share=1)
    inside = [image[:, m[0]] for image, m in zip(got.input, got.mask, strict=True) if m.any()]
    assert len(inside) > 0.9 * n and all(v.amax() - v.amin() < 1e-6 for v in inside)
    seen = np.sort([float(v.mean()) for v in inside])
    assert 0.2 <= seen[0] < 0.21 and 0.99 < seen[-1] <= 1
    steps = np.arange(1, len(seen) + 1) / len(seen)
    assert np.abs((seen - 0.2) / 0.8 - steps).max() < 1.95 / math.sqrt(len(seen))


def test_every_texture_is_drawn_and_for_each_image_anew(monkeypatch):
    monkeypatch.setattr(synthesis, "distort", lambda drawn: drawn)
    draw_beta_zero = lambda images, anomaly, mask: torch.where(mask, anomaly, images)  # noqa: E731
    monkeypatch.setattr(synthesis, "blend", draw_beta_zero)
    flat = torch.tensor([50, 100, 150, 200]).byte().view(4, 1, 1, 1).expand(4, 3, 32, 32)
    got = corrupt(torch.zeros(400, 3, 32, 32), flat, share=1)
    seen = [round(255 * float(image.max())) for image in got.input]
    assert set(seen) - {0} == {50, 100, 150, 200}
    assert all(abs(seen.count(v) - 95) < 4 * math.sqrt(75) for v in (50, 100, 150, 200))


def test_the_same_seed_gives_the_same_anomalies(images, textures):
    def under(seed: int):
        torch.manual_seed(seed)
        np.random.seed(seed + 9)  # nothing but torch's own generator counts
        return corrupt(images, textures)

    first, again, other = under(1), under(1), under(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.mask, other.mask)


def test_images_and_textures_of_two_sizes_are_refused(images):
    with pytest.raises(ValueError, match=r"\(64, 64\) pixels, the textures \(32, 64\).*same size"):
        corrupt(images, torch.zeros(2, 3, 32, 64).byte())
