"""From scores to a decision: a threshold, and new pictures judged by it (the last chapter)."""

import csv
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from fmabs_lite.data.files import read_image, resize
from fmabs_lite.data.folder import DataError
from fmabs_lite.data.photos import Pictures, pictures, tell_skipped
from fmabs_lite.saving import System

__all__ = ["Judged", "predict", "threshold"]


def threshold(scores: ArrayLike, rate: float = 0.05) -> float:
    """The score above which a picture is called anomalous: a false alarm in at most `rate`.

    Of n normal scores in ascending order it is number ⌈(n + 1)(1 − rate)⌉. A new normal picture,
    as likely to stand at any of the n + 1 places as each of these, lies above it with a probability
    of at most `rate` (a conformal bound; Vovk et al., 2005). The pictures must not be those that
    were learnt from: on these a network scores too low, and its threshold would be too low as well.

    Args:
        scores: (n,), of normal pictures that were held out.
        rate: of false alarms, between 0 and 1.
    Raises:
        ValueError: if a score is not finite, or there are too few scores for this rate.
    """
    scores = np.asarray(scores, dtype=np.float64).ravel()
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}; it is a share of false alarms, such as 0.05.")
    if not np.isfinite(scores).all():
        raise ValueError("Some of these scores are not finite, so no threshold can be set by them.")
    n = len(scores)
    number = math.ceil((n + 1) * (1 - rate) - 1e-9)  # 20 · 0.95 is 19.000000000000004
    if number > n:
        raise ValueError(
            f"{n} held-out scores are too few for a rate of {rate:g}: {math.ceil(1 / rate) - 1} "
            f"are needed. Hold out more pictures, or allow a rate of {1 / (n + 1):.2g}."
        )
    return float(np.sort(scores)[number - 1])


@dataclass
class Judged:
    """What a system says about pictures, in their order.

    scores: (N,), larger is more anomalous. maps: (N, h, w) at the system's size, or None where it
    has none. anomalous: bool (N,), which scores lie above the threshold. unread: files that could
    not be read, and why; they have no score.
    """

    paths: list[Path]
    scores: np.ndarray
    maps: np.ndarray | None
    threshold: float
    unread: dict[Path, str] = field(default_factory=dict)

    @property
    def anomalous(self) -> np.ndarray:
        return self.scores > self.threshold

    def to_csv(self, path: str | Path) -> None:
        """Write a line for each picture: file, score, threshold, anomalous, note."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["file", "score", "threshold", "anomalous", "note"])
            for where, score, bad in zip(self.paths, self.scores, self.anomalous, strict=True):
                lines.writerow([where, f"{score:.6g}", f"{self.threshold:.6g}", int(bad), ""])
            for where, why in self.unread.items():
                lines.writerow([where, "", "", "", why])

    def overlays(self, folder: str | Path) -> list[Path]:
        """Write each picture with its map over it, a colour bar, and the outline of what is found.

        The outline goes around what lies above the threshold. All pictures share one colour scale.

        Returns:
            The files written, PNG, numbered in the order of the pictures.
        Raises:
            ValueError: if the system has no maps.
        """
        if self.maps is None:
            raise ValueError("This system has scores and no maps: there is nothing to lay over.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        limits = float(self.maps.min()), float(max(self.maps.max(), self.threshold))
        written = []
        for k, (path, found) in enumerate(zip(self.paths, self.maps, strict=True)):
            written.append(folder / f"{k:04d}-{path.stem}.png")
            title = f"{path.name}: {self.scores[k]:.3g}, threshold {self.threshold:.3g}"
            draw_overlay(read_image(path), found, self.threshold, limits, title, written[-1])
        return written


def draw_overlay(
    picture: np.ndarray, found: np.ndarray, level: float, limits: tuple[float, float],
    title: str, path: Path,
) -> None:  # fmt: skip
    """One picture (H, W, 3), a map (h, w) over it, its colour bar, an outline at `level`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot, which a server need not have

    large = resize(found.astype(np.float32), picture.shape[:2])
    figure = Figure(figsize=(6, 1 + 5 * picture.shape[0] / picture.shape[1]))
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.imshow(picture)
    heat = axis.imshow(large, cmap="magma", alpha=0.5, vmin=limits[0], vmax=limits[1])
    if large.min() < level < large.max():
        axis.contour(large, [level], colors="#56b4e9", linewidths=1.5)
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)
    figure.colorbar(heat, ax=axis, label="anomaly score of a pixel", shrink=0.8)
    figure.savefig(path, bbox_inches="tight", dpi=100)


def predict(system: System, given: Pictures, batch_size: int = 16) -> Judged:
    """Judge one picture, a folder with its subfolders, or a list of both.

    A few pictures are in memory at a time, so a folder may be large; their maps stay. Files that
    cannot be read, or are no pictures, are named in one warning and have no score.

    Args:
        system: a detector with what belongs to it, see `System`; it needs a threshold.
    Raises:
        ValueError: if the system has no threshold, or one that is not finite.
        DataError: if a path does not exist, or no picture can be read.
    """
    if system.threshold is None or not math.isfinite(system.threshold):
        raise ValueError(
            f"The system's threshold is {system.threshold}, by which nothing can be decided. Set "
            "it: system.threshold = threshold(scores of held-out normal pictures)."
        )
    paths, others = pictures(given)
    tell_skipped(others)
    read, scores, maps, unread = [], [], [], {}
    for start in range(0, len(paths), batch_size):
        good, images, wrong = opened(paths[start : start + batch_size], system.size)
        unread |= wrong
        if good:
            some, where = system.judge(images)
            read += good
            scores.append(some)
            maps.append(where)
    if not read:
        raise DataError("No picture could be read. " + " ".join([*unread.values()][:3]))
    if unread:
        warnings.warn(f"{len(unread)} of {len(paths)} pictures could not be read and have no "
                      f"score: {' '.join([*unread.values()][:3])}", stacklevel=2)  # fmt: skip
    found = None if maps[0] is None else np.concatenate(maps)
    return Judged(read, np.concatenate(scores), found, system.threshold, unread)


def opened(
    paths: Sequence[Path], size: tuple[int, int]
) -> tuple[list[Path], torch.Tensor, dict[Path, str]]:
    """The pictures that can be read, uint8 (B, 3, H, W), and why the others cannot."""
    good, images, wrong = [], [], {}
    for path in paths:
        try:
            images.append(resize(read_image(path), size).transpose(2, 0, 1))
            good.append(path)
        except DataError as error:
            wrong[path] = str(error)
    stacked = np.stack(images) if images else np.empty((0, 3, *size), np.uint8)
    return good, torch.from_numpy(stacked), wrong
