"""Intervals over seeds, against scipy's own test and by hand."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from fmabs_lite.seeds import difference, spread


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


def test_spread():
    assert spread([0.5]) == "50.0"
    assert spread([0.4, 0.6]) == "50.0 ± 14.1"
