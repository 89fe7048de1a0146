"""What happens in each clip of MiniAvenue, MiniPed2 and the three scenes of MiniShanghai.

On the near half of the path people walk to the right, on the far half to the left (in scene 04 of
MiniShanghai the other way round); nobody stops, hurries or rides. Test clips add `Event`s to such a
crowd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fmabs_lite.data.drawn.drawing import generator
from fmabs_lite.data.drawn.figures import (
    Look,
    Puppet,
    ball,
    cart,
    cyclist,
    gait,
    join,
    person,
    skater,
)
from fmabs_lite.data.drawn.street import Paint, View, backdrop, film

HALVES = {1: (0.8, 3.2), -1: (3.6, 6.5)}  # y of the near half of the path, and of the far one
CAMPUS = ("shanghaitech/01", "shanghaitech/04", "shanghaitech/07")
VIEWS = {
    "avenue": View((-4.5, -6.5, 3.2), (2.0, 3.5, 1.0), focal=165, height=108, width=192),
    "ucsd_ped2": View((0.0, -22.0, 20.0), (0.0, 3.4, 0.0), focal=285, height=120, width=180),
    "shanghaitech/01": View((3.0, -8.0, 5.0), (3.0, 3.0, 0.8), focal=160, height=96, width=168),
    "shanghaitech/04": View(
        (0.0, 3.4, 9.0), (9.0, 3.4, 0.0), focal=140, height=96, width=168, upright=True
    ),
    "shanghaitech/07": View((-8.0, -6.0, 6.5), (1.5, 3.4, 0.4), focal=165, height=96, width=168),
}
PAINTS = {
    "shanghaitech/01": Paint((0.6, 0.6), 128, (16.0, -6.0, -14.0), wall_tint=(2.0, 2.0, 0.0)),
    "shanghaitech/04": Paint((2.4, 1.6), 108, (-3.0, 0.0, 5.0), wall=150),
    "shanghaitech/07": Paint((0.5, 1.2), 168, (4.0, 2.0, -14.0), (-4.0, 4.0, -40.0), 132),
}
RATES = {"avenue": 25, "ucsd_ped2": 10, **dict.fromkeys(CAMPUS, 24)}  # frames a second
LENGTHS = {"avenue": 150, "ucsd_ped2": 100, **dict.fromkeys(CAMPUS, 72)}  # frames a clip
CROWDS = {  # fewest and most walkers of a clip, exclusive
    "avenue": (6, 12),
    "ucsd_ped2": (6, 25),
    **dict.fromkeys(CAMPUS, (4, 9)),
}
NEAR = {"shanghaitech/04": -1}  # the way of the near half, where it is not 1


@dataclass(frozen=True)
class Event:
    """Something out of the ordinary, planned for the frames from `start` to before `stop`.

    The masks say in which frames it shows: it can begin outside the picture or leave it early.
    """

    kind: str
    start: int
    stop: int
    far: bool = False  # on the far half of the path, going the other way


SCRIPTS: dict[str, list[list[Event]]] = {
    "avenue": [
        [Event("running", 30, 60), Event("loitering", 100, 130)],
        [Event("loitering", 15, 45), Event("bicycle", 90, 140)],
        [Event("throwing", 25, 55), Event("running", 115, 140)],
        [Event("wrong direction", 30, 62, far=True), Event("throwing", 100, 130)],
        [Event("bicycle", 10, 60), Event("wrong direction", 105, 130)],
        [Event("loitering", 30, 65, far=True), Event("running", 55, 85)],
    ],
    "ucsd_ped2": [
        [Event("bicycle", 35, 120)],
        [Event("skater", 15, 85, far=True)],
        [Event("cart", 40, 150)],
        [Event("cart", -40, 130), Event("bicycle", 35, 110, far=True)],
        [Event("bicycle", 5, 85, far=True), Event("skater", 60, 130)],
    ],
    "shanghaitech/01": [
        [Event("bicycle", 16, 60)],
        [Event("running", 8, 32), Event("throwing", 42, 68, far=True)],
    ],
    "shanghaitech/04": [
        [Event("skater", 14, 58)],
        [Event("cart", -40, 130)],
    ],
    "shanghaitech/07": [
        [Event("wrong direction", 20, 54)],
        [Event("throwing", 8, 30), Event("bicycle", 48, 128)],
    ],
}
TRAINING = {"avenue": 4, "ucsd_ped2": 4, **dict.fromkeys(CAMPUS, 2)}  # clips


def shoot(
    name: str, part: str, number: int, seed: int, frames: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clip `number` (from 0) of `part` ("training" or "testing") of set `name`.

    Yields RGB uint8 (H, W, 3) and the event mask, bool (H, W), frame by frame.
    """
    rng = generator(seed, name, part, number)
    scene = Scene(VIEWS[name], RATES[name], frames or LENGTHS[name], rng, NEAR.get(name, 1))
    puppets = scene.crowd(int(rng.integers(*CROWDS[name])))
    if part == "testing":
        puppets += [scene.play(event) for event in SCRIPTS[name][number]]
    return film(scene.view, puppets, _street(name, seed), rng)


@lru_cache(maxsize=len(VIEWS))
def _street(name: str, seed: int) -> np.ndarray:
    return backdrop(VIEWS[name], generator(seed, "street"), PAINTS.get(name, Paint()))


@dataclass
class Scene:
    """A clip in the making; every method draws its numbers from `rng`."""

    view: View
    rate: int
    frames: int
    rng: np.random.Generator
    near: int = 1  # the way of those on the near half of the path: 1 right, -1 left

    def crowd(self, count: int) -> list[Puppet]:
        """Walkers spread over both halves of the path, each in the picture at some time."""
        walkers = []
        for half, (low, high) in HALVES.items():
            lanes = count // 2 + (count % 2 if half > 0 else 0)
            for lane in range(lanes):
                y = low + (high - low) * (lane + self.rng.uniform(0.1, 0.9)) / lanes
                walkers += self._party(half * self.near, y)
        if self.rng.random() < 0.5:  # someone close to the camera
            walkers += self._party(self.near, self.rng.uniform(-0.6, 0.4))
        return walkers

    def _party(self, way: int, y: float) -> list[Puppet]:
        """One walker, or two side by side."""
        moment, spot = self.rng.uniform(0, self.frames), self.rng.uniform(0, 1)
        path = self.path(way, y, moment, spot, self.rng.uniform(1.15, 1.6))
        party = [self.walker(path)]
        if self.rng.random() < 0.25:
            party.append(self.walker(path + (self.rng.uniform(-0.3, 0.3), 0.55)))
        return party

    def path(self, way: int, y: float, moment: float, spot: float, speed) -> np.ndarray:
        """Feet (T, 2) of someone who is `spot` (0 … 1) through the picture at frame `moment`.

        `speed` is in metres a second, one number or one for each frame.
        """
        steps = np.broadcast_to(speed, self.frames) / self.rate
        x = np.cumsum(steps)
        x = x - np.interp(moment, np.arange(self.frames), x)
        if moment < 0:  # it was on its way before the clip began
            x = x - moment * steps[0]
        x = way * x + self.view.spot(y, spot if way > 0 else 1 - spot)
        waves = np.arange(self.frames) / self.rate * self.rng.uniform(1.0, 1.8)
        return np.stack([x, y + 0.06 * np.sin(waves + self.rng.uniform(0, 6))], 1)

    def walker(self, path, odd=None, swing=1.0, hurry=0.0, heading=None) -> Puppet:
        """A person with a look of their own; one in five carries a bag."""
        if heading is None:
            step = np.gradient(path, axis=0)
            heading = np.arctan2(step[:, 1], step[:, 0])
        rng = self.rng
        walk = gait(path, heading, swing, hurry, rng.uniform(0, 6))
        figure = person(Look.draw(rng), walk, odd)
        if rng.random() < 0.2:
            bag = walk.points(np.array([[0.05, -0.3, 0.55]]))[:, 0]
            figure = join(figure, ball(bag, 0.15, rng.uniform(40, 150, 3), odd))
        return figure

    def play(self, event: Event) -> Puppet:
        """The puppet that does `event`."""
        acts = {
            "running": self.run,
            "throwing": self.throw,
            "wrong direction": self.go_wrong,
            "bicycle": self.ride,
            "loitering": self.loiter,
            "skater": self.glide,
            "cart": self.drive,
        }
        return acts[event.kind](event)

    def _during(self, event: Event, ramp: int = 1) -> np.ndarray:
        """1 during the event, 0 before and after, with linear ramps inside it."""
        frame = np.arange(self.frames)
        rise, fall = (frame - event.start + 1) / ramp, (event.stop - frame) / ramp
        return np.clip(np.minimum(rise, fall), 0, 1)

    def _side(self, event: Event) -> tuple[int, float]:
        """The way to go, 1 right or -1 left, and a y on that half of the path."""
        way = -self.near if event.far else self.near
        return way, self.rng.uniform(3.8, 5.5) if event.far else self.rng.uniform(0.2, 2.0)

    def run(self, event: Event) -> Puppet:
        """A walker begins to run, and walks again at the end."""
        way, y = self._side(event)
        hurry = self._during(event, 6)
        path = self.path(way, y, event.start, self.rng.uniform(0.1, 0.25), 1.4 + 2.8 * hurry)
        return self.walker(path, hurry > 0, hurry=hurry)

    def loiter(self, event: Event) -> Puppet:
        """A walker stops, looks about, and goes on."""
        way, y = self._side(event)
        still = self._during(event, 8)
        path = self.path(way, y, event.start, self.rng.uniform(0.35, 0.6), 1.35 * (1 - still))
        look = still * 0.9 * np.sin(np.arange(self.frames) / self.rate * 1.5)
        heading = look + (0 if way > 0 else np.pi)
        return self.walker(path, still > 0, swing=1 - still, heading=heading)

    def go_wrong(self, event: Event) -> Puppet:
        """A walker turns round and goes against the stream, or cuts across the path."""
        way, y = self._side(event)
        wrong = self._during(event, 6)
        if self.rng.random() < 0.5:
            path = self.path(way, y, event.start, self.rng.uniform(0.5, 0.7), 1.4 - 2.8 * wrong)
            heading = np.pi * wrong + (0 if way > 0 else np.pi)
        else:
            path = self.path(way, y, event.start, self.rng.uniform(0.3, 0.5), 1.4 * (1 - wrong))
            across = -1 if y > 2 else 1
            path[:, 1] += across * np.cumsum(1.4 * wrong) / self.rate
            heading = across * np.pi / 2 * wrong + (0 if way > 0 else np.pi * (1 - wrong))
        return self.walker(path, wrong > 0, heading=heading)

    def throw(self, event: Event) -> Puppet:
        """A walker slows down and throws a bag into the air, again and again."""
        way, y = self._side(event)
        busy = self._during(event, 4)
        path = self.path(way, y, event.start, self.rng.uniform(0.25, 0.5), 1.3 - 0.7 * busy)
        heading = np.full(self.frames, 0 if way > 0 else np.pi)
        walk = gait(path, heading, 1 - 0.5 * busy, 0, 0)
        walk.arms[:, 1] += busy * (1.2 - walk.arms[:, 1])
        walk.elbows[:, 1] += busy * 0.6
        flight = 25  # frames from hand to hand
        since = np.mod(np.arange(self.frames) - event.start, flight) / self.rate
        height = np.clip(9.81 / 2 * since * (flight / self.rate - since), 0, None)
        whole = event.start + (event.stop - event.start) // flight * flight
        in_air = (np.arange(self.frames) >= event.start) & (np.arange(self.frames) < whole)
        local = np.zeros((self.frames, 1, 3))
        local[:, 0] = [0.05, -0.3, 0.55]
        local[:, 0] += busy[:, None] * (0.4, 0.05, 0.6)
        local[:, 0, 2] += height * in_air * 1.3
        bag = ball(walk.points(local)[:, 0], 0.17, self.rng.uniform(40, 200, 3), busy > 0)
        return join(person(Look.draw(self.rng), walk, busy > 0), bag)

    def ride(self, event: Event) -> Puppet:
        """A cyclist enters at the start of the event and leaves near its end."""
        path, heading = self._pass(event)
        return cyclist(Look.draw(self.rng), path, heading, self.rng.uniform(0, 6))

    def glide(self, event: Event) -> Puppet:
        """A skater, likewise."""
        return skater(Look.draw(self.rng), *self._pass(event))

    def drive(self, event: Event) -> Puppet:
        """A service cart, likewise."""
        return cart(*self._pass(event))

    def _pass(self, event: Event) -> tuple[np.ndarray, np.ndarray]:
        """Straight through the picture within the event's frames: path and heading."""
        way, y = self._side(event)
        width = self.view.spot(y, 1) - self.view.spot(y, 0) + 1.5
        speed = width / (event.stop - event.start) * self.rate
        path = self.path(way, y, event.start, 0.0, speed)
        path[:, 0] -= 0.6 * way
        return path, np.full(self.frames, 0 if way > 0 else np.pi)
