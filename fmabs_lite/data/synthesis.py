"""Anomalies that DRAEM invents: Perlin masks, distorted textures, blending (chapter 10).

After Zavrtanik, Kristan and Skočaj, ICCV 2021, and the settings of its released code. All works
on batches, on the device of the images. The parameters are drawn for each image by itself, and on
the CPU: they are few beside the pixels, and one seed gives the same anomalies on every device.
Nothing is read back from there, and what goes there is `sent`, so that the CPU is never kept
waiting for a GPU.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

FINEST = 5  # Perlin noise has 2⁰ … 2⁵ cells along each axis
THRESHOLD = 0.5  # what is above it in the noise is the mask


class Corrupted(NamedTuple):
    """What DRAEM is shown, what it should repair, and what it should find."""

    input: Tensor  # (B, 3, H, W) in [0, 1]
    target: Tensor  # the same images without the anomaly
    mask: Tensor  # bool (B, 1, H, W), True where the input was overwritten


def sent(drawn: Tensor, like: Tensor) -> Tensor:
    """`drawn` on the device of `like`; what comes from the CPU, without waiting until it is there.

    The other way one has to wait: the CPU would read what has not arrived.
    """
    return drawn.to(like.device, non_blocking=drawn.device.type == "cpu")


def uniform(low: float, high: float, *shape: int, like: Tensor) -> Tensor:
    """Numbers in [low, high), drawn on the CPU, then moved to the device of `like`."""
    return sent(low + (high - low) * torch.rand(shape), like)


def corrupt(images: Tensor, textures: Tensor, share: float = 0.5, turned: float = 0.3) -> Corrupted:
    """Overwrite parts of some images with distorted textures (DRAEM, section 3.3).

    Args:
        images: (B, 3, H, W), values in [0, 1].
        textures: uint8 (N, 3, H, W), from which one is drawn for each anomaly.
        share: of the images that get an anomaly; its mask may still come out empty.
        turned: share of the images that are first turned by up to 90° to either side.
    Raises:
        ValueError: when images and textures differ in size.
    """
    if images.shape[-2:] != textures.shape[-2:]:
        raise ValueError(
            f"The images are {tuple(images.shape[-2:])} pixels, the textures "
            f"{tuple(textures.shape[-2:])}. Load both with the same size."
        )
    target = some_turned(images, turned)
    mask = torch.zeros_like(images[:, :1], dtype=torch.bool)
    chosen = sent((torch.rand(len(images)) < share).nonzero()[:, 0], images)
    if not len(chosen):
        return Corrupted(target, target, mask)
    drawn = textures[sent(torch.randint(len(textures), (len(chosen),)), textures)]
    anomaly = distort(sent(drawn, images).float().div_(255))
    mask[chosen] = perlin(len(chosen), *images.shape[-2:], like=images) > THRESHOLD
    overwritten = blend(target.index_select(0, chosen), anomaly, mask[chosen])
    return Corrupted(target.index_copy(0, chosen, overwritten), target, mask)


def blend(images: Tensor, anomaly: Tensor, mask: Tensor) -> Tensor:
    """(1 − β) · A + β · I inside the mask, β ~ U(0, 0.8) for each image; I outside."""
    beta = uniform(0, 0.8, len(images), 1, 1, 1, like=images)
    return torch.lerp(images, anomaly, (1 - beta) * mask)


def perlin(b: int, h: int, w: int, like: Tensor) -> Tensor:
    """Perlin noise turned by up to 90° to either side, (b, 1, h, w), mostly within −1 … 1.

    Each image has 2⁰ … 2⁵ cells along each axis, and a gradient of length 1 in each corner. The
    turned noise is computed at the turned coordinates; outside of the unturned square it is 0.
    """
    cells = sent(2 ** torch.randint(0, FINEST + 1, (b, 2)), like)
    x, y = turned_coordinates(h, w, uniform(-90, 90, b, like=like))
    near_x, near_y = x.clamp(0, 1 - 1e-6), y.clamp(0, 1 - 1e-6)
    inside = (x == near_x) & (y == near_y)
    x, y = near_x * cells[:, :1, None], near_y * cells[:, 1:, None]
    left, top = x.floor(), y.floor()
    x, y = x - left, y - top
    side = 2**FINEST + 1
    angle = uniform(0, 2 * math.pi, b, side * side, like=like)
    gradient = torch.stack([angle.cos(), angle.sin()])
    corner = (top * side + left).long().flatten(1)

    def ramp(down: int, right: int) -> Tensor:
        gx, gy = gradient.gather(2, (corner + (down * side + right)).expand(2, -1, -1))
        return (gx.view_as(x) * (x - right)).addcmul_(gy.view_as(y), y - down)

    fx, fy = fade(x), fade(y)
    noise = torch.lerp(
        torch.lerp(ramp(0, 0), ramp(0, 1), fx), torch.lerp(ramp(1, 0), ramp(1, 1), fx), fy
    )
    return (math.sqrt(2) * noise * inside)[:, None]


def fade(t: Tensor) -> Tensor:
    """6t⁵ − 15t⁴ + 10t³: from 0 to 1 with slope and curvature 0 at both ends."""
    return t * t * t * (t * (t * 6 - 15) + 10)  # a power would take longer than all the rest


def turned_coordinates(h: int, w: int, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """x and y (B, h, w) of each pixel's centre after a turn about the middle; 0 … 1 is inside."""
    radians = torch.deg2rad(degrees)[:, None, None]
    cos, sin = radians.cos(), radians.sin()
    y = torch.arange(h, device=degrees.device).view(1, h, 1) + 0.5 - h / 2
    x = torch.arange(w, device=degrees.device).view(1, 1, w) + 0.5 - w / 2
    # Rows and columns are worked out apart; one sum for each coordinate makes the whole plane.
    return (x * cos / w + 0.5) - y * sin / w, (x * sin / h + 0.5) + y * cos / h


def turn(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image (B, C, H, W) about its middle by its own angle; what comes in is black."""
    x, y = turned_coordinates(*images.shape[-2:], degrees)
    grid = torch.stack([2 * x - 1, 2 * y - 1], dim=-1)
    return F.grid_sample(images, grid, align_corners=False)


def some_turned(images: Tensor, share: float, limit: float = 90) -> Tensor:
    """The images, a share of them turned by up to `limit` degrees to either side."""
    chosen = sent((torch.rand(len(images)) < share).nonzero()[:, 0], images)
    if not len(chosen):
        return images
    degrees = uniform(-limit, limit, len(chosen), like=images)
    return images.index_copy(0, chosen, turn(images[chosen], degrees))


def distort(images: Tensor) -> Tensor:
    """Three of the ten augmenters, in random order, drawn for each image (B, 3, H, W)."""
    order = torch.stack([torch.randperm(len(AUGMENTERS))[:3] for _ in images])
    images = images.clone()
    for place in range(3):
        for kind, augment in enumerate(AUGMENTERS):
            chosen = sent((order[:, place] == kind).nonzero()[:, 0], images)
            if len(chosen):
                changed = augment(images.index_select(0, chosen)).clamp_(0, 1)
                images.index_copy_(0, chosen, changed)
    return images


def gamma(images: Tensor) -> Tensor:
    """Each channel to a power of 0.5 … 2."""
    return images ** uniform(0.5, 2, len(images), 3, 1, 1, like=images)


def brightness(images: Tensor) -> Tensor:
    """The value of HSV times 0.8 … 1.2, plus up to 30 of 255 to either side."""
    value = images.amax(dim=1, keepdim=True).clamp(min=1e-6)
    factor = uniform(0.8, 1.2, len(images), 1, 1, 1, like=images)
    shift = uniform(-30 / 255, 30 / 255, len(images), 1, 1, 1, like=images)
    return images * ((value * factor + shift).clamp(0, 1) / value)


def sharpness(images: Tensor) -> Tensor:
    """Between smoothed (0), unchanged (1) and as much the other way (2)."""
    around = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = around[..., :-2, :] + around[..., 1:-1, :] + around[..., 2:, :]
    square = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smoothed = (square + 4 * images) / 13  # the centre counts five times
    return torch.lerp(smoothed, images, uniform(0, 2, len(images), 1, 1, 1, like=images))


def colour(images: Tensor) -> Tensor:
    """Hue shifted by up to 50/255 of the circle, saturation by up to 50/255."""
    value, low = images.amax(dim=1), images.amin(dim=1)
    chroma = (value - low).clamp(min=1e-6)
    red, green, blue = images.unbind(1)
    hue = torch.where(
        value == red,
        (green - blue) / chroma,
        torch.where(value == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma),
    )
    hue = hue + 6 * uniform(-50 / 255, 50 / 255, len(images), 1, 1, like=images)
    hue = hue - 6 * (hue / 6).floor()
    saturation = (value - low) / value.clamp(min=1e-6)
    saturation = saturation + uniform(-50 / 255, 50 / 255, len(images), 1, 1, like=images)
    pure = torch.stack([(hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs()], dim=1)
    depth = value * saturation.clamp(0, 1)
    return value[:, None] - depth[:, None] * (1 - pure.clamp(0, 1))


def solarize(images: Tensor) -> Tensor:
    """Invert what is brighter than 32 … 128 of 255, in half of the images."""
    threshold = uniform(32 / 255, 128 / 255, len(images), 1, 1, 1, like=images)
    rarely = uniform(0, 1, len(images), 1, 1, 1, like=images) < 0.5
    return torch.where((images >= threshold) & rarely, 1 - images, images)


def posterize(images: Tensor) -> Tensor:
    """Keep the highest 1 … 8 bits."""
    step = 2.0 ** -sent(torch.randint(1, 9, (len(images), 1, 1, 1)), images)
    return ((images * (255 / 256)) / step).floor() * step * (256 / 255)


def invert(images: Tensor) -> Tensor:
    return 1 - images


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel over 0 … 1, after cutting 0 … 20 % off both ends."""
    cut = uniform(0, 0.2, len(images), 1, 1, like=images)
    levels = (images * 255).long().flatten(2)
    counts = torch.zeros(*levels.shape[:2], 256, device=images.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels, dtype=counts.dtype))
    below = counts.cumsum(2) / levels.shape[2]
    low = (below <= cut).sum(2)[..., None, None] / 255
    high = (below < 1 - cut).sum(2)[..., None, None] / 255
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1e-6), images)


def equalize(images: Tensor) -> Tensor:
    """Give each channel a flat histogram."""
    from torchvision.transforms.v2 import functional as tv  # slow to import

    return tv.equalize((images * 255).to(torch.uint8)).float() / 255


def rotate(images: Tensor) -> Tensor:
    """Turn by up to 45° to either side."""
    return turn(images, uniform(-45, 45, len(images), like=images))


AUGMENTERS = (
    gamma, brightness, sharpness, colour, solarize, posterize, invert, autocontrast, equalize,
    rotate,
)  # fmt: skip
