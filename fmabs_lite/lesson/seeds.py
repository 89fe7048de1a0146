"""What several seeds say, and what they do not (chapter 03).

Numbers here are shares in [0, 1]; texts are in percent or percentage points. An interval over
seeds covers the chance in weights and batches. It does not cover the choice of test images.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

POWER = 0.8  # how often an effect should be told from zero, if it is there


@cache
def shift(seeds: int) -> float:
    """How far from zero a mean must truly lie, in its own standard errors, to be told from it.

    The noncentrality at which Student's t test of so many seeds, two-sided at 5 %, leaves zero out
    in 80 % of all repetitions: 2.8 for many seeds, 5.6 for three.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    edge = t.ppf(0.975, seeds - 1)
    return brentq(lambda far: nct.sf(edge, seeds - 1, far) - POWER, 0.1, 10 * edge)


def seeds_for(effect: float, deviation: float, most: int = 1000) -> int | None:
    """How many seeds tell an effect from zero at 80 % power; None if `most` are too few.

    Args:
        effect: the mean difference hoped for.
        deviation: standard deviation of that difference from seed to seed, in the same unit.
    """
    enough = (n for n in range(2, most + 1) if shift(n) * deviation <= abs(effect) * n**0.5)
    return next(enough, None)


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

    @property
    def error(self) -> float:
        """The standard error of the mean, in points."""
        from scipy.stats import t

        return (self.high - self.mean) / float(t.ppf(0.975, self.seeds - 1))

    @property
    def smallest(self) -> float:
        """The smallest true difference that so many seeds tell from zero in 80 % of cases, in
        points; the scatter that these seeds show is taken for the true one.
        """
        return shift(self.seeds) * self.error

    def seeds_for(self, effect: float) -> int | None:
        """How many seeds would tell a difference of `effect` points from zero, see `seeds_for`."""
        return seeds_for(effect, self.error * self.seeds**0.5)

    @property
    def decimals(self) -> int:
        """One, or as many as it takes for the interval not to read 0.0 to 0.0; four at most."""
        widest = max(abs(self.low), abs(self.high))
        return next((n for n in (1, 2, 3) if round(widest, n) > 0), 4)

    @property
    def short(self) -> str:
        """For a cell of a table: "+1.2 (-0.3 to +2.7)", bold where zero lies outside."""
        digits = max(1 if self.high - self.low >= 2 else 2, self.decimals)
        text = f"{self.mean:+.{digits}f} ({self.low:+.{digits}f} to {self.high:+.{digits}f})"
        return f"**{text}**" if self.settled else text

    @property
    def word(self) -> str:
        """Where the first row stands: "above", "below" or "not told apart from"."""
        return "above" if self.low > 0 else "below" if self.high < 0 else "not told apart from"

    def __str__(self) -> str:
        text = f"{self.mean:+.1f} points (95 % interval {self.low:+.1f} to {self.high:+.1f})"
        return text if self.settled else text + ", not told apart from zero"


class Ratio(Interval):
    """Geometric mean of paired ratios."""

    @property
    def settled(self) -> bool:
        """Whether the interval leaves one out."""
        return self.leaves_out(1)

    @property
    def smallest(self) -> float:
        """The smallest true factor above one that so many seeds tell from one in 80 % of cases."""
        return float(np.exp(Difference(*np.log(self[:3]), self.seeds).smallest))

    @property
    def short(self) -> str:
        """For a cell of a table: "×1.25 (0.98 to 1.60)", bold where one lies outside."""
        digits = 2 if self.high - self.low >= 0.05 else 3
        text = f"×{self.mean:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"
        return f"**{text}**" if self.settled else text

    def __str__(self) -> str:
        text = f"×{self.mean:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"
        return text if self.settled else text + ", not told apart from one"


def difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Compare two rows of a table seed by seed, with Student's t interval (chapter 03).

    Args:
        one, other: a share in [0, 1] for each seed. A single number stands for every seed of the
            other row, as for a detector that draws no random numbers.
    Raises:
        ValueError: for fewer than two seeds, or rows of different length.
    """
    from scipy.stats import t

    one, other = np.asarray(one, float), np.asarray(other, float)
    if len(one) != len(other) and 1 not in (len(one), len(other)) or max(len(one), len(other)) < 2:
        raise ValueError(
            f"one has {len(one)} seeds and other {len(other)}; give at least two seeds, and as "
            "many in both rows (or a single number in one of them)."
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
    """Mean ± sample standard deviation over seeds, in percent: "71.3 ± 1.2"; one value has none."""
    values = 100 * np.asarray(values, dtype=float)
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
