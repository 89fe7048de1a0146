"""What several seeds say, and what they do not (chapter 03).

Numbers here are shares in [0, 1]; texts are in percent or percentage points. An interval over
seeds covers the chance in weights and batches. It does not cover the choice of test images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate and its 95 % interval over `seeds` seeds."""

    mean: float
    low: float
    high: float
    seeds: int

    def leaves_out(self, value: float) -> bool:
        """Whether the value lies outside the interval."""
        return self.low > value or self.high < value


class Difference(Interval):
    """Mean paired difference, in percentage points."""

    @property
    def settled(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.leaves_out(0)

    def __str__(self) -> str:
        text = f"{self.mean:+.1f} points (95 % interval {self.low:+.1f} to {self.high:+.1f})"
        return text if self.settled else text + ", not told apart from zero"


class Ratio(Interval):
    """Geometric mean of paired ratios."""

    @property
    def settled(self) -> bool:
        """Whether the interval leaves one out."""
        return self.leaves_out(1)

    def __str__(self) -> str:
        text = f"×{self.mean:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"
        return text if self.settled else text + ", not told apart from one"


def difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Compare two rows of a table seed by seed, with Student's t interval (chapter 03).

    Args:
        one: a share in [0, 1] for each seed.
        other: the same for the other row; a single number stands for every seed, as for a
            detector that draws no random numbers.
    Raises:
        ValueError: for fewer than two seeds, or rows of different length.
    """
    from scipy.stats import t

    one, other = np.asarray(one, float), np.asarray(other, float)
    if len(one) < 2 or len(other) not in (1, len(one)):
        raise ValueError(
            f"one has {len(one)} seeds and other {len(other)}; give at least two seeds, and as "
            "many in both rows (or a single number in the second)."
        )
    gaps = 100 * (one - other)
    mean = float(gaps.mean())
    half = float(t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
    return Difference(mean, mean - half, mean + half, len(gaps))


def ratio(one: Sequence[float], other: Sequence[float]) -> Ratio:
    """Compare positive numbers without a natural unit, such as errors, seed by seed (chapter 05).

    Student's t interval of the differences of their logarithms.

    Args:
        one, other: a positive number for each seed.
    Raises:
        ValueError: for a number that is not positive; else as `difference`.
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    if not ((one > 0).all() and (other > 0).all()):
        raise ValueError("a ratio needs positive numbers in both rows.")
    mean, low, high, seeds = difference(np.log(one) / 100, np.log(other) / 100)
    return Ratio(float(np.exp(mean)), float(np.exp(low)), float(np.exp(high)), seeds)


def spread(values: Sequence[float]) -> str:
    """Mean ± sample deviation over seeds, in percent: "71.3 ± 1.2"; one value has no deviation."""
    values = 100 * np.asarray(values, dtype=float)
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
