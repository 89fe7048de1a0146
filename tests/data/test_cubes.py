"""Cubes: which pixels of which frames they hold, and which frame they judge."""

import cv2
import numpy as np
import pytest
import torch

from fmabs_lite.data import Clip, Cubes, DataError
from fmabs_lite.videos import frame_scores, labels_of


def clip(name: str = "a", frames: int = 8, channels: int = 1) -> Clip:
    """Every pixel of frame t has the value 10 · t, but for a gradient in the last rows."""
    values = np.zeros((frames, channels, 40, 60), np.uint8)
    values += (10 * np.arange(frames)).astype(np.uint8)[:, None, None, None]
    values[:, :, 30:] += np.arange(60).astype(np.uint8)
    labels = (np.arange(frames) >= 5).astype(np.int8)
    return Clip(name, values, labels)


def box(frame: int, *corners: int) -> list[int]:
    return [frame, *(corners or (4, 4, 20, 24))]


def test_the_last_frame_of_the_cube_is_the_one_judged():
    cubes = Cubes([clip()], [np.array([box(6)])], length=4, size=8)
    assert cubes.where.tolist() == [[0, 6]]
    assert cubes[0].shape == (1, 4, 1, 8, 8) and cubes[0].dtype == torch.uint8
    assert cubes[0][0, :, 0, 0, 0].tolist() == [30, 40, 50, 60]


def test_or_the_middle_one():
    cubes = Cubes([clip()], [np.array([box(4)])], length=5, size=8, judged="middle")
    assert cubes.where.tolist() == [[0, 4]]
    assert cubes[0][0, :, 0, 0, 0].tolist() == [20, 30, 40, 50, 60]


@pytest.mark.parametrize(
    ("judged", "frames"), [("last", [3, 4, 5, 6, 7]), ("middle", [2, 3, 4, 5, 6])]
)
def test_boxes_too_near_to_an_end_are_left_out(judged, frames):
    boxes = np.array([box(t) for t in range(8)])
    cubes = Cubes([clip()], [boxes], length=4, size=8, judged=judged)
    assert cubes.where[:, 1].tolist() == frames


def test_scores_by_where_lie_on_the_labels_and_a_shift_by_one_does_not():
    """Each cube's own last grey level says whether its frame is one of the abnormal ones."""
    clips = [clip("a"), clip("b", frames=9)]
    boxes = [np.array([box(t) for t in range(len(c))]) for c in clips]
    cubes = Cubes(clips, boxes, length=3, size=8)
    last = cubes[range(len(cubes))][:, -1, 0, 0, 0].numpy()
    scores = frame_scores((last >= 50).astype(float), cubes.where, clips, empty=0)
    assert np.array_equal(scores, labels_of(clips))
    shifted = frame_scores((last >= 50).astype(float), cubes.where - [0, 1], clips, empty=0)
    assert not np.array_equal(shifted, labels_of(clips))


def test_pixels_are_those_inside_the_box_resized_frame_by_frame():
    colour = clip(channels=3)
    colour.frames[:, 1] += 3
    cubes = Cubes([colour], [np.array([box(5, 10, 28, 40, 40)])], length=3, size=6)
    for k, t in enumerate((3, 4, 5)):
        for channel in range(3):
            part = np.ascontiguousarray(colour.frames[t, channel, 28:40, 10:40])
            expected = cv2.resize(part, (6, 6), interpolation=cv2.INTER_AREA)
            assert np.array_equal(cubes[0][0, k, channel].numpy(), expected)
    small = Cubes([colour], [np.array([box(5, 10, 28, 13, 31)])], length=1, size=6)
    part = np.ascontiguousarray(colour.frames[5, 0, 28:31, 10:13])
    assert np.array_equal(small[0][0, 0, 0].numpy(), cv2.resize(part, (6, 6)))


def test_a_box_of_the_right_size_is_copied():
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, 40, 60)).astype(np.uint8)
    cubes = Cubes([Clip("r", frames)], [np.array([box(2, 7, 9, 15, 17)])], length=3, size=8)
    assert np.array_equal(cubes[0][0].numpy(), frames[:, :, 9:17, 7:15])


def test_every_takes_every_nth_frame_and_clips_keep_their_numbers():
    boxes = np.array([box(t) for t in range(8) for _ in range(2)])
    cubes = Cubes([clip("a"), clip("b")], [boxes, boxes[:0]], length=2, size=8, every=3)
    assert cubes.where.tolist() == [[0, 3], [0, 3], [0, 6], [0, 6]]
    second = Cubes([clip("a"), clip("b")], [boxes[:0], boxes], length=2, size=8)
    assert set(second.where[:, 0]) == {1}


def test_a_batch_is_in_the_order_asked_for():
    boxes = np.array([box(t) for t in range(8)])
    cubes = Cubes([clip()], [boxes], length=2, size=8)
    batch = cubes[torch.tensor([4, 0])]
    assert batch[:, -1, 0, 0, 0].tolist() == [50, 10]
    assert len(cubes) == 7


@pytest.mark.parametrize(
    "corners", [(4, 4, 4, 24), (-1, 4, 20, 24), (4, 4, 61, 24), (4, 4, 20, 41), (4, 24, 20, 4)]
)
def test_a_box_outside_names_the_clip_and_the_box(corners):
    with pytest.raises(ValueError, match="Clip a has 8 frames of 40×60 pixels, and the box"):
        Cubes([clip()], [np.array([box(5), box(5, *corners)])], length=2)


def test_other_misfits_are_refused():
    boxes = np.array([box(7)])
    with pytest.raises(ValueError, match="frames of 40×60"):
        Cubes([clip(frames=7)], [boxes], length=2)
    with pytest.raises(ValueError, match="boxes for 1 clips, but 2 clips"):
        Cubes([clip(), clip()], [boxes], length=2)
    with pytest.raises(ValueError, match="'first'"):
        Cubes([clip()], [boxes], length=2, judged="first")
    with pytest.raises(ValueError, match="length is 0"):
        Cubes([clip()], [boxes], length=0)
    with pytest.raises(DataError, match="no cubes of 9 frames: 1 boxes in 1 clips"):
        Cubes([clip()], [boxes], length=9)
    with pytest.raises(DataError, match="differ in shape"):
        Cubes([clip(), clip(channels=3)], [boxes, boxes], length=2)
