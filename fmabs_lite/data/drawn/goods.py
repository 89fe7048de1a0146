"""The three drawn categories of MiniMVTec: a woven carpet, a screw at any angle, a transistor.

Each `draw_*` function makes one fine canvas. It takes two random generators: `rng` settles the
sound picture and is used the same way with and without a defect; `how` settles the defect. So the
sound twin of a defective picture is the same call with `defect="good"`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fmabs_lite.data.drawn.drawing import (
    FINE,
    SIZE,
    Camera,
    blend,
    blob,
    cast,
    changed,
    discs,
    generator,
    grid,
    lay_thread,
    mottle,
    patch,
    shade,
    soften,
    stroke,
    wander,
)

DEFECTS = ("bent", "missing_part", "scratch", "stain", "thread")


def picture(
    category: str, folder: str, number: int, seed: int, sound: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Picture `number` of `folder` ("train/good", "test/bent"): RGB uint8 (128, 128, 3), and mask.

    The mask is bool (128, 128). Outside it the picture equals its sound twin (`sound=True`) byte
    for byte; inside it every pixel differs by some grey levels.
    """
    words = (category, folder, number)
    defect = folder.split("/")[1]
    camera = Camera.draw(generator(seed, "camera", *words))

    def exposed(kind: str) -> np.ndarray:
        rng, how = generator(seed, "sound", *words), generator(seed, "defect", *words)
        return camera.expose(DRAW[category](rng, kind, how))

    good = exposed("good")
    if sound or defect == "good":
        return camera.develop(good), np.zeros((SIZE, SIZE), bool)
    flawed = exposed(defect)
    mask = changed(good, flawed)
    return camera.develop(np.where(mask[..., None], flawed, good)), mask


# ---- carpet ------------------------------------------------------------------------------------


def draw_carpet(rng: np.random.Generator, defect: str, how: np.random.Generator) -> np.ndarray:
    """A twill of two yarns, a little turned and stretched each time."""
    x, y = grid()
    turn, pitch = rng.normal(0, 0.03), rng.uniform(4.4, 5.0)
    u = (x * np.cos(turn) + y * np.sin(turn)) / pitch + rng.uniform(0, 4) + 0.1 * mottle(rng, 30)
    v = (y * np.cos(turn) - x * np.sin(turn)) / pitch + rng.uniform(0, 4) + 0.1 * mottle(rng, 30)
    middle = how.uniform(28, SIZE - 28, 2)
    if defect == "bent":
        u, v = _pull(u, v, middle, how)
    image = _weave(u, v, rng)
    image *= (1 + 0.03 * mottle(rng, 40) + 0.05 * mottle(rng, 1.2))[..., None]
    if defect == "missing_part":
        _hole(image, u, v, middle, how)
    elif defect == "scratch":
        _scuff(image, middle, how)
    elif defect == "stain":
        spot = blob(how, middle, how.uniform(7, 13), 5) * np.clip(0.8 + 0.3 * mottle(how, 6), 0, 1)
        blend(image, image * (0.62, 0.5, 0.36), spot * how.uniform(0.45, 0.9))
    elif defect == "thread":
        lay_thread(image, how, middle)
    return image


def _weave(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour at warp coordinate u and weft coordinate v, both counted in threads."""
    i, j = np.floor(u), np.floor(v)
    step = np.mod(i + j, 4)
    up = step < 2  # the warp lies on top for two threads, the weft for the next two
    across = np.where(up, u - i, v - j) - 0.5
    along = (step + np.where(up, v - j - 1, u - i - 3)) / 2  # -0.5 ... 0.5 over the two threads
    tones = 1 + 0.06 * rng.standard_normal((2, 64), dtype=np.float32)
    numbers = np.mod(np.where(up, i, j), 64).astype(np.intp)
    bulge = np.maximum(np.cos(np.pi * across), 0)  # rounding takes some edges below 0
    light = np.sqrt(bulge) * (0.72 + 0.28 * np.cos(np.pi * along))
    light = 0.35 + 0.65 * light * np.where(up, tones[0][numbers], tones[1][numbers])
    yarns = np.float32([(0.66, 0.61, 0.55), (0.46, 0.45, 0.47)])
    yarns *= rng.normal(1, 0.02, (2, 1)).astype(np.float32)
    return np.where(up[..., None], yarns[0], yarns[1]) * light[..., None]


def _pull(u, v, middle, how):
    """Bent threads: the weave is pulled sideways around `middle`."""
    x, y = grid()
    reach, way = how.uniform(12, 19), how.uniform(0, 2 * np.pi)
    dx, dy = (x - middle[0]) / reach, (y - middle[1]) / (0.6 * reach)
    push = how.uniform(1.2, 2.2) * np.clip(1 - dx**2 - dy**2, 0, None) ** 2
    return u + push * np.cos(way), v + push * np.sin(way)


def _hole(image, u, v, middle, how) -> None:
    """A missing part: the pile is gone, the backing and a few strands are left."""
    gap = blob(how, middle, how.uniform(4, 8), 1)
    strands = np.clip(np.cos(np.pi * (v - np.floor(v) - 0.5)) - 0.55, 0, None)
    backing = np.float32([0.2, 0.18, 0.16]) * (1 + 0.15 * mottle(how, 1.5))[..., None]
    blend(image, backing + 0.35 * strands[..., None], gap * how.uniform(0.75, 1))


def _scuff(image, middle, how) -> None:
    """A scratch: along a line the yarn is worn flat and pale."""
    heading, length = how.uniform(0, 2 * np.pi), how.uniform(26, 52)
    start = middle - length / 2 * np.array([np.cos(heading), np.sin(heading)])
    line = soften(stroke(wander(how, start, heading, length, 0.04), how.uniform(1.8, 2.8)), 0.4)
    flat = soften(image, 2.3) * how.uniform(1.2, 1.45)
    blend(image, flat, line * how.uniform(0.6, 0.95))


# ---- screw -------------------------------------------------------------------------------------

HEAD, NECK, THREADS, TAPER, TIP = -43.0, -33.0, -8.0, 30.0, 43.0  # stations along the axis, pixels
LIGHT = (2.5, 3.0)  # where shadows fall, pixels


@dataclass
class Pose:
    """Where the screw lies: middle, direction of its tip, and its roll about its own axis."""

    middle: np.ndarray
    angle: float
    roll: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Pose:
        return cls(SIZE / 2 + rng.uniform(-5, 5, 2), *rng.uniform(0, 2 * np.pi, 2))

    def along(self) -> tuple[np.ndarray, np.ndarray]:
        """Position along and across the axis of every fine sample."""
        x, y = grid()
        dx, dy, cos, sin = x - self.middle[0], y - self.middle[1], *self._turn()
        return dx * cos + dy * sin, dy * cos - dx * sin

    def point(self, along: float, across: float) -> np.ndarray:
        """The picture's (x, y) at a position on the screw."""
        cos, sin = self._turn()
        return self.middle + (along * cos - across * sin, along * sin + across * cos)

    def _turn(self) -> tuple[float, float]:
        return np.cos(self.angle), np.sin(self.angle)


def draw_screw(rng: np.random.Generator, defect: str, how: np.random.Generator) -> np.ndarray:
    """A countersunk screw on a plain ground."""
    pose = Pose.draw(rng)
    ground = 0.74 + 0.01 * mottle(rng, 20) + 0.012 * mottle(rng, 1.5)
    image = np.float32(rng.uniform(0.95, 1.03) * np.array([1, 0.99, 0.97])) * ground[..., None]
    along, across = pose.along()
    if defect == "bent":
        start = how.uniform(-5, 12)
        bow = how.uniform(0.004, 0.012) * how.choice([-1, 1])
        across = across - bow * np.clip(along - start, 0, None) ** 2
    image = image.astype(np.float32)
    _turned_metal(image, along, across, pose, rng, defect, how)
    spot = pose.point(how.uniform(-34, 30), how.uniform(-3, 3))
    if defect == "scratch":
        _score(image, pose, how)
    elif defect == "stain":
        body = np.abs(across) < _radius(along, across, pose.roll, 1.0)[0]
        rust = blob(how, spot, how.uniform(4, 7), 2) * np.clip(0.75 + 0.4 * mottle(how, 3), 0, 1)
        blend(image, (0.45, 0.26, 0.14), rust * body * how.uniform(0.45, 0.8))
    elif defect == "thread":
        lay_thread(image, how, spot)
    return image


def _radius(along, across, roll, worn):
    """Half width of the screw and height of its thread, at every sample."""
    core = np.interp(along, [HEAD, HEAD + 2, NECK, TAPER, TIP], [11.5, 11.5, 4.6, 4.2, 0.2])
    side = np.arcsin(np.clip(across / 6.5, -1, 1)) / (2 * np.pi)  # a helix seen from one side
    ridge = 0.5 + 0.5 * np.cos(2 * np.pi * (along / 5.4 + side) + roll)
    fade = np.interp(along, [THREADS - 3, THREADS, TAPER, TIP], [0, 1, 1, 0.1]) * worn
    return (core + 2.4 * fade * ridge**1.5).astype(np.float32), (fade * ridge).astype(np.float32)


def _turned_metal(image, along, across, pose, rng, defect, how) -> None:
    """The screw itself and its shadow."""
    end, worn = TIP, 1.0
    if defect == "missing_part" and how.random() < 0.5:  # the tip has broken off
        end = how.uniform(22, 34) + 1.2 * np.sin(across * how.uniform(0.8, 1.5))
    elif defect == "missing_part":  # some turns of the thread are gone
        middle, reach = how.uniform(4, 22), how.uniform(6, 10)
        worn = np.clip(np.abs(along - middle) - reach, 0, 1)
    radius, ridge = _radius(along, across, pose.roll, worn)
    body = ((np.abs(across) < radius) & (along > HEAD) & (along < end)).astype(np.float32)
    shade(image, cast(body, LIGHT, 1.8), 0.3)
    bulge = np.clip(across / radius, -1, 1)
    facing = bulge * np.cos(pose.angle) - 0.3 * np.sin(pose.angle)  # the lamp stands still
    metal = 0.2 + 0.22 * np.sqrt(1 - bulge**2) + 0.32 * np.exp(-(((facing + 0.35) / 0.2) ** 2))
    metal = metal * (0.72 + 0.5 * ridge) * (1 + 0.06 * mottle(rng, 4) + 0.05 * mottle(rng, 1))
    blend(image, metal[..., None] * np.float32([0.97, 0.98, 1.02]), body)
    _head(image, along, across, pose, rng.uniform(0.3, 0.4))


def _head(image, along, across, pose, tone) -> None:
    """The flat of the head, seen at a slant, with the arms of its cross slot."""
    dx, dy = (along - HEAD) / 3.0, across / 11.5
    flat = (np.hypot(dx, dy) < 1).astype(np.float32)
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    first, second = np.abs(dx * cos + dy * sin), np.abs(dy * cos - dx * sin)
    slot = (np.minimum(first, second) < 0.15) & (np.maximum(first, second) < 0.62)
    blend(image, (tone, tone, 1.03 * tone), flat)
    blend(image, (0.12, 0.12, 0.13), flat * slot * 0.9)


def _score(image, pose, how) -> None:
    """A scratch on shank or cone: a bright cut with a dark lip."""
    along, slant = how.uniform(-36, -14), how.uniform(0.2, 1.2) * how.choice([-1, 1])
    wide = 3.6 if along > NECK else 6.0
    ends = [pose.point(along - wide * slant, -wide), pose.point(along + wide * slant, wide)]
    ends = np.array(ends) + how.normal(0, 0.6, (2, 2))
    width = how.uniform(0.7, 1.2)
    blend(image, (0.08, 0.08, 0.09), stroke(ends + (0.7, 0.8), width) * 0.5)
    blend(image, (0.86, 0.86, 0.88), stroke(ends, width) * how.uniform(0.55, 0.9))


# ---- transistor --------------------------------------------------------------------------------

PITCH = 12.0  # distance of the board's holes, pixels


@dataclass
class Layout:
    """Where board, case and legs are, in pixels."""

    holes: np.ndarray  # (n, 2) all holes of the board
    case: np.ndarray  # (4, 2) corners, clockwise from the top left
    legs: np.ndarray  # (3, 4, 2) each leg from the case to its hole

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Layout:
        shift, turn = rng.uniform(-4, 4, 2), rng.normal(0, 0.015)
        steps = np.arange(-7, 8) * PITCH
        holes = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        board = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        lean, slip = rng.normal(0, 0.04), shift + rng.uniform(-2, 2, 2)
        tilt = np.array([[np.cos(lean), -np.sin(lean)], [np.sin(lean), np.cos(lean)]])
        corners = np.array([(-27, -22), (27, -22), (29, 18), (-29, 18)]) @ tilt.T
        roots = np.array([(-15, 17), (0, 17), (15, 17)]) @ tilt.T
        case, roots = corners + slip + (64, 44), roots + slip + (64, 44)
        ends = np.array([(-PITCH, 3.5 * PITCH), (0, 3.5 * PITCH), (PITCH, 3.5 * PITCH)])
        ends = ends @ board.T + shift + (64, 64)
        knees = roots + [(0, 10)] + rng.normal(0, 0.5, (3, 2))
        heels = ends - [(0, 12)] + rng.normal(0, 0.5, (3, 2))
        legs = np.stack([roots, knees, heels, ends], 1)
        return cls((holes + (0, PITCH / 2)) @ board.T + shift + (64, 64), case, legs)


def draw_transistor(rng: np.random.Generator, defect: str, how: np.random.Generator) -> np.ndarray:
    """A transistor whose three legs stand in a perforated board."""
    layout = Layout.draw(rng)
    image = _board(layout, rng)
    corner = None
    lost, leg = how.random() < 0.5, how.integers(3)
    if defect == "missing_part" and lost:
        legs = [_cut(path, how) if i == leg else path for i, path in enumerate(layout.legs)]
    elif defect == "bent":
        legs = [_bend(path, how) if i == leg else path for i, path in enumerate(layout.legs)]
    else:
        legs = list(layout.legs)
        corner = how.integers(4) if defect == "missing_part" else None
    for path in legs:
        _leg(image, path)
    _case(image, layout.case, corner, rng, how)
    _flaws(image, layout, defect, how)
    return image


def _flaws(image, layout, defect, how) -> None:
    """Defects that lie on top of the finished part."""
    middle = layout.case.mean(0)
    if defect == "scratch":
        heading = how.uniform(0, 2 * np.pi)
        back = 9 * np.array([np.cos(heading), np.sin(heading)])
        start = middle + how.uniform((-12, -9), (12, 9)) - back
        line = stroke(wander(how, start, heading, how.uniform(16, 26), 0.06), how.uniform(0.7, 1.2))
        blend(image, (0.6, 0.6, 0.62), line * patch(layout.case) * how.uniform(0.35, 0.75))
    elif defect == "stain":
        places = [middle + how.uniform(-14, 14, 2), layout.legs[how.integers(3), 2]]
        spot = blob(how, places[how.integers(2)], how.uniform(5, 9), 4)
        colour = [(0.8, 0.76, 0.62), (0.3, 0.19, 0.1)][how.integers(2)]
        blend(image, colour, spot * np.clip(0.7 + 0.3 * mottle(how, 4), 0, 1) * 0.6)
    elif defect == "thread":
        lay_thread(image, how, middle + how.uniform((-20, -5), (20, 45)))


def _board(layout, rng) -> np.ndarray:
    """Tan board with copper rings round its holes."""
    tone = rng.uniform(0.94, 1.04) * np.array([0.62, 0.52, 0.38])
    grain = 1 + 0.03 * mottle(rng, 25) + 0.03 * mottle(rng, 1.2)
    image = (tone * grain[..., None]).astype(np.float32)
    blend(image, (0.8, 0.47, 0.27), discs(layout.holes, 3.7))
    blend(image, (0.13, 0.1, 0.08), discs(layout.holes, 1.9))
    return image


def _cut(path, how):
    """A leg that ends in the air."""
    return np.concatenate([path[:2], [path[1] + how.uniform(0.1, 0.7) * (path[2] - path[1])]])


def _bend(path, how):
    """A leg pushed aside, its end beside the hole."""
    push = how.uniform(3, 8) * how.choice([-1, 1])
    return path + np.array([(0, 0), (0.5 * push, 0), (1.4 * push, 1), (push, how.uniform(-4, 1))])


def _leg(image, path) -> None:
    """A tinned wire with a highlight, its shadow, and solder where it meets its hole."""
    wire = stroke(path, 3.2)
    shade(image, cast(wire, (1.5, 2.0), 0.9), 0.4)
    if len(path) == 4:
        blend(image, (0.7, 0.7, 0.71), discs(path[-1:], 3.2))
    blend(image, (0.46, 0.46, 0.48), wire)
    blend(image, (0.84, 0.84, 0.86), soften(stroke(path - (0.6, 0), 1.0), 0.25) * 0.8)


def _case(image, corners, chipped, rng, how) -> None:
    """The black case with a bevel, a glare and a printed code; `chipped`: a corner that is off."""
    shape = patch(corners)
    face = patch(corners.mean(0) + 0.86 * (corners - corners.mean(0)))
    if chipped is not None:
        bite = blob(how, corners[chipped], how.uniform(6, 10), 1)
        kept = shape * (1 - bite)
        rough = shape * np.clip(blob(how, corners[chipped], 10.5, 1) - bite, 0, 1)
    else:
        kept, rough = shape, None
    shade(image, cast(kept, (2.2, 2.8), 1.6), 0.5)
    tone = rng.uniform(0.12, 0.17) * (1 + 0.06 * mottle(rng, 1.5) + 0.1 * mottle(rng, 35))
    blend(image, tone[..., None] * np.float32([1.35, 1.35, 1.4]), kept)
    blend(image, tone[..., None] * np.float32([1, 1, 1.03]), kept * face)
    _print(image, corners, kept, rng)
    if rough is not None:
        grain = 0.3 * (1 + 0.25 * mottle(how, 2))
        blend(image, grain[..., None] * np.float32([1, 1, 1.02]), rough)


def _print(image, corners, kept, rng) -> None:
    """Two lines of print; the second is a lot number, another one on every part."""
    ink = np.zeros((4 * SIZE, 4 * SIZE), np.uint8)
    lines = ["FM 549", "".join(rng.choice(list("0123456789"), 4))]
    for line, height in zip(lines, (0.42, 0.8), strict=True):
        cv2.putText(ink, line, (60, round(340 * height) + 60), 0, 2.6, 255, 9, cv2.LINE_AA)
    page = np.float32([(0, 0), (512, 0), (0, 400)])
    move = cv2.getAffineTransform(page, ((corners[[0, 1, 3]]) * FINE).astype(np.float32))
    ink = cv2.warpAffine(ink, move, kept.shape[::-1], flags=cv2.INTER_AREA)
    blend(image, (0.62, 0.62, 0.6), ink.astype(np.float32) / 255 * kept * rng.uniform(0.5, 0.8))


DRAW = {"carpet": draw_carpet, "screw": draw_screw, "transistor": draw_transistor}
