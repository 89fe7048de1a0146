"""Bootstrap over test images, the exact paired test, Holm's correction."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fmabs_lite.lesson.chance import bootstrap, holm, paired_test, resampled
from fmabs_lite.metrics import auroc, average_precision

RNG = np.random.default_rng(4)
LABELS = np.array([0] * 30 + [1] * 20)
SCORES = np.round(RNG.normal(LABELS * 0.8, 1), 1)  # with ties


@pytest.mark.parametrize(
    "measure, function", [("auroc", roc_auc_score), ("ap", average_precision_score)]
)
def test_each_resample_is_measured_as_scikit_learn_does(measure, function):
    """The same draws, a set at a time, each measured by an independent function."""
    rng, expected = np.random.default_rng(3), []
    bad, good = np.flatnonzero(LABELS == 1), np.flatnonzero(LABELS == 0)
    rows = [rng.integers(0, len(kind), (40, len(kind))) for kind in (bad, good)]
    for one, other in zip(*rows, strict=True):
        drawn = np.concatenate([bad[one], good[other]])
        expected.append(function(LABELS[drawn], SCORES[drawn]))
    found = resampled(SCORES, LABELS, measure, resamples=40, seed=3)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("measure, own", [("auroc", auroc), ("ap", average_precision)])
def test_the_value_is_that_of_the_test_set_and_lies_inside(measure, own):
    found = bootstrap(SCORES, LABELS, measure)
    assert found.value == pytest.approx(own(SCORES, LABELS))
    assert found.low < found.value < found.high and found.resamples == 2000
    low, high = np.percentile(resampled(SCORES, LABELS, measure), [2.5, 97.5])
    assert (found.low, found.high) == (low, high)
    assert found == bootstrap(SCORES, LABELS, measure) != bootstrap(SCORES, LABELS, measure, seed=1)


def test_its_width_is_the_one_that_theory_gives():
    """Hanley and McNeil's standard error of an AUROC, for a large normal sample."""
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 300)
    scores = rng.normal(labels, 1)
    area = auroc(scores, labels)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = np.sqrt((area * (1 - area) + 299 * (q1 - area**2) + 299 * (q2 - area**2)) / 300**2)
    assert resampled(scores, labels).std() == pytest.approx(error, rel=0.1)


def test_one_seed_draws_the_same_images_for_every_detector():
    pairs = resampled(SCORES, LABELS) - resampled(2 * SCORES + 1, LABELS)
    assert not pairs.any()
    assert resampled(-SCORES, LABELS) + resampled(SCORES, LABELS) == pytest.approx(1)


def test_what_cannot_be_resampled_is_said():
    with pytest.raises(ValueError, match="measure is 'pro'; there are auroc, ap"):
        resampled(SCORES, LABELS, "pro")
    with pytest.raises(ValueError, match="with 0 anomalous; give one score an image"):
        bootstrap(SCORES, 0 * LABELS)
    with pytest.raises(ValueError, match=r"scores have shape \(3,\), labels \(2,\)"):
        resampled([1, 2, 3], [0, 1])


def test_paired_test_by_hand():
    assert paired_test([0.9, 0.8, 0.7], [0.5, 0.5, 0.5]) == 2 / 8
    assert paired_test([0.6, 0.5, 0.5], [0.5]) == 1  # 0.1, 0, 0: every choice is as far
    assert paired_test([3, 2, 1, -1], [0] * 4) == 6 / 16  # sums of ±5 or more: 5, 5, 7 and mirrored
    assert paired_test([0.1, 0.2], [0.1, 0.2]) == 1


def test_paired_test_against_all_signs_written_out():
    gaps = np.random.default_rng(1).normal(0.5, 1, 9)
    far = [abs(np.dot(signs, gaps)) for signs in product((1, -1), repeat=9)]
    expected = np.mean([value >= abs(gaps.sum()) - 1e-9 for value in far])
    assert paired_test(gaps, [0]) == expected
    ones = np.ones(9) - 2 * np.eye(9)[0]  # equal sizes: the binomial sign test
    assert paired_test(ones, [0]) == pytest.approx(2 * (1 + comb(9, 1)) / 2**9)


def test_paired_test_refuses_what_it_cannot_count():
    for one, other in (([1.0], [0.0]), ([1.0, 2.0, 3.0], [1.0, 2.0]), ([0.0] * 17, [0.0])):
        with pytest.raises(ValueError, match=f"one has {len(one)} seeds and other {len(other)}"):
            paired_test(one, other)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.9]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([0.2]) == pytest.approx([0.2]) and len(holm([])) == 0
