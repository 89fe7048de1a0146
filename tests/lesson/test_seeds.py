"""Intervals over seeds, against scipy's own test and by hand."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from fmabs_lite.lesson.seeds import Difference, difference, ratio, seeds_for, shift, spread


def test_difference_agrees_with_the_paired_t_test():
    one, other = [0.80, 0.84, 0.79], [0.78, 0.80, 0.78]
    got = difference(one, other)
    interval = ttest_rel(one, other).confidence_interval(0.95)
    assert got.mean == pytest.approx(100 * np.mean(np.subtract(one, other)))
    assert (got.low, got.high) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert not got.settled and str(got).endswith("not told apart from zero")


def test_a_clear_difference_is_settled_and_has_a_sign():
    got = difference([0.90, 0.91, 0.92], [0.5])
    assert got.settled and got.seeds == 3 and str(got).startswith("+41.0 points")
    assert difference([0.1, 0.11], [0.9, 0.91]).settled is True


@pytest.mark.parametrize("other", [[], [0.1, 0.2, 0.3, 0.4]])
def test_rows_must_fit(other):
    with pytest.raises(ValueError, match="3 seeds and other"):
        difference([0.1, 0.2, 0.3], other)


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match="at least two seeds"):
        difference([0.1], [0.2])


def test_ratio_by_hand():
    got = ratio([2.0, 8.0], [1.0, 1.0])  # logarithms 1 and 3 in base 2
    assert got.mean == pytest.approx(4) and got.seeds == 2
    # Two seeds: t = 12.706, and the deviation over the root of 2 is log 2.
    assert got.high == pytest.approx(4 * 2**12.7062, rel=1e-4)
    assert got.low == pytest.approx(4 / 2**12.7062, rel=1e-4)
    assert not got.settled and str(got).endswith("not told apart from one")


def test_ratio_agrees_with_the_paired_t_test_of_logarithms():
    one, other = [0.5, 0.4, 0.45], [1.0, 0.9, 0.95]
    got = ratio(one, other)
    interval = ttest_rel(np.log(one), np.log(other)).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert got.settled and str(got).startswith("×0.47 (95 % interval 0.4")
    back = ratio(other, one)
    assert (back.mean, back.low) == pytest.approx((1 / got.mean, 1 / got.high))
    assert back.settled is True


def test_a_ratio_in_a_cell_is_bold_where_one_lies_outside():
    assert ratio([0.5, 0.4, 0.45], [1.0, 0.9, 0.95]).short.startswith("**×0.47 (0.4")
    assert ratio([2.0, 8.0], [1.0, 1.0]).short.startswith("×4.00 (0.00 to ")
    narrow = ratio([0.500, 0.501], [0.5, 0.5])
    assert narrow.short == f"×1.001 ({narrow.low:.3f} to {narrow.high:.3f})"


def test_ratio_has_no_unit():
    one, other = np.array([3.0, 5.0, 4.0]), np.array([2.0, 2.5, 2.2])
    assert ratio(1000 * one, 1000 * other) == pytest.approx(ratio(one, other))


@pytest.mark.parametrize("one, other", [([1, 0], [1, 1]), ([1, 1], [1, -2]), ([1, np.nan], [1, 1])])
def test_a_ratio_needs_positive_numbers(one, other):
    with pytest.raises(ValueError, match="positive numbers in both rows"):
        ratio(one, other)


def test_a_ratio_needs_rows_that_fit():
    with pytest.raises(ValueError, match="one has 3 seeds and other 2"):
        ratio([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="at least two seeds"):
        ratio([1], [2])
    assert ratio([2, 2.1], [1]).seeds == 2


def test_spread():
    assert spread([0.5]) == "50.0"
    assert spread([0.4, 0.6]) == "50.0 ± 14.1"


def share_told(effect: float, seeds: int, repeats: int = 4000) -> float:
    """How often an effect, in standard deviations over seeds, is told from zero: a simulation."""
    gaps = np.random.default_rng(seeds).normal(effect, 1, (repeats, seeds))
    return float(np.mean(ttest_1samp(gaps, 0, axis=1).pvalue < 0.05))


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
def test_the_smallest_effect_is_told_in_four_of_five_simulations(seeds):
    assert share_told(shift(seeds) / seeds**0.5, seeds) == pytest.approx(0.8, abs=0.025)


def test_the_smallest_difference_by_hand():
    gap = difference([0.51, 0.52, 0.53], [0.5])  # 1, 2 and 3 points: standard error 1 / √3
    assert gap.error == pytest.approx(1 / 3**0.5)
    assert gap.smallest == pytest.approx(shift(3) / 3**0.5) == pytest.approx(3.26, abs=0.01)
    assert shift(1000) == pytest.approx(1.96 + 0.8416, abs=0.01)  # the normal quantiles


def test_seeds_that_a_gain_needs():
    assert seeds_for(1.4, 0.8) == 5  # one would not do: share_told is the judge
    assert share_told(1.4 / 0.8, 5) > 0.8 > share_told(1.4 / 0.8, 4)
    assert seeds_for(-1.4, 0.8) == 5 and seeds_for(0.01, 5) is None and seeds_for(1, 0) == 2
    gap = difference([0.51, 0.52, 0.53], [0.5])
    assert gap.seeds_for(2.0) == seeds_for(2.0, 1.0)


def test_the_smallest_ratio_is_that_of_its_logarithms():
    one, other = [2.0, 2.2, 2.5], [1.0, 1.0, 1.0]
    logs = difference(np.log(one) / 100, [0])
    assert np.log(ratio(one, other).smallest) == pytest.approx(logs.smallest)
    assert ratio(one, other).smallest > 1


def test_a_difference_in_a_cell_and_in_a_word():
    assert Difference(1.25, -0.5, 3.0, 3).short == "+1.2 (-0.5 to +3.0)"
    assert Difference(0.25, 0.1, 0.4, 3).short == "**+0.25 (+0.10 to +0.40)**"
    words = [Difference(m, m - 1, m + 1, 3).word for m in (2, -2, 0)]
    assert words == ["above", "below", "not told apart from"]


@pytest.mark.parametrize(
    "high, decimals", [(12.0, 1), (0.06, 1), (0.03, 2), (0.004, 3), (0.0002, 4), (0.0, 4)]
)
def test_a_small_interval_is_told_with_enough_decimals(high, decimals):
    assert Difference(0.0, -high, high, 10).decimals == decimals


def test_no_interval_but_nothing_at_all_reads_nothing():
    assert Difference(0.0002, -0.0004, 0.0031, 10).short == "+0.000 (-0.000 to +0.003)"
    assert Difference(0.0, 0.0, 0.0, 10).short == "+0.0000 (+0.0000 to +0.0000)"
