"""Ink, light and lens: what every drawn picture of the embedded data sets shares.

Pictures are drawn on a *fine* canvas, `FINE` times the final size, as float32 RGB in [0, 1], and
then photographed by a `Camera`, which adds uneven light, blur and noise. Coordinates are always in
pixels of the final picture, x to the right and y down.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

SIZE = 128  # side of a final picture, pixels
FINE = 2  # fine samples per pixel and axis
VISIBLE = 3 / 255  # a defect counts where it changes a channel by at least 3 grey levels
SPECK = 6  # connected changes of fewer pixels than this are left out of picture and mask


def generator(seed: int, *words: str | int) -> np.random.Generator:
    """A random generator for one purpose: the same words give the same numbers in any order."""
    return np.random.default_rng([seed, *(zlib.crc32(str(word).encode()) for word in words)])


def grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of every fine sample, each (SIZE*FINE, SIZE*FINE), in final pixels."""
    axis = (np.arange(SIZE * FINE, dtype=np.float32) + 0.5) / FINE
    return tuple(np.meshgrid(axis, axis))


def mottle(rng: np.random.Generator, pixels: float) -> np.ndarray:
    """Smooth noise of mean 0 and deviation about 1 whose spots are about `pixels` wide."""
    side = SIZE * FINE
    cells = max(2, round(SIZE / pixels) + 1)
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def _extent(alpha: np.ndarray) -> tuple[slice, slice]:
    """The smallest box that holds all of a shape; most shapes are small, so this saves time."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not rows.size:
        return np.s_[:0, :0]
    return np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def blend(image: np.ndarray, colour, alpha: np.ndarray) -> None:
    """Lay `colour` (three numbers or a picture) over `image`, in place, with opacity `alpha`."""
    box, ink = _extent(alpha), np.asarray(colour, np.float32)
    ink = ink[box] if ink.ndim == 3 else ink
    image[box] += alpha[box][..., None].astype(np.float32) * (ink - image[box])


def shade(image: np.ndarray, alpha: np.ndarray, depth: float) -> None:
    """Darken `image` in place: by the fraction `depth` where `alpha` is 1."""
    box = _extent(alpha)
    image[box] *= (1 - np.float32(depth) * alpha[box])[..., None]


def _sixteenths(points: np.ndarray) -> np.ndarray:
    """Points in final pixels as the 1/16 fine pixels that OpenCV's `shift=4` means."""
    return np.round((np.asarray(points) * FINE - 0.5) * 16).astype(np.int32).reshape(-1, 1, 2)


def stroke(points: np.ndarray, width: float) -> np.ndarray:
    """Opacity of a line through `points` (n, 2), `width` pixels wide, in [0, 1]."""
    ink = np.zeros((SIZE * FINE, SIZE * FINE), np.uint8)
    thick = max(1, round(width * FINE))
    cv2.polylines(ink, [_sixteenths(points)], False, 255, thick, cv2.LINE_AA, shift=4)
    return ink.astype(np.float32) / 255


def patch(points: np.ndarray) -> np.ndarray:
    """Opacity of the polygon with corners `points` (n, 2), in [0, 1]."""
    ink = np.zeros((SIZE * FINE, SIZE * FINE), np.uint8)
    cv2.fillPoly(ink, [_sixteenths(points)], 255, cv2.LINE_AA, shift=4)
    return ink.astype(np.float32) / 255


def discs(centres: np.ndarray, radius: float) -> np.ndarray:
    """Opacity of round discs at `centres` (n, 2), in [0, 1]."""
    ink = np.zeros((SIZE * FINE, SIZE * FINE), np.uint8)
    for centre in _sixteenths(centres)[:, 0]:
        reach = round(radius * FINE * 16)
        cv2.circle(ink, centre.tolist(), reach, 255, -1, cv2.LINE_AA, shift=4)
    return ink.astype(np.float32) / 255


def blob(rng: np.random.Generator, centre, radius: float, soft: float) -> np.ndarray:
    """Opacity of an irregular round spot whose edge falls off over `soft` pixels."""
    x, y = grid()
    dx, dy = x - centre[0], y - centre[1]
    angle, reach = np.arctan2(dy, dx), np.full_like(dx, radius)
    for wave in range(2, 6):
        size, turn = rng.uniform(0, 0.35 / wave), rng.uniform(0, 2 * np.pi)
        reach += radius * size * 2 * np.cos(wave * angle + turn)
    return np.clip((reach - np.hypot(dx, dy)) / soft + 0.5, 0, 1)


def wander(rng: np.random.Generator, start, heading: float, length: float, curl: float):
    """A smooth random curve (n, 2) from `start`; `curl` is its turning, radians a step."""
    steps = max(4, round(length / 1.5))
    turns = np.cumsum(rng.normal(0, curl, steps))
    angle = heading + np.convolve(np.pad(turns, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    path = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1), 0) * length / steps
    return np.asarray(start) + path


def soften(alpha: np.ndarray, pixels: float) -> np.ndarray:
    """Gaussian blur with a deviation of `pixels` final pixels."""
    return cv2.GaussianBlur(alpha, (0, 0), pixels * FINE)


def cast(alpha: np.ndarray, shift: tuple[float, float], pixels: float) -> np.ndarray:
    """The soft shadow of a shape: moved by `shift` and blurred."""
    move = np.float32([[1, 0, shift[0] * FINE], [0, 1, shift[1] * FINE]])
    return soften(cv2.warpAffine(alpha, move, alpha.shape[::-1]), pixels)


def lay_thread(image: np.ndarray, rng: np.random.Generator, middle) -> None:
    """A foreign thread on top of everything, passing near `middle`, with its own shadow."""
    heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(26, 60)
    start = np.asarray(middle) - length / 2 * np.array([np.cos(heading), np.sin(heading)])
    path = wander(rng, start, heading, length, 0.16)
    line = stroke(path, rng.uniform(0.9, 1.7))
    tones = [(0.72, 0.16, 0.14), (0.15, 0.25, 0.6), (0.88, 0.87, 0.82), (0.1, 0.1, 0.12)]
    shade(image, cast(line, (0.8, 1.0), 0.6), 0.35)
    blend(image, tones[rng.integers(len(tones))], line * rng.uniform(0.45, 0.9))


@dataclass
class Camera:
    """One shot's light, lens and sensor noise, the same with and without the defect."""

    light: np.ndarray  # (SIZE, SIZE, 3) gain
    blur: float  # deviation of the lens blur, pixels
    noise: np.ndarray  # (SIZE, SIZE, 3) added at the end

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Camera:
        axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
        turn, slope, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.10), rng.uniform(0, 0.08)
        x, y = axis[None, :], axis[:, None]
        light = 1 + slope * (np.cos(turn) * x + np.sin(turn) * y) - fall * (x**2 + y**2)
        gain = rng.uniform(0.92, 1.08) * rng.normal(1, 0.008, 3)
        grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32)
        colour = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32)
        noise = rng.uniform(0.007, 0.014) * (0.9 * grain + 0.4 * colour)
        return cls((light[..., None] * gain).astype(np.float32), rng.uniform(0.35, 0.7), noise)

    def expose(self, canvas: np.ndarray) -> np.ndarray:
        """The fine canvas as the sensor would see it without noise: (SIZE, SIZE, 3), [0, 1]."""
        small = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(small, (5, 5), self.blur) * self.light

    def develop(self, exposed: np.ndarray) -> np.ndarray:
        """Noise and eight bits: uint8 RGB (SIZE, SIZE, 3)."""
        return np.clip(np.round((exposed + self.noise) * 255), 0, 255).astype(np.uint8)


def changed(sound: np.ndarray, flawed: np.ndarray) -> np.ndarray:
    """Where a defect shows: bool (SIZE, SIZE), without specks of fewer than `SPECK` pixels."""
    mask = (np.abs(flawed - sound).max(-1) >= VISIBLE).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= SPECK
    large[0] = False
    return large[parts]
