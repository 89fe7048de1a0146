"""What chance alone could have done (chapter 16).

Three sources of chance, three tools. Another test set: a bootstrap over test images. Other seeds:
an exact paired test, which assumes no shape of their spread, only that without a difference either
sign is as likely. Many questions asked at once: Holm's correction. The first two are scipy's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from fmabs_lite.metrics import auroc, average_precision

MEASURES = {"auroc": auroc, "ap": average_precision}


class Bootstrap(NamedTuple):
    """A measure on the test images at hand, and its 95 % interval over `resamples` resamples."""

    value: float
    low: float
    high: float
    resamples: int


def resampled(
    scores: ArrayLike,
    labels: ArrayLike,
    measure: str = "auroc",
    resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """A measure on `resamples` test sets drawn with replacement from the one at hand.

    Normal and anomalous images are drawn apart, so that every set has as many of each: their share
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
    scores, truth = np.asarray(scores, float), np.asarray(labels).astype(bool)
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}; there are {', '.join(MEASURES)}.")
    if scores.shape != truth.shape or scores.ndim != 1 or truth.all() or not truth.any():
        raise ValueError(
            f"scores have shape {scores.shape}, labels {truth.shape} with {truth.sum()} anomalous; "
            "give one score an image, and images of both kinds."
        )

    def measured(bad: np.ndarray, good: np.ndarray) -> float:
        drawn = np.concatenate([bad, good])
        return MEASURES[measure](scores[drawn], truth[drawn])

    images = np.flatnonzero(truth), np.flatnonzero(~truth)
    found = stats.bootstrap(
        images, measured, n_resamples=resamples, vectorized=False, method="percentile",
        random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return found.bootstrap_distribution


def bootstrap(
    scores: ArrayLike,
    labels: ArrayLike,
    measure: str = "auroc",
    resamples: int = 2000,
    seed: int = 0,
) -> Bootstrap:
    """A measure and its 95 % percentile interval over test images. Arguments as `resampled`."""
    low, high = np.percentile(resampled(scores, labels, measure, resamples, seed), [2.5, 97.5])
    value = MEASURES[measure](np.asarray(scores, float), np.asarray(labels))
    return Bootstrap(float(value), float(low), float(high), resamples)


def paired_test(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value of a paired difference over seeds, by an exact permutation test.

    If the two rows did not differ, each seed's pair could as well have stood the other way round.
    The p-value tells how many of all 2ⁿ choices have a mean difference at least as far from zero as
    the one found. So n seeds can never give less than 2 / 2ⁿ: three seeds 0.25, six 0.03.

    Args:
        one, other: a number for each seed; a single number in `other` stands for every seed.
    Raises:
        ValueError: for fewer than two seeds or more than 16, or rows of different length.
    """
    if not 2 <= len(one) <= 16 or len(other) not in (1, len(one)):
        raise ValueError(
            f"one has {len(one)} seeds and other {len(other)}; give 2 to 16, and as many in both "
            "rows (or a single number in the second)."
        )
    rows = np.broadcast_arrays(np.asarray(one, float), np.asarray(other, float))
    found = stats.permutation_test(
        rows, lambda a, b, axis: (a - b).mean(axis), permutation_type="samples",
        n_resamples=np.inf, vectorized=True,
    )  # fmt: skip
    return float(found.pvalue)


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
