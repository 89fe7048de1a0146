"""From scores to a number for a set of videos: every step by hand, and nothing crosses a video."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fmabs_lite.data.clips import Clip
from fmabs_lite.metrics import auroc
from fmabs_lite.videos import (
    average,
    frame_scores,
    gaussian,
    labels_of,
    macro,
    median,
    one_class,
    psnr,
    videos_of,
)


def clip(labels, name: str = "01") -> Clip:
    labels = np.array(labels, np.int8)
    return Clip(name, np.zeros((len(labels), 1, 2, 2), np.uint8), labels)


CLIPS = [clip([0, 1, 0]), clip([1, 0])]
VIDEOS = np.array([0, 0, 0, 1, 1])


def test_frames_are_counted_clip_after_clip():
    assert videos_of(CLIPS).tolist() == [0, 0, 0, 1, 1]
    assert labels_of(CLIPS).tolist() == [0, 1, 0, 1, 0]


def test_psnr_in_decibels():
    assert np.allclose(psnr(np.array([1.0, 0.01, 1e-4])), [0, 20, 40])
    assert np.isfinite(psnr(np.array([0.0])))


def test_a_frame_has_the_score_of_its_worst_object():
    where = np.array([[0, 0], [1, 1], [0, 0], [0, 2]])
    scores = frame_scores(np.array([1.0, 5.0, 3.0, 2.0]), where, CLIPS)
    assert scores.tolist() == [3, 1, 2, 1, 5]  # frames without objects: the lowest, 1
    assert frame_scores(np.array([1.0, 5.0, 3.0, 2.0]), where, CLIPS, empty=-7)[1] == -7


def test_a_frame_has_the_mean_of_its_highest():
    where = np.array([[0, 1], [0, 1], [0, 1], [1, 0]])
    scores = frame_scores(np.array([1.0, 6.0, 4.0, 2.0]), where, CLIPS, top=2, empty=0)
    assert scores.tolist() == [0, 5, 0, 2, 0]  # one object: its own score


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-9, 9)), min_size=1, max_size=30),
       st.integers(1, 4))  # fmt: skip
def test_frame_scores_against_a_plain_loop(objects, top):
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    where = np.array([places[frame] for frame, _ in objects])
    values = np.array([value for _, value in objects])
    want = []
    for place in places:
        mine = sorted((v for v, w in zip(values, where, strict=True) if tuple(w) == place))
        want.append(np.mean(mine[-top:]) if mine else values.min())
    assert np.allclose(frame_scores(values, where, CLIPS, top=top), want)


def test_a_shift_by_one_frame_shows():
    where = np.array([[0, 1], [1, 0]])
    right = frame_scores(np.ones(2), where, CLIPS, empty=0)
    assert auroc(right, labels_of(CLIPS)) == 1
    wrong = frame_scores(np.ones(2), where + [0, 1], CLIPS, empty=0)
    assert auroc(wrong, labels_of(CLIPS)) < 0.5


def test_median_and_average_by_hand():
    scores = np.array([0.0, 9.0, 3.0, 100.0, 200.0])
    assert median(scores, VIDEOS, 3).tolist() == [0, 3, 3, 100, 200]
    assert average(scores, VIDEOS, 3).tolist() == [3, 4, 5, 400 / 3, 500 / 3]


def test_gaussian_of_one_spike_is_the_bell():
    scores, videos = np.zeros(101), np.zeros(101, int)
    scores[50] = 1
    found = gaussian(scores, videos, 5.0)
    want = norm.pdf(np.arange(-50, 51), scale=5)
    assert np.allclose(found, want, atol=1e-3) and found.argmax() == 50


@pytest.mark.parametrize("step", [lambda s, v: median(s, v, 5), lambda s, v: average(s, v, 5),
                                  lambda s, v: gaussian(s, v, 2.0)])  # fmt: skip
def test_nothing_crosses_from_video_to_video(step):
    rng = np.random.default_rng(0)
    a, b, other = rng.normal(size=(3, 20))
    videos = np.repeat([0, 1], 20)
    one, two = step(np.r_[a, b], videos), step(np.r_[a, other], videos)
    assert np.array_equal(one[:20], two[:20]) and not np.allclose(one[20:], two[20:])


def test_macro_leaves_out_videos_of_one_class():
    labels = np.array([0, 1, 0, 1, 1, 0, 1])
    videos = np.array([0, 0, 0, 1, 1, 2, 2])
    scores = np.array([0.1, 0.9, 0.2, 0.0, 0.0, 0.8, 0.3])
    assert one_class(labels, videos) == [1]
    assert macro(scores, labels, videos) == 0.5  # 1 and 0
    with pytest.raises(ValueError, match="one class only"):
        macro(scores[3:5], labels[3:5], videos[3:5])
