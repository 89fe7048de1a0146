"""Scores by hand: eq. 5, eq. 6, the two rulers, smoothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from fmabs_lite.scoring import (
    enlarge,
    feature_score,
    hybrid_score,
    minmax,
    peak,
    smooth,
    standardise,
)

scores = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20).map(np.array)


def test_feature_score_is_a_mean_of_squares_for_each_image():
    fea_t = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])  # (2, 1, 1, 2)
    fea_s = torch.tensor([[[[4.0, 2.0]]], [[[1.0, 1.0]]]])
    assert feature_score(fea_t, fea_s).tolist() == [4.5, 1.0]


def test_hybrid_score_by_hand():
    assert np.allclose(hybrid_score(np.array([1.0, 0.0]), np.array([0.0, 4.0]), 0.25), [0.25, 3.0])


@given(scores, st.floats(0, 1))
def test_hybrid_of_a_score_with_itself_is_the_score(s, lam):
    assert np.allclose(hybrid_score(s, s, lam), s)


@pytest.mark.parametrize("lam", [-0.1, 1.1, float("nan")])
def test_hybrid_refuses_a_lambda_outside_its_range(lam):
    with pytest.raises(ValueError, match="lam is .*must lie in"):
        hybrid_score(np.zeros(2), np.zeros(2), lam)


def test_hybrid_refuses_scores_of_different_frames():
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        hybrid_score(np.zeros(2), np.zeros(3), 0.5)


def test_minmax_scales_each_video_by_itself():
    got = minmax(np.array([1.0, 3.0, 2.0, 7.0, 7.0]), np.array([0, 0, 0, 1, 1]))
    assert np.allclose(got, [0, 1, 0.5, 0, 0])


@given(scores, st.floats(0.1, 10), st.floats(-5, 5))
def test_minmax_forgets_scale_and_offset(s, scale, offset):
    s = np.round(s, 3)
    groups = np.zeros(len(s))
    assert np.allclose(minmax(scale * s + offset, groups), minmax(s, groups), atol=1e-6)


def test_standardise_by_hand_and_without_spread():
    assert np.allclose(standardise(np.array([5.0]), np.array([1.0, 3.0])), [3.0])
    for reference in ([2.0, 2.0], [2.0, np.nan]):
        with pytest.raises(ValueError, match="reference has no finite spread"):
            standardise(np.array([5.0]), np.array(reference))


def test_smooth_agrees_with_scipy_and_leaves_sigma_0_alone():
    maps = np.random.default_rng(0).random((2, 40, 50)).astype(np.float32)
    ours, theirs = smooth(maps, 2.0), gaussian_filter(maps, (0, 2.0, 2.0), mode="reflect")
    assert np.abs(ours - theirs).max() < 2e-3
    assert smooth(maps, 0) is maps


def test_peak_and_enlarge():
    maps = np.zeros((2, 3, 4), np.float32)
    maps[1, 2, 3] = 5
    assert peak(maps).tolist() == [0, 5]
    assert enlarge(maps, (6, 8)).shape == (2, 6, 8)
    assert np.allclose(enlarge(np.full((1, 3, 4), 2.0), (24, 32)), 2.0)
