"""Who moves in the drawn street: people, bicycles, skateboards, a cart.

Everything is a `Puppet`: balls that move in the street's three dimensions, and *hulls* stretched
over two or more of them (an arm over two balls, a trunk over four, a box over eight). Lengths are
metres; x runs along the path, y across it, away from the camera, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Puppet:
    """A figure over T frames."""

    balls: np.ndarray  # (T, n, 3) centres, metres
    radii: np.ndarray  # (n,) metres
    hulls: list[tuple[int, ...]]  # each the numbers of the balls it covers
    colours: np.ndarray  # (m, 3) RGB, 0 … 255, one per hull
    odd: np.ndarray | None = None  # (T,) True while what it does is an event

    def __post_init__(self) -> None:
        if self.odd is None:
            self.odd = np.zeros(len(self.balls), bool)


@dataclass
class Walk:
    """Where a figure is and how its limbs are, frame by frame. Angles in radians, 0 is down."""

    place: np.ndarray  # (T, 2) x and y of the feet
    heading: np.ndarray  # (T,) 0 is along x
    thighs: np.ndarray  # (T, 2) left and right, forward is positive
    knees: np.ndarray  # (T, 2) flexion
    arms: np.ndarray  # (T, 2)
    elbows: np.ndarray  # (T, 2) flexion
    lean: np.ndarray  # (T,) of the trunk, forward is positive
    seat: float | None = None  # height of the hips; None: the lower foot stands on the ground

    def points(self, local: np.ndarray) -> np.ndarray:
        """Local (forward, left, up), shape (T, n, 3) or (n, 3), as points of the street."""
        cos, sin = np.cos(self.heading)[:, None], np.sin(self.heading)[:, None]
        forward, left, up = np.moveaxis(np.broadcast_to(local, (len(cos), *local.shape[-2:])), 2, 0)
        x = self.place[:, :1] + forward * cos - left * sin
        y = self.place[:, 1:] + forward * sin + left * cos
        return np.stack([x, y, up], -1)


def gait(place: np.ndarray, heading: np.ndarray, swing, hurry, rate: float) -> Walk:
    """Walking (`hurry` 0) to running (1) along `place`; `swing` 0 stands, 1 strides.

    The legs' phase follows the distance covered, so that feet do not slide.
    """
    swing = np.broadcast_to(swing, len(place)).astype(float)
    hurry = np.broadcast_to(hurry, len(place)).astype(float)
    pace = np.linalg.norm(np.diff(place, axis=0, prepend=place[:1]), axis=1)
    phase = np.cumsum(pace / (1.45 + 1.1 * hurry)) * 2 * np.pi + rate
    sine, cosine = np.sin(phase), np.cos(phase)
    reach = swing * (0.42 + 0.4 * hurry)
    both = np.stack([sine, -sine], 1) * reach[:, None]
    lift = np.clip(np.stack([cosine, -cosine], 1), 0, None) * (swing * (0.7 + 0.8 * hurry))[:, None]
    elbows = np.repeat((0.2 + 1.2 * hurry)[:, None], 2, 1)
    return Walk(place, heading, both + 0.03, lift, -0.8 * both, elbows, 0.03 + 0.16 * hurry)


@dataclass
class Look:
    """How tall a person is, and the colours worn."""

    height: float
    skin: np.ndarray
    hair: np.ndarray
    shirt: np.ndarray
    trousers: np.ndarray
    pack: np.ndarray | None

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        skins = [(224, 182, 150), (188, 140, 108), (128, 90, 66), (92, 64, 48)]
        hairs = [(40, 30, 26), (74, 52, 36), (30, 28, 30), (150, 120, 80), (130, 128, 126)]
        shirts = [(176, 60, 52), (52, 76, 132), (214, 208, 198), (62, 64, 68), (70, 112, 84)]
        shirts += [(196, 156, 70), (120, 86, 120), (150, 160, 168)]
        trousers = [(44, 50, 70), (58, 56, 54), (110, 100, 84), (36, 36, 40), (82, 90, 108)]

        def pick(colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
            return np.clip(colours[rng.integers(len(colours))] + rng.normal(0, 8, 3), 12, 240)

        tall, pack = rng.normal(1.72, 0.07), pick(shirts) * 0.7 if rng.random() < 0.35 else None
        return cls(tall, pick(skins), pick(hairs), pick(shirts), pick(trousers), pack)


def _swing(start: np.ndarray, angle: np.ndarray, length: float) -> np.ndarray:
    """End points (T, 2, 3) of limbs that hang from `start` at `angle` from straight down."""
    way = np.stack([np.sin(angle), np.zeros_like(angle), -np.cos(angle)], -1)
    return start + length * way


def person(look: Look, walk: Walk, odd: np.ndarray | None = None) -> Puppet:
    """A human figure of eighteen balls."""
    frames, size = len(walk.place), look.height / 1.75
    sides = np.array([1.0, -1.0])
    hips = np.zeros((frames, 2, 3))
    hips[..., 1] = 0.085 * sides
    knees = _swing(hips, walk.thighs, 0.43)
    ankles = _swing(knees, walk.thighs - walk.knees, 0.41)
    toes = ankles + (0.15, 0, -0.03)
    trunk = np.stack([np.sin(walk.lean), 0 * walk.lean, np.cos(walk.lean)], -1)[:, None]
    shoulders = 0.5 * trunk + (0.19 * sides)[:, None] * (0, 1, 0)
    elbows = _swing(shoulders, walk.arms, 0.28)
    hands = _swing(elbows, walk.arms + walk.elbows, 0.26)
    head = 0.72 * trunk + [[(0.03, 0, 0), (0.0, 0, 0.045)]]  # face and hair
    pack = trunk * [[[0.42], [0.12]]] - (0.17, 0, 0)
    joints = np.concatenate(
        [hips, knees, ankles, toes, np.broadcast_to(shoulders, hips.shape), elbows, hands,
         np.broadcast_to(head, hips.shape), np.broadcast_to(pack, hips.shape)], 1
    ) * size  # fmt: skip
    lowest = joints[:, 4:8, 2].min(1) - 0.05 * size
    joints[..., 2] += -lowest[:, None] if walk.seat is None else walk.seat
    radii = np.repeat([0.1, 0.07, 0.05, 0.04, 0.085, 0.05, 0.045, 0.1, 0.12], 2) * size
    radii[15] = 0.105 * size
    hulls, colours = _clothes(look)
    return Puppet(walk.points(joints), radii, hulls, colours, odd)


def _clothes(look: Look) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Which balls each garment covers, and its colour; the right side is a little darker."""
    shoe = np.array([38.0, 34, 32])
    dress = [((0, 1, 8, 9), look.shirt), ((14,), look.skin), ((15,), look.hair)]
    for side, tone in ((0, 1.0), (1, 0.85)):
        dress += [((side, 2 + side), tone * look.trousers)]
        dress += [((2 + side, 4 + side), tone * look.trousers)]
        dress += [((4 + side, 6 + side), tone * shoe)]
        dress += [((8 + side, 10 + side), 0.92 * tone * look.shirt)]
        dress += [((10 + side, 12 + side), tone * look.skin)]
    if look.pack is not None:
        dress.append(((16, 17), look.pack))
    hulls, colours = zip(*dress, strict=True)
    return list(hulls), np.array(colours)


def join(first: Puppet, second: Puppet) -> Puppet:
    """Two puppets that move as one."""
    offset = first.balls.shape[1]
    hulls = first.hulls + [tuple(offset + ball for ball in hull) for hull in second.hulls]
    return Puppet(
        np.concatenate([first.balls, second.balls], 1),
        np.concatenate([first.radii, second.radii]),
        hulls,
        np.concatenate([first.colours, second.colours]),
        first.odd | second.odd,
    )


def ball(centres: np.ndarray, radius: float, colour, odd: np.ndarray | None = None) -> Puppet:
    """A bag or ball with centres (T, 3)."""
    return Puppet(centres[:, None], np.array([radius]), [(0,)], np.array([colour], float), odd)


def fixed(parts: list[tuple[list, float, tuple]], frames: int) -> Puppet:
    """A thing that stands still: parts of (points, radius, colour)."""
    balls, radii, hulls, colours = [], [], [], []
    for points, radius, colour in parts:
        hulls.append(tuple(range(len(balls), len(balls) + len(points))))
        balls += points
        radii += [radius] * len(points)
        colours.append(colour)
    still = np.broadcast_to(np.array(balls, float), (frames, len(balls), 3))
    return Puppet(still, np.array(radii), hulls, np.array(colours, float))


def _moved(puppet: Puppet, walk: Walk, odd: np.ndarray) -> Puppet:
    """A thing given in local coordinates, carried along `walk`."""
    return Puppet(walk.points(puppet.balls[0]), puppet.radii, puppet.hulls, puppet.colours, odd)


def _wheel(forward: float, left: float, radius: float) -> list:
    turn = np.arange(10) * np.pi / 5
    return [(forward + radius * np.cos(a), left, radius + radius * np.sin(a)) for a in turn]


def cyclist(look: Look, place: np.ndarray, heading: np.ndarray, rate: float) -> Puppet:
    """A person on a bicycle; an event throughout."""
    frames = len(place)
    pace = np.linalg.norm(np.diff(place, axis=0, prepend=place[:1]), axis=1)
    sine, cosine = (f(np.cumsum(pace) * 1.5 + rate) for f in (np.sin, np.cos))
    thighs = 0.95 + 0.35 * np.stack([sine, -sine], 1)
    knees = 1.05 + 0.4 * np.stack([sine + 0.5 * cosine, -sine - 0.5 * cosine], 1)
    arms, bend = np.full((frames, 2), 0.75), np.full((frames, 2), 0.25)
    walk = Walk(place, heading, thighs, knees, arms, bend, np.full(frames, 0.5), seat=0.95)
    frame, tyre = (150, 44, 40), (34, 34, 36)
    parts = []
    for centre in (-0.5, 0.55):
        rim = _wheel(centre, 0, 0.33)
        parts += [([rim[k - 1], rim[k]], 0.022, tyre) for k in range(10)]
    joints = [(-0.5, 0, 0.33), (-0.18, 0, 0.85), (0.05, 0, 0.3), (0.42, 0, 0.85), (0.55, 0, 0.33)]
    pairs = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4)]
    parts += [([joints[a], joints[b]], 0.025, frame) for a, b in pairs]
    parts += [([(0.42, -0.22, 1.0), (0.42, 0.22, 1.0)], 0.025, tyre)]
    odd = np.ones(frames, bool)
    return join(person(look, walk, odd), _moved(fixed(parts, 1), walk, odd))


def skater(look: Look, place: np.ndarray, heading: np.ndarray) -> Puppet:
    """A person who glides on a board; an event throughout."""
    frames, odd = len(place), np.ones(len(place), bool)
    apart, bent = np.tile([0.28, -0.22], (frames, 1)), np.tile([0.35, 0.2], (frames, 1))
    arms = np.tile([0.5, -0.4], (frames, 1))
    walk = Walk(place, heading, apart, bent, arms, bent, np.full(frames, 0.18), seat=0.92)
    deck = [(f, side, 0.1) for f in (-0.42, 0.42) for side in (-0.1, 0.1)]
    board = fixed([(deck, 0.02, (60, 44, 36))], 1)
    return join(person(look, walk, odd), _moved(board, walk, odd))


def cart(place: np.ndarray, heading: np.ndarray) -> Puppet:
    """A small white service cart with a load bed; an event throughout."""

    def box(f0, f1, z0, z1, half):
        return [(f, side, z) for f in (f0, f1) for side in (-half, half) for z in (z0, z1)]

    parts = [
        (box(-1.5, 1.4, 0.35, 0.75, 0.6), 0.04, (178, 180, 178)),
        (box(0.0, 1.05, 0.75, 1.3, 0.55), 0.03, (70, 80, 86)),
        (box(-0.1, 1.0, 1.6, 1.68, 0.6), 0.04, (200, 202, 200)),
        (box(-1.45, -0.3, 0.8, 1.05, 0.55), 0.03, (120, 124, 122)),
    ]
    for forward in (0.0, 1.05):
        for side in (-0.55, 0.55):
            parts.append(([(forward, side, 0.8), (forward - 0.05, side, 1.6)], 0.03, (190,) * 3))
    for forward in (-1.0, 0.95):
        for side in (-0.6, 0.6):
            parts.append((_wheel(forward, side, 0.27), 0.02, (36, 36, 38)))
    nothing = np.zeros((len(place), 2))
    walk = Walk(place, heading, nothing, nothing, nothing, nothing, nothing[:, 0])
    return _moved(fixed(parts, 1), walk, np.ones(len(place), bool))
