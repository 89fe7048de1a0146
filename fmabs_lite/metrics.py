"""AUROC, average precision and PRO: exact, ties included, every pixel sorted once (chapter 02).

All three are averages over the anomalous pixels (or frames, or images). What is averaged is how
each of them stands against the normal ones:

- AUROC: the share of normal scores it beats, a tie counting half.
- Average precision: the share of anomalous ones among all scores at least as high as its own.
- PRO: the share of normal scores it beats among the highest ``max_fpr`` of them, each connected
  defect counting the same, however many pixels it has.

So it is enough to sort the normal scores once and to look every anomalous one up among them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

PORTION = 2**26  # scores of which the normal ones are sorted together


class Standing(NamedTuple):
    """Where each anomalous score stands. Arrays of one entry per anomalous score, in the order
    of ``scores[labels]``.
    """

    above: np.ndarray  # normal scores strictly higher
    level: np.ndarray  # normal scores equal to it
    hits: np.ndarray  # anomalous scores at least as high, itself included
    normal: int  # normal scores in all


def standing(scores: np.ndarray, labels: np.ndarray) -> Standing:
    """Look up every anomalous score among the normal ones. Each score is sorted once.

    ``scores`` and the boolean ``labels`` have the same shape, any shape.
    """
    anomalous = scores[labels]
    order = np.argsort(anomalous)
    ranked = anomalous[order]  # sorted queries make the binary search several times faster
    above, level, hits = (np.zeros_like(order) for _ in range(3))
    hits[order] = len(ranked) - np.searchsorted(ranked, ranked, side="left")
    count = 0
    for normal in sorted_normals(scores, labels):
        up_to = np.searchsorted(normal, ranked, side="right")
        above[order] += len(normal) - up_to
        level[order] += up_to - np.searchsorted(normal, ranked, side="left")
        count += len(normal)
    return Standing(above, level, hits, count)


def sorted_normals(scores: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """The normal scores, in portions that are sorted each by itself: what they count adds up.

    So of maps in a memory map, one portion is in memory at a time.
    """
    rows = max(1, PORTION * len(scores) // scores.size)
    for start in range(0, len(scores), rows):
        normal = scores[start : start + rows][~labels[start : start + rows]]
        normal.sort()
        yield normal


def share_beaten(s: Standing) -> float:
    """AUROC: the mean share of normal scores that an anomalous score beats, ties half."""
    return float(1 - np.mean(s.above + s.level / 2) / s.normal)


def precision_at_hits(s: Standing) -> float:
    """Average precision: the mean precision when the threshold is an anomalous score itself."""
    return float(np.mean(s.hits / (s.hits + s.above + s.level)))


def region_weights(masks: np.ndarray) -> np.ndarray:
    """A weight for each defect pixel, in the order of ``scores[masks]``; they sum to 1.

    Every connected defect of the test set gets the same weight and shares it among its pixels.
    ``masks``: boolean ``(N, H, W)``. Pixels that touch at a corner are connected (8 neighbours).
    """
    weights, regions = [], 0
    for mask in filter(np.any, masks):
        crop = mask[ndimage.find_objects(mask.astype(int))[0]]  # smaller is faster
        region, count = ndimage.label(crop, structure=np.ones((3, 3)))
        size = np.bincount(region.ravel())
        weights.append(1 / size[region[crop]])
        regions += count
    return np.concatenate(weights) / regions


def overlap_area(s: Standing, weights: np.ndarray, max_fpr: float) -> float:
    """PRO: the weighted area under the defect pixels' own curves up to ``max_fpr``, divided by it.

    One pixel's curve over the false positive rate is 0 until ``above`` normal pixels are passed,
    rises in a straight line while those level with it join, and is 1 from there on.
    """
    start = s.above / s.normal
    end = (s.above + s.level) / s.normal
    rise = np.maximum(end - start, np.finfo(float).tiny)  # a pixel without ties rises at once
    climbed = np.clip(max_fpr - start, 0, rise)  # as much of that as comes before the cut
    triangle = climbed * climbed / (2 * rise)
    rectangle = np.maximum(max_fpr - end, 0)
    return float(weights @ (triangle + rectangle) / max_fpr)


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve, in [0, 1]; 0.5 for a constant score.

    ``scores`` and ``labels`` (1 or True = anomalous) have the same shape, any shape: frames
    ``(T,)``, images ``(N,)`` or pixels ``(N, H, W)``, which are pooled.

    Raises ``ValueError`` for empty input, different shapes, NaN, other labels, or one class only.
    """
    return share_beaten(standing(*_checked("scores", scores, "labels", labels)))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Step-wise area under the precision–recall curve, in (0, 1] (scikit-learn's definition).

    A constant score gets the share of anomalous labels. Arguments and errors as in ``auroc``.
    """
    return precision_at_hits(standing(*_checked("scores", scores, "labels", labels)))


def pro(maps: ArrayLike, masks: ArrayLike, max_fpr: float = 0.3) -> float:
    """Per-region overlap up to a false positive rate of ``max_fpr``, in [0, 1].

    The area under the curve of the mean covered fraction of all connected defects of the test
    set (8 neighbours) over the false positive rate among all its normal pixels, from 0 to exactly
    ``max_fpr``, divided by ``max_fpr``. Points of the curve are joined by straight lines.

    ``maps``: anomaly maps ``(N, H, W)``; ``masks``: True on defects, ``(N, H, W)``.
    Errors as in ``auroc``; also when ``max_fpr`` is not in (0, 1].
    """
    return localization(maps, masks, max_fpr)["pro"]


def localization(maps: ArrayLike, masks: ArrayLike, max_fpr: float = 0.3) -> dict[str, float]:
    """Pixel AUROC (``"auroc"``), average precision (``"ap"``) and PRO (``"pro"``) together.

    The pixels of all maps are pooled and sorted once. Arguments and errors as in ``pro``.
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr is {max_fpr}; give a false positive rate in (0, 1], such as 0.3")
    maps, masks = _checked("maps", maps, "masks", masks)
    if masks.ndim != 3:
        raise ValueError(
            f"maps and masks must be (N, H, W), not {masks.shape}; add axis N = 1 "
            "for a single map, drop a channel axis"
        )
    s = standing(maps, masks)
    return {
        "auroc": share_beaten(s),
        "ap": precision_at_hits(s),
        "pro": overlap_area(s, region_weights(masks), max_fpr),
    }


def _checked(scores_name: str, scores: ArrayLike, labels_name: str, labels: ArrayLike):
    """Both as arrays, labels as bool; every way they can be unfit is an error that says so."""
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.shape != labels.shape:
        raise ValueError(
            f"{scores_name} {scores.shape} and {labels_name} {labels.shape} differ "
            "in shape; give one label for each score"
        )
    if scores.size == 0:
        raise ValueError(
            f"{scores_name} and {labels_name} are empty; check that the test set was found and read"
        )
    if np.isnan(scores.min()):  # the smallest of all is NaN if any is
        nan = np.isnan(scores)
        first = tuple(int(i) for i in np.argwhere(nan)[0])
        raise ValueError(
            f"{scores_name} holds {nan.sum()} NaN, the first at index {first}; "
            "find the step that made it, such as a division by a zero deviation"
        )
    if labels.dtype != bool:
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"{labels_name} must be 0 (normal) or 1 (anomalous); "
                "threshold it first, for instance labels >= 0.5"
            )
        labels = labels.astype(bool)
    if labels.all() or not labels.any():
        only = "anomalous" if labels.all() else "normal"
        raise ValueError(
            f"{labels_name} holds one class only, all {only}; these metrics compare "
            "anomalous with normal, so pool the whole test set"
        )
    return scores, labels
