"""The drawn street and the cameras that watch it.

A `View` is a camera: MiniAvenue's stands beside the path, MiniPed2's looks down from afar, and
MiniShanghai has three. A `Paint` gives the street other slabs and colours.
`film` draws puppets into it, nearer ones over farther ones, with their shadows, and returns what
the sensor sees and where an event shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from fmabs_lite.data.drawn.figures import Puppet, fixed

FINE = 2  # fine samples per pixel and axis
SUN = np.array([0.55, -0.3])  # metres a shadow moves along x and y per metre of height
WALL = 10.0  # y of the house front, metres
SHADOW = 0.42  # how much a shadow darkens
NOISE = 2.0  # deviation of the sensor noise, grey levels
THICK = 0.055  # metres; thinner parts, such as forearms and spokes, cast no shadow
LEAST = 8  # an event that shows in fewer pixels than this does not show


@dataclass
class View:
    """A pinhole camera."""

    eye: tuple[float, float, float]
    aim: tuple[float, float, float]
    focal: float  # pixels of the final frame
    height: int
    width: int
    upright: bool = False  # the path runs up the picture, not from left to right

    def axes(self) -> np.ndarray:
        """Rows: right, down, forward, as unit vectors of the street."""
        forward = np.subtract(self.aim, self.eye)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0, 0, 1))
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points (..., 3) as fine pixels (..., 2), and their depth (...), metres."""
        local = (points - np.array(self.eye)) @ self.axes().T
        depth = np.maximum(local[..., 2], 0.3)
        middle = np.array([self.width, self.height]) * FINE / 2
        return local[..., :2] / depth[..., None] * self.focal * FINE + middle, depth

    def rays(self, fine: int) -> np.ndarray:
        """Direction of sight of every sample, (H*fine, W*fine, 3)."""
        v, u = np.mgrid[: self.height * fine, : self.width * fine] + 0.5
        u, v = u / fine - self.width / 2, v / fine - self.height / 2
        return np.stack([u, v, np.full_like(u, self.focal)], -1) @ self.axes()

    def spot(self, y: float, share: float) -> float:
        """The x where a person's middle at `y` is at `share` (0 ... 1) of the way through.

        The way is that of growing x: to the right or, in an upright view, up the picture.
        """
        x = np.linspace(-40, 40, 401)
        places, depth = self.project(np.stack([x, 0 * x + y, 0 * x + 0.9], 1))
        ahead = depth > 1
        if self.upright:
            return float(np.interp((share - 1) * self.height * FINE, -places[ahead, 1], x[ahead]))
        return float(np.interp(share * self.width * FINE, places[ahead, 0], x[ahead]))


@dataclass(frozen=True)
class Paint:
    """What a street is made of. Tints are added to grey levels, as (red, green, blue)."""

    slab: tuple[float, float] = (1.2, 0.8)  # metres along x and y
    path: float = 152  # mean grey level
    path_tint: tuple[float, float, float] = (2.0, -2.0, -9.0)
    grass_tint: tuple[float, float, float] = (-13.0, 0.0, -36.0)
    wall: float = 116
    wall_tint: tuple[float, float, float] = (9.0, -16.0, -30.0)


def backdrop(view: View, rng: np.random.Generator, paint: Paint) -> np.ndarray:
    """The empty street: RGB uint8 (H*FINE, W*FINE, 3)."""
    rays, eye = view.rays(2 * FINE), np.array(view.eye)
    with np.errstate(divide="ignore", invalid="ignore"):
        down = np.where(rays[..., 2] < 0, -eye[2] / rays[..., 2], np.inf)
        far = np.where(rays[..., 1] > 0, (WALL - eye[1]) / rays[..., 1], np.inf)
    on_wall = far < down
    reach = np.minimum(down, far)[..., None]
    spot = eye + rays * np.where(np.isfinite(reach), reach, 0)
    x, y, z = np.moveaxis(spot, -1, 0)
    picture = np.where(on_wall[..., None], _house(x, z, rng, paint), _ground(x, y, rng, paint))
    picture += rng.normal(0, 3, picture.shape[:2])[..., None]
    fine = (view.width * FINE, view.height * FINE)
    small = cv2.resize(picture, fine, interpolation=cv2.INTER_AREA)
    street = np.clip(small, 8, 245).astype(np.uint8)
    return _stage(street, [_Sketch(tree, view) for tree in trees()], 0)[0]


def _cells(x, y, rng) -> np.ndarray:
    """A random tone in [-1, 1] for each unit cell of (x, y)."""
    table = rng.uniform(-1, 1, (64, 64))
    return table[np.floor(x).astype(int) % 64, np.floor(y).astype(int) % 64]


def _ground(x, y, rng, paint: Paint) -> np.ndarray:
    """Slabs on the path, kerbs, grass in front of it and a hedge bed behind."""
    long, wide = paint.slab
    row = np.floor(y / wide)
    shift = x / long + 0.5 * (row % 2)
    joint = (np.abs((y / wide) % 1 - 0.5) > 0.47) | (np.abs(shift % 1 - 0.5) > 0.48)
    slab = paint.path + 7 * _cells(shift, row, rng) - 22 * joint
    grass = 92 + 12 * _cells(6 * x, 6 * y, rng) + 10 * _cells(1.3 * x, 1.7 * y, rng)
    kerb = (np.abs(y + 1.3) < 0.12) | (np.abs(y - 7.2) < 0.12)
    colour = np.where(
        ((y < -1.3) | (y > 7.2))[..., None],
        grass[..., None] + paint.grass_tint,
        slab[..., None] + paint.path_tint,
    )
    return np.where(kerb[..., None], np.array([176.0, 172, 164]), colour)


def _house(x, z, rng, paint: Paint) -> np.ndarray:
    """A brick front with windows and doors; sky above it."""
    row = np.floor(z / 0.25)
    brick = paint.wall + 9 * _cells(x / 0.5 + 0.5 * (row % 2), row, rng)
    colour = brick[..., None] + paint.wall_tint
    bay, high = x % 5.0, z % 3.2
    window = (np.abs(bay - 1.5) < 0.75) & (np.abs(high - 1.9) < 0.75)
    frame = (np.abs(bay - 1.5) < 0.87) & (np.abs(high - 1.9) < 0.87)
    door = (np.abs(bay - 3.8) < 0.55) & (z < 2.3)
    pane = 62 + 14 * _cells(x / 5.0, z / 3.2, rng) + 8 * ((bay + high) % 1.0)
    colour = np.where(frame[..., None], np.array([186.0, 182, 172]), colour)
    colour = np.where(window[..., None], pane[..., None] + (-8.0, -1.0, 7.0), colour)
    colour = np.where(door[..., None], np.array([70.0, 84, 78]), colour)
    return np.where((z > 7.5)[..., None], np.array([190.0, 202, 214]), colour)


def lamps(frames: int) -> list[Puppet]:
    """The lamp posts, which hide who walks behind them."""
    posts = []
    for x in (-8.0, 1.6, 11.2):
        pole = ([(x, -0.9, 0.0), (x, -0.9, 4.4)], 0.06, (58, 62, 64))
        posts.append(fixed([pole, ([(x, -0.9, 4.5)], 0.2, (214, 210, 190))], frames))
    return posts


def trees() -> list[Puppet]:
    """Trees behind the path; nobody walks behind them, so they belong to the backdrop."""
    stand = []
    for x in (-12.0, -4.5, 4.8, 13.0, 22.0):
        crown = [((x - 0.6, 8.4, 2.7), 0.9), ((x + 0.6, 8.3, 2.9), 0.85), ((x, 8.5, 3.7), 0.9)]
        parts = [([(x, 8.4, 0.0), (x, 8.4, 2.2)], 0.13, (74, 60, 48))]
        parts += [([spot], r, (56 + 8 * k, 84 + 9 * k, 48)) for k, (spot, r) in enumerate(crown)]
        stand.append(fixed(parts, 1))
    return stand


class _Sketch:
    """A puppet's outlines in the picture, for all frames at once."""

    def __init__(self, puppet: Puppet, view: View):
        self.odd = puppet.odd
        spots, depth = view.project(puppet.balls)
        reach = puppet.radii * view.focal * FINE / depth
        turn = np.arange(8) * np.pi / 4
        ring = np.stack([np.cos(turn), np.sin(turn)], -1)
        outline = _sixteenths(spots[:, :, None] + reach[..., None, None] * ring)
        flat = puppet.balls[:, :, None, :2] + puppet.radii[:, None, None] * ring
        flat = flat + puppet.balls[:, :, None, 2:] * SUN
        ground = np.concatenate([flat, np.zeros_like(flat[..., :1])], -1)
        shadow = _sixteenths(view.project(ground)[0])
        self.outlines = [_points(outline, hull) for hull in puppet.hulls]
        thick = [hull for hull in puppet.hulls if max(puppet.radii[list(hull)]) > THICK]
        self.shadows = [_points(shadow, hull) for hull in thick]
        self.colours = [tuple(map(float, colour)) for colour in puppet.colours]
        self.depth = depth.mean(1)
        order = np.stack([depth[:, hull].mean(1) for hull in puppet.hulls], 1)
        self.order = np.argsort(-order, axis=1)  # far hulls first
        size = np.array([view.width, view.height]) * FINE * 16
        both = np.concatenate([outline, shadow], 1)
        inside = (both.max((1, 2)) > 0) & (both.min((1, 2)) < size)
        self.seen = inside.all(-1) & (depth.min(1) > 1)

    def draw_shadow(self, ink: np.ndarray, frame: int) -> None:
        for points in self.shadows:
            cv2.fillConvexPoly(ink, cv2.convexHull(points[frame]), 255, shift=4)

    def draw(self, canvas: np.ndarray, mask: np.ndarray | None, frame: int) -> None:
        """An odd puppet adds to `mask`; any other one takes away what it hides."""
        odd = 255 if self.odd[frame] else 0
        for k in self.order[frame]:
            shape = cv2.convexHull(self.outlines[k][frame])
            cv2.fillConvexPoly(canvas, shape, self.colours[k], cv2.LINE_AA, 4)
            if mask is not None:
                cv2.fillConvexPoly(mask, shape, odd, cv2.LINE_AA, 4)


def _points(outline: np.ndarray, hull: tuple[int, ...]) -> np.ndarray:
    """All outline points of one hull, (T, points, 1, 2), as OpenCV takes them."""
    return np.ascontiguousarray(outline[:, hull].reshape(len(outline), -1, 1, 2))


def _sixteenths(spots: np.ndarray) -> np.ndarray:
    """Fine pixels as the 1/16 fine pixels that OpenCV's `shift=4` means."""
    return np.clip(np.round((spots - 0.5) * 16), -(2**18), 2**18).astype(np.int32)


def film(
    view: View, puppets: list[Puppet], street: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each frame, RGB uint8 (H, W, 3), and its event mask, bool (H, W)."""
    frames, size = len(puppets[0].balls), (view.width, view.height)
    sketches = [_Sketch(puppet, view) for puppet in [*puppets, *lamps(frames)]]
    light = _Daylight(view, rng)
    for frame in range(frames):
        present = [sketch for sketch in sketches if sketch.seen[frame]]
        canvas, mask = _stage(street, present, frame)
        shows = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) >= 128
        shows &= shows.sum() >= LEAST
        yield light.expose(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), frame), shows


def _stage(street: np.ndarray, present: list[_Sketch], frame: int):
    """The fine picture of one frame and, in grey, where odd puppets can be seen in it."""
    ink = np.zeros(street.shape[:2], np.uint8)
    for sketch in present:
        sketch.draw_shadow(ink, frame)
    dim = cv2.convertScaleAbs(cv2.GaussianBlur(ink, (5, 5), 0), alpha=-SHADOW, beta=255)
    canvas = cv2.multiply(street, cv2.merge([dim] * 3), scale=1 / 255)
    mask, started = np.zeros(street.shape[:2], np.uint8), False
    for sketch in sorted(present, key=lambda sketch: -sketch.depth[frame]):
        started = started or bool(sketch.odd[frame])
        sketch.draw(canvas, mask if started else None, frame)
    return canvas, mask


class _Daylight:
    """Slowly changing light, lens blur and sensor noise of one clip."""

    def __init__(self, view: View, rng: np.random.Generator):
        self.rng, self.size = rng, (view.height, view.width)
        self.tone = rng.uniform(0.95, 1.05)
        self.period, self.start = rng.uniform(70, 160), rng.uniform(0, 2 * np.pi)
        self.cloud = np.linspace(-1, 1, view.width, dtype=np.float32) * rng.choice([-1, 1])

    def expose(self, picture: np.ndarray, frame: int) -> np.ndarray:
        wave = np.sin(2 * np.pi * frame / self.period + self.start)
        gain = (self.tone * (1 + 0.03 * wave + 0.03 * np.cos(frame / 60) * self.cloud))[:, None]
        soft = cv2.GaussianBlur(picture, (3, 3), 0.5)
        bright = np.round(soft * gain.astype(np.float32))
        noise = self.rng.standard_normal((*self.size, 1), dtype=np.float32) * NOISE
        # Whole levels, the same in all three colours: that is what lossless video packs well.
        return np.clip(bright + np.round(noise), 0, 255).astype(np.uint8)
