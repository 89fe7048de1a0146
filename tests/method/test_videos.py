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
    box_maps,
    coarse,
    frame_scores,
    gaussian,
    labels_of,
    macro,
    median,
    one_class,
    pixel_auroc,
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


# --- where


def masked(frames: int, *places: tuple, size=(6, 9), name: str = "01") -> Clip:
    """A clip that is abnormal at `places`, each frame, y and x, or slices."""
    masks = np.zeros((frames, *size), bool)
    for place in places:
        masks[place] = True
    labels = masks.any(axis=(1, 2)).astype(np.int8)
    return Clip(name, np.zeros((frames, 1, *size), np.uint8), labels, masks)


def test_a_cell_has_its_highest_pixel_also_at_the_edge():
    found = coarse(masked(2, (0, 3, 3), (1, 5, 8)).masks, 4)
    assert found.shape == (2, 2, 3)
    assert np.argwhere(found).tolist() == [[0, 0, 0], [1, 1, 2]]
    assert coarse(np.array([[[-3.0, -1, -2], [-4, -9, -7]]]), 2).tolist() == [[[-1, -2]]]


def test_pixel_auroc_of_boxes_by_hand():
    clips = [masked(2, (1, slice(0, 2), slice(0, 2))), masked(1, (0, 0, 0))]
    where = np.array([[0, 1], [0, 0], [1, 0]])
    boxes = np.array([[0, 0, 2, 2], [4, 4, 6, 6], [0, 0, 1, 1]])

    def got(*values):
        maps = box_maps(np.array(values), where, boxes, clips, empty=min(values) - 1)
        return pixel_auroc(maps, clips, block=1)

    # 5 of 162 pixels are abnormal, and all of them are in the two boxes with the highest values.
    assert got(3.0, -1.0, 2.0) == 1
    # Now four of them are under no box, as are 152 normal ones; the five normal pixels of the other
    # boxes are above them. The fifth is above all.
    boxes[0] = [7, 0, 8, 1]
    assert got(-5.0, -4.0, 2.0) == pytest.approx((4 * 152 / 2 + 157) / (5 * 157))


@given(st.integers(0, 1000))
def test_pixel_auroc_is_the_auroc_of_the_cells_of_the_frames_that_are_judged(seed):
    draw = np.random.default_rng(seed)
    clips = [masked(4, (2, slice(1, 4), slice(2, 6))), masked(5, (3, 0, slice(0, 5)))]
    maps = [draw.integers(0, 9, clip.masks.shape).astype(float) for clip in clips]
    values, truth = [], []
    for clip, one in zip(clips, maps, strict=True):
        for t in range(2, len(clip) - 1):
            for y in range(0, 6, 4):
                for x in range(0, 9, 4):
                    values.append(one[t, y : y + 4, x : x + 4].max())
                    truth.append(clip.masks[t, y : y + 4, x : x + 4].any())
    assert pixel_auroc(maps, clips, block=4, frames=slice(2, -1)) == auroc(values, truth)


def test_without_masks_nobody_can_say_where():
    with pytest.raises(ValueError, match="clip 01 has no masks"):
        pixel_auroc([np.ones((2, 2, 2))], [clip([0, 1])])
