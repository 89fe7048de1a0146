"""Stripes, and somewhere a screen of static: a world made for one question (chapter 04).

Nobody can reconstruct static, so it is the loudest place of every error map; and it is normal. What
is anomalous is quiet: a patch whose stripes run the other way.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from fmabs_lite.data.mvtec import Images, MVTecAD

PERIOD = 8  # pixels of one stripe, along either axis
SCREEN = 20  # pixels along a side of the screen
CONTRAST = 0.2  # of the stripes, around a grey of one half
WORLDS = {"static": 0.3, "stripes": 0.0}  # standard deviation of the static


def open_category(root: Path | str, category: str, size: int = 64) -> "MVTecAD | Static":
    """A category by its name: "static" and "stripes", or any of MVTec AD, which lie in `root`.

    In "stripes" every screen is off. Raises as `MVTecAD` and `Static` do.
    """
    if category in WORLDS:
        return Static(size, WORLDS[category])
    return MVTecAD(root, category, size)


class Static:
    """Synthetic images of stripes, read like a category of MVTec AD: `.train`, `.test` (`Images`).

    Args:
        size: images are uint8 (3, size, size), grey.
        noise: standard deviation of the static, in [0, 1]; 0 turns every screen off.
        patches: sides of the turned patches, in pixels; each is a kind of defect, "turned 16".
        train: normal images to learn from. each: test images of each kind, "good" among them.
        seed: of everything that is drawn.
    Raises:
        ValueError: when the images have no room for a screen and a patch beside it.
    """

    def __init__(
        self,
        size: int = 64,
        noise: float = 0.3,
        patches: tuple[int, ...] = (16, 12, 8),
        train: int = 400,
        each: int = 40,
        seed: int = 0,
    ):
        largest = max(patches, default=0)
        if size < SCREEN + 2 * largest:
            raise ValueError(
                f"Images of {size}×{size} pixels have no room for a screen of {SCREEN} pixels and "
                f"a patch of {largest} beside it, wherever the screen is. Ask for "
                f"{SCREEN + 2 * largest} pixels or more."
            )
        self.category = "static" if noise else "stripes"
        self.size, self.noise, self.patches = size, noise, tuple(patches)
        self.counts, self.seed = (train, each), seed

    @cached_property
    def train(self) -> Images:
        """The normal images to learn from."""
        return self._drawn([0] * self.counts[0], np.random.default_rng([self.seed, 0]))

    @cached_property
    def test(self) -> Images:
        """Normal images, and as many of each kind of patch, with their masks."""
        sides = np.repeat([0, *self.patches], self.counts[1])
        return self._drawn(sides.tolist(), np.random.default_rng([self.seed, 1]))

    def _drawn(self, sides: list[int], rng: np.random.Generator) -> Images:
        drawn = [self._picture(side, rng) for side in sides]
        grey = np.stack([picture for picture, _ in drawn]).clip(0, 1)
        images = torch.from_numpy((255 * grey).round().astype(np.uint8))[:, None]
        kinds = ["good" if side == 0 else f"turned {side}" for side in sides]
        return Images(
            images=images.repeat(1, 3, 1, 1),
            masks=torch.from_numpy(np.stack([mask for _, mask in drawn])),
            labels=torch.tensor([int(side > 0) for side in sides]),
            defects=kinds,
            names=[f"{kind}/{number:03}" for number, kind in enumerate(kinds)],
        )

    def _picture(self, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One picture (size, size), and the mask of its patch; no patch when `side` is 0."""
        y, x = np.mgrid[: self.size, : self.size]
        picture = stripes(x + y, rng)
        screen = corner(self.size, SCREEN, rng)
        if self.noise:
            static = 0.5 + self.noise * rng.standard_normal((SCREEN, SCREEN))
            picture[square(screen, SCREEN)] = static
        mask = np.zeros_like(picture, dtype=bool)
        if side:
            patch = corner(self.size, side, rng)
            while touching(screen, SCREEN, patch, side):
                patch = corner(self.size, side, rng)
            mask[square(patch, side)] = True
            picture = np.where(mask, stripes(x - y, rng), picture)
        return picture, mask


def stripes(along: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sine of `along`, shifted by chance."""
    return 0.5 + CONTRAST * np.sin(2 * np.pi * (along / PERIOD + rng.uniform()))


def corner(size: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Where a square of this side may begin: row and column."""
    return rng.integers(0, size - side + 1, 2)


def square(at: np.ndarray, side: int) -> tuple[slice, slice]:
    """The rows and columns of a square."""
    return tuple(slice(first, first + side) for first in at)


def touching(one: np.ndarray, one_side: int, other: np.ndarray, other_side: int) -> bool:
    """Whether two squares share a pixel or an edge."""
    return bool(((one <= other + other_side) & (other <= one + one_side)).all())
