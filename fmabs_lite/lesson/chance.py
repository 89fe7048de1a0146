"""What chance alone could have done (chapter 15).

Three sources of chance, three tools. Another test set: a bootstrap over test images. Other seeds:
an exact paired test, which assumes no shape of their spread, only that without a difference either
sign is as likely. Many questions asked at once: Holm's correction. numpy only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

CHUNK = 4_000_000  # numbers held at once


class Bootstrap(NamedTuple):
    """A measure on the test images at hand, and its 95 % interval over `resamples` resamples."""

    value: float
    low: float
    high: float
    resamples: int


def weighted_auroc(weights: np.ndarray, truth: np.ndarray, level: np.ndarray) -> np.ndarray:
    """AUROC of images that count `weights` times each; ties count half.

    Args:
        weights: (B, n) how often each image was drawn, images in the order of their scores.
        truth: (n,) bool, True for anomalous.
        level: (G,) where each group of equal scores begins.
    Returns:
        (B,).
    """
    bad = np.add.reduceat(weights * truth, level, axis=1)
    good = np.add.reduceat(weights * ~truth, level, axis=1)
    beaten = good.cumsum(axis=1) - good / 2
    return (bad * beaten).sum(axis=1) / (bad.sum(axis=1) * good.sum(axis=1))


def weighted_ap(weights: np.ndarray, truth: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Average precision of images that count `weights` times each. Shapes as `weighted_auroc`."""
    bad = np.add.reduceat(weights * truth, level, axis=1)
    every = np.add.reduceat(weights, level, axis=1)
    hits, found = (part[:, ::-1].cumsum(axis=1)[:, ::-1] for part in (bad, every))
    return (bad * hits / np.maximum(found, 1)).sum(axis=1) / bad.sum(axis=1)


MEASURES = {"auroc": weighted_auroc, "ap": weighted_ap}


def resampled(
    scores: ArrayLike,
    labels: ArrayLike,
    measure: str = "auroc",
    resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """A measure on `resamples` test sets drawn with replacement from the one at hand.

    Sound and anomalous images are drawn apart, so that every set has as many of each: their share
    was the choice of whoever made the test set. One seed draws the same images whatever the
    scores, so two detectors can be compared by subtracting what this returns for each. Frames of
    a video are no independent images; for them the spread comes out far too small.

    Args:
        scores, labels: (n,), labels 1 or True for anomalous.
        measure: "auroc" or "ap".
    Returns:
        (resamples,) shares in [0, 1].
    Raises:
        ValueError: for another measure, unequal lengths, or a class without an image.
    """
    order, truth, level = _ranked(scores, labels, measure)
    in_order = np.empty(len(order), bool)
    in_order[order] = truth
    rng, count, found = np.random.default_rng(seed), max(1, CHUNK // len(order)), []
    for start in range(0, resamples, count):
        drawn = _times_drawn(rng, in_order, min(count, resamples - start))
        found.append(MEASURES[measure](drawn[:, order], truth, level))
    return np.concatenate(found)


def _ranked(
    scores: ArrayLike, labels: ArrayLike, measure: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of the scores, the labels in that order, and where each group of ties begins."""
    scores, truth = np.asarray(scores, float), np.asarray(labels).astype(bool)
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}; there are {', '.join(MEASURES)}.")
    if scores.shape != truth.shape or scores.ndim != 1 or truth.all() or not truth.any():
        raise ValueError(
            f"scores have shape {scores.shape}, labels {truth.shape} with {truth.sum()} anomalous; "
            "give one score an image, and images of both kinds."
        )
    order = np.argsort(scores, kind="stable")
    level = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    return order, truth[order], level


def _times_drawn(rng: np.random.Generator, truth: np.ndarray, count: int) -> np.ndarray:
    """How often each image is in each of `count` test sets, (count, n)."""
    drawn = np.empty((count, len(truth)), np.int64)
    for kind in (truth, ~truth):
        many = int(kind.sum())
        drawn[:, kind] = rng.multinomial(many, np.full(many, 1 / many), size=count)
    return drawn


def bootstrap(
    scores: ArrayLike,
    labels: ArrayLike,
    measure: str = "auroc",
    resamples: int = 2000,
    seed: int = 0,
) -> Bootstrap:
    """A measure and its 95 % percentile interval over test images. Arguments as `resampled`."""
    many = resampled(scores, labels, measure, resamples, seed)
    order, truth, level = _ranked(scores, labels, measure)
    value = MEASURES[measure](np.ones((1, len(order)), np.int64), truth, level)[0]
    low, high = np.percentile(many, [2.5, 97.5])
    return Bootstrap(float(value), float(low), float(high), resamples)


def paired_test(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value of a paired difference over seeds, by an exact sign-flip test.

    If the two rows did not differ, each seed's difference could as well have had the other sign.
    The p-value is the share of all 2ⁿ choices of signs whose mean is at least as far from zero as
    the one found. So n seeds can never give less than 2 / 2ⁿ: three seeds 0.25, six 0.03.

    Args:
        one, other: a number for each seed; a single number in `other` stands for every seed.
    Raises:
        ValueError: for fewer than two seeds or more than 16, or rows of different length.
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    if not 2 <= len(one) <= 16 or len(other) not in (1, len(one)):
        raise ValueError(
            f"one has {len(one)} seeds and other {len(other)}; give 2 to 16, and as many in both "
            "rows (or a single number in the second)."
        )
    gaps = one - other
    signs = 1 - 2 * (np.arange(2 ** len(gaps))[:, None] >> np.arange(len(gaps)) & 1)
    means = np.abs(signs @ gaps)
    return float(np.mean(means >= abs(gaps.sum()) * (1 - 1e-9)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's correction: p-values that may be read as if each were the only question asked.

    The smallest of m is multiplied by m, the next by m − 1, and so on; none may come out below one
    that was smaller before, or above 1. Whoever calls "better" all that stay below 0.05 is wrong
    about any of them with a probability of at most 0.05 (Holm, 1979).

    Args:
        p_values: (m,) in [0, 1].
    Returns:
        (m,) in the order given.
    """
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = raised.clip(max=1)
    return adjusted
