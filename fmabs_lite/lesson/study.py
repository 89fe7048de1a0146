"""The set-up that chapters 05 to 13 share: teachers, controls and students, all trained alike.

Chapter 04 builds it step by step; here it is put together, so that those chapters can vary one
thing at a time.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from torch import nn

from fmabs_lite.data.brightness import brightness, level
from fmabs_lite.data.mvtec import MVTecAD
from fmabs_lite.detector import Detector
from fmabs_lite.lesson.cells import ALL, FEW
from fmabs_lite.lesson.records import SHARED_DIR
from fmabs_lite.mimicry import Boosted
from fmabs_lite.training import Data, best_device, collect, evaluate, fit

Build = Callable[[Detector, nn.Module], Detector]


class Runs:
    """Trains detectors on one set of data, at equal steps, batches and first weights.

    Of one seed, the control and every student begin with the same weights and see the same
    batches in the same order; only what `build` adds is different. Every detector is trained once
    and kept.

    Args:
        name: of the data; two sets of one chapter keep their checkpoints in one folder.
        train: see `fit`.
        make: builds an untrained detector.
        steps, batch_size, lr, precision, milestones: of every training, see `fit`.
    """

    def __init__(
        self,
        name: str,
        train: Data,
        make: Callable[[], Detector],
        *,
        steps: int,
        batch_size: int,
        lr: float,
        precision: str = "fp32",
        milestones: Sequence[float] = (),
    ):
        self.name, self.train, self.make = name, train, make
        self.training = dict(steps=steps, batch_size=batch_size, lr=lr, precision=precision,
                             milestones=milestones)  # fmt: skip
        self._kept: dict[tuple[str, int, int], Detector] = {}

    def plain(self, seed: int) -> Detector:
        """An untrained detector whose first weights come from `seed`."""
        torch.manual_seed(seed)
        return self.make().to(best_device())

    def teacher(self, seed: int) -> Detector:
        """The teacher of one seed."""
        return self._trained("teacher", seed, lambda: self.plain(seed), seed)

    def control(self, seed: int) -> Detector:
        """What the seed's students would have become without a teacher."""
        return self._trained("control", seed, lambda: self.plain(1000 + seed), 1000 + seed)

    def student(self, name: str, seed: int, build: Build, steps: int | None = None) -> Detector:
        """The seed's student of one kind.

        Args:
            name: what to call it; one name for each `build`.
            build: takes the untrained detector and the teacher's network, returns a Boosted, or
                a rival that makes no use of the teacher.
            steps: of this student's training, where they differ from all others'.
        Raises:
            ValueError: when the name is "teacher" or "control".
        """
        if name in ("teacher", "control"):
            raise ValueError(f"name is {name!r}, which is kept for its own; choose another.")

        def fresh() -> Detector:
            detector, teacher = self.plain(1000 + seed), self.teacher(seed).network
            torch.manual_seed(2000 + seed)  # of the attention's first weights
            return build(detector, teacher).to(best_device())

        return self._trained(name, seed, fresh, 1000 + seed, steps)

    def _trained(
        self,
        name: str,
        seed: int,
        build: Callable[[], Detector],
        batches: int,
        steps: int | None = None,
    ):
        settings = self.training | ({"steps": steps} if steps else {})
        key = (name, seed, settings["steps"])
        if key not in self._kept:
            detector = build()
            file = quote("-".join(map(str, (self.name, *key))), safe="")
            with shared(file) as checkpoint:
                fit(detector, self.train, seed=batches, checkpoint=checkpoint, **settings)
            self._kept[key] = detector
        return self._kept[key]


def asked(rows: Sequence[str], known: Iterable[str], few: Iterable[str] = ()) -> list[str]:
    """The rows to train, in the order of a chapter's own.

    Args:
        rows: names; "few" stands for those of `few`, and "all", or none, for every row.
        known: every row of the chapter.
        few: the rows that its questions are about.
    Raises:
        ValueError: for a row that the chapter does not have.
    """
    known, few = list(known), list(few)
    stands_for = {FEW: few, ALL: known}
    wanted = [name for row in rows or [ALL] for name in stands_for.get(row, [row])]
    if strange := [row for row in wanted if row not in known]:
        raise ValueError(f"rows: there is no {strange[0]!r}; there are {', '.join(known)}.")
    return [row for row in known if row in wanted]


@contextmanager
def shared(name: str) -> Iterator[str | Path]:
    """The checkpoint of a network that several cells of a sweep may need: trained once, for all.

    The first to come trains it, the others wait. Outside of a sweep it is the name itself.
    """
    folder = os.environ.get(SHARED_DIR)
    if not folder:
        yield name
        return
    import fcntl  # a sweep needs it, and it is not everywhere

    Path(folder).mkdir(parents=True, exist_ok=True)
    with Path(folder, f"{name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Path(folder, f"{name}.pt")


class Study(Runs):
    """Runs on one category of MVTec AD, and how they are measured.

    Args:
        part: the category; its images are levelled to one brightness (chapter 03).
        make: builds an untrained detector whose score has a "map_o".
        sigma: of the Gaussian that smooths every anomaly map, in pixels.
        training: steps, batch_size, lr and so on, as for `Runs`.
    """

    def __init__(
        self, part: MVTecAD, make: Callable[[], Detector], *, sigma: float = 1.0, **training
    ):
        target = float(brightness(part.train.images).mean())
        super().__init__(part.category, level(part.train.images, target), make, **training)
        self.part, self.sigma = part, sigma
        self.test = level(part.test.images, target)

    def measure(self, detector: Detector) -> dict[str, float]:
        """Judge a trained detector on the test images.

        Returns:
            "pixel", "ap", "pro", "image" of its error map, as in `evaluate`. "defect" and "sound":
            its mean squared error inside the masks, and on sound images. For a Boosted with a
            `score_weight` also "hybrid_pixel" … of S_total.
        """
        seen, test = collect(detector, self.test), self.part.test
        masks, labels = test.masks.numpy(), test.labels.numpy()
        found = evaluate(seen["map_o"], test, self.sigma)
        found["defect"] = float(seen["map_o"][masks].mean())
        found["sound"] = float(seen["map_o"][labels == 0].mean())
        if isinstance(detector, Boosted) and detector.score_weight is not None:
            both = detector.total(seen, collect(detector, self.train))["map_total"]
            hybrid = evaluate(np.asarray(both), test, self.sigma)
            found |= {f"hybrid_{key}": value for key, value in hybrid.items()}
        return found
