"""The textures of MiniDTD: six classes with names of DTD's, each picture with colours of its own.

A texture is a function of u and v, the coordinates of its pattern in periods: turned by any angle,
and slightly warped, so that no line is quite straight. It is drawn `FINE` times as large as the
picture, then averaged.
"""

from __future__ import annotations

import cv2
import numpy as np

from fmabs_lite.data.drawn.drawing import FINE, generator

SIDES = (128, 161)  # height and width are drawn from here, the end excluded
CONTRAST = 0.45  # least distance of the first two colours, in an RGB cube of side 1


def texture(kind: str, number: int, seed: int) -> np.ndarray:
    """Picture `number` of the class `kind`: RGB uint8 (H, W, 3), each side of 128 to 160."""
    rng = generator(seed, "texture", kind, number)
    height, width = rng.integers(*SIDES, 2).tolist()
    canvas = DRAW[kind](rng, (height * FINE, width * FINE))
    canvas *= 1 + 0.12 * noise(rng, canvas.shape[:2], 90)[..., None]  # uneven light
    small = cv2.resize(canvas.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    small += rng.normal(0, rng.uniform(0.005, 0.03), (height, width, 1))
    return np.clip(np.round(small * 255), 0, 255).astype(np.uint8)


# ---- pens --------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, shape: tuple[int, int], pixels: float) -> np.ndarray:
    """Smooth noise of mean 0 and deviation about 1 whose spots are about `pixels` wide."""
    cells = [max(2, round(side / FINE / pixels) + 1) for side in shape]
    coarse = rng.standard_normal(cells, dtype=np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def pattern(
    rng: np.random.Generator, shape: tuple[int, int], finest: float, coarsest: float
) -> tuple[np.ndarray, np.ndarray]:
    """u and v of every fine sample; a period is between `finest` and `coarsest` pixels long."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / FINE
    turn, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(finest), np.log(coarsest)))
    warp, start = rng.uniform(0, 0.12) * period, rng.uniform(0, period, 2)
    x = x + warp * noise(rng, shape, 40) + start[0]
    y = y + warp * noise(rng, shape, 40) + start[1]
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    return u / period, v / period


def palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` colours (count, 3), vivid or pale, of which the first two differ clearly."""
    vivid = rng.uniform(0.2, 1)
    while True:
        colours = rng.uniform(0.04, 0.96, (count, 3)).astype(np.float32)
        grey = colours.mean(1, keepdims=True)
        colours = grey + vivid * (colours - grey)
        if np.linalg.norm(colours[0] - colours[1]) >= CONTRAST:
            return colours


def mix(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`above` over `below` (colours or pictures), with opacity `share` clipped to [0, 1]."""
    share = np.clip(share, 0, 1)[..., None]
    return below + share * (above - below)


# ---- textures ----------------------------------------------------------------------------------


def banded(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Parallel bands, sharp or soft, of two colours; a third lies on some of them."""
    u, _ = pattern(rng, shape, 8, 48)
    first, second, third = palette(rng, 3)
    wide, sharp = rng.uniform(-0.5, 0.5), rng.uniform(0.7, 6)
    canvas = mix(first, second, (np.cos(2 * np.pi * u) + wide) * sharp + 0.5)
    return mix(canvas, third, (np.cos(np.pi * u) - rng.uniform(0.6, 1.1)) * 6)


def chequered(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Squares of two colours in turn."""
    u, v = pattern(rng, shape, 14, 70)
    first, second = palette(rng, 2)
    return mix(first, second, np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v) * 8 + 0.5)


def dotted(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Round dots in rows, straight or staggered, in one colour or in several."""
    u, v = pattern(rng, shape, 9, 40)
    ground, *inks = palette(rng, 4)
    u = u + 0.5 * rng.integers(2) * (np.floor(v) % 2)
    used = np.array(inks)[: rng.integers(1, 4)]
    cell = (np.floor(u) * 7 + np.floor(v) * 3).astype(int) % len(used)
    radius = rng.uniform(0.18, 0.42)
    away = np.hypot(u % 1 - 0.5, v % 1 - 0.5)
    return mix(ground, used[cell], (radius - away) * rng.uniform(6, 20) + 0.5)


def grid(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Two sets of lines that cross, over a ground that is itself a little blotchy."""
    u, v = pattern(rng, shape, 10, 44)
    ground, ink, other = palette(rng, 3)
    ground = mix(ground, other, 0.25 * noise(rng, shape, 30))
    thin = rng.uniform(0.06, 0.2)  # half a line's width, in periods
    away = np.minimum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5))
    return mix(ground, ink, (thin - away) * 20 + 0.5)


def marbled(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Clouds of two colours, with veins of a third where the noise passes through zero."""
    spot = rng.uniform(18, 60)
    clouds = sum(noise(rng, shape, spot / 2**level) / 2**level for level in range(4))
    veins = sum(noise(rng, shape, spot / 2**level) / 1.7**level for level in range(4))
    first, second, third = palette(rng, 3)
    canvas = mix(first, second, 0.5 + rng.uniform(0.3, 0.8) * clouds)
    return mix(canvas, third, 0.9 - np.abs(veins) * rng.uniform(3, 9))


def woven(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Threads of two colours that pass over and under each other, darker at their edges."""
    u, v = pattern(rng, shape, 5, 22)
    warp, weft = palette(rng, 2)
    floats = rng.integers(1, 4)  # crossings that a thread passes over; 1 is plain weave, else twill
    over = (np.floor(u) + np.floor(v)) % (floats + 1) < floats
    dark = rng.uniform(0.2, 0.6)
    bulge = np.maximum(np.sin(np.pi * np.where(over, u % 1, v % 1)), 0)  # rounding: below 0
    along = np.sqrt(bulge)
    return np.where(over[..., None], warp, weft) * (dark + (1 - dark) * along)[..., None]


DRAW = {
    "banded": banded,
    "chequered": chequered,
    "dotted": dotted,
    "grid": grid,
    "marbled": marbled,
    "woven": woven,
}
