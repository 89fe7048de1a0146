"""Boxes around foreground objects: where they are, and what is cached."""

import sys
from types import SimpleNamespace
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch

from fmabs_lite.data import Clip, UCSDPed2, foreground, objects, open_data
from fmabs_lite.data.foreground import detected, moving, silhouette
from fmabs_lite.trivial import box_difference, frame_difference


def walker(frames: int = 6, step: int = 4) -> np.ndarray:
    """A speckled block of 24×12 pixels on a dark ground that walks to the right."""
    speckles = np.random.default_rng(0).integers(150, 250, (24, 12))
    values = np.full((frames, 1, 96, 144), 90, np.uint8)
    for t in range(frames):
        values[t, 0, 40:64, 30 + step * t : 42 + step * t] = speckles
    return values


def test_the_box_is_around_what_moved_in_the_very_frame():
    frames = walker()
    for t in (1, 3, 5):
        ((x0, y0, x1, y1),) = moving(frames, t)
        left, right = 30 + 4 * (t - 1), 42 + 4 * t  # where it was, where it is
        assert abs(x0 - left) <= 3 and abs(x1 - right) <= 3
        assert abs(y0 - 40) <= 3 and abs(y1 - 64) <= 3


def test_a_frame_shifted_by_one_has_another_box():
    found = objects(Clip("walk", walker()))
    late = objects(Clip("walk", walker()[1:]))
    assert np.array_equal(found[1:, 0], [1, 2, 3, 4, 5])
    assert np.array_equal(found[2:, 1:], late[1:, 1:])
    assert not np.array_equal(found[1:-1, 1:], late[1:, 1:])


def test_frame_0_is_compared_with_frame_1():
    found = objects(Clip("walk", walker()))
    assert found[0, 0] == 0
    assert np.array_equal(found[0, 1:], found[1, 1:])


def test_nothing_moves_and_nothing_is_found():
    still = np.repeat(walker(1), 3, axis=0)
    found = objects(Clip("still", still))
    assert found.shape == (0, 5) and found.dtype == np.int32


def test_small_boxes_are_dropped_and_those_at_the_limit_stay():
    clip = Clip("walk", walker())
    side = int((objects(clip)[:, 4] - objects(clip)[:, 2]).max())
    assert len(objects(clip, smallest=side / 96))
    assert not len(objects(clip, smallest=(side + 1) / 96))


def test_slivers_are_dropped_by_their_shorter_side():
    clip = Clip("walk", walker())
    side = int((objects(clip)[:, 3] - objects(clip)[:, 1]).max())
    assert side < int((objects(clip)[:, 4] - objects(clip)[:, 2]).min())  # it stands upright
    assert len(objects(clip, narrowest=side / 96))
    assert not len(objects(clip, narrowest=(side + 1) / 96))


def test_the_threshold_is_in_grey_levels():
    faint = np.full((2, 1, 96, 144), 100, np.uint8)
    faint[1, 0, 20:60, 20:60] = 108
    assert len(objects(Clip("faint", faint), threshold=7))
    assert not len(objects(Clip("faint", faint), threshold=9))


def test_the_blur_joins_what_is_near():
    two = np.full((2, 1, 120, 160), 100, np.uint8)
    two[1, 0, 20:60, 20:30] = two[1, 0, 20:60, 36:46] = 160
    assert len(objects(Clip("two", two), blur=1 / 120)) == 4
    assert len(objects(Clip("two", two), blur=1 / 30)) == 2


def test_boxes_are_computed_once_and_settings_make_others(tmp_path, monkeypatch):
    monkeypatch.setenv("FMABS_CACHE", str(tmp_path / "cache"))
    np.save(tmp_path / "frames.npy", walker())
    clip = Clip("walk", np.load(tmp_path / "frames.npy", mmap_mode="r"))
    calls = []
    monkeypatch.setattr(
        foreground, "moving", lambda *given: calls.append(given[1]) or moving(*given)
    )
    first = objects(clip)
    assert calls == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(objects(clip), first) and len(calls) == 6
    objects(clip, threshold=20.0)
    objects(clip, blur=1 / 60)
    assert len(calls) == 18


def test_every_anomaly_of_the_drawn_ped2_is_touched_by_a_box():
    hit, abnormal = 0, 0
    for clip in UCSDPed2(open_data().ped2, size=(120, 180)).test:
        boxes = objects(clip)
        for t in np.flatnonzero(clip.labels):
            abnormal += 1
            here = boxes[boxes[:, 0] == t, 1:]
            hit += any(clip.masks[t, y0:y1, x0:x1].any() for x0, y0, x1, y1 in here)
    assert abnormal and hit >= 0.9 * abnormal


def test_an_unknown_method_and_a_single_frame_are_refused():
    with pytest.raises(ValueError, match="'magic'; choose one of motion, detector"):
        objects(Clip("walk", walker()), how="magic")
    with pytest.raises(ValueError, match="Clip one has 1 frame"):
        objects(Clip("one", walker(1)))


class Net(torch.nn.Module):
    """In place of a Faster R-CNN: remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        self.shown = images
        boxes = torch.tensor([[10.6, 20.2, 30.1, 40.0], [-3.0, -1.0, 500.0, 99.7], [1, 1, 9, 9]])
        return [{"boxes": boxes, "scores": torch.tensor([0.9, 0.6, 0.4])}]


def test_the_detectors_boxes_are_whole_pixels_inside_the_frame():
    network = Net()
    frame = np.full((1, 96, 144), 51, np.uint8)
    assert detected(network, frame, 0.5).tolist() == [[10, 20, 31, 40], [0, 0, 144, 96]]
    (shown,) = network.shown
    assert shown.shape == (3, 96, 144) and torch.allclose(shown, torch.tensor(0.2))


def test_the_detector_is_asked_for_every_frame(monkeypatch):
    monkeypatch.setattr(foreground, "load_detector", lambda weights: Net())
    found = objects(Clip("walk", walker(2)), how="detector")
    assert found.tolist() == [
        [0, 10, 20, 31, 40], [0, 0, 0, 144, 96], [1, 10, 20, 31, 40], [1, 0, 0, 144, 96]
    ]  # fmt: skip


def test_without_a_connection_the_message_says_what_to_do(monkeypatch):
    from torchvision.models import detection

    def offline(**_):
        raise URLError("no route to host")

    monkeypatch.setattr(detection, "fasterrcnn_resnet50_fpn_v2", offline)
    foreground.load_detector.cache_clear()
    with pytest.raises(RuntimeError, match="no route to host.*how='motion'"):
        objects(Clip("walk", walker()), how="detector")


def test_box_difference_is_the_mean_inside_the_box():
    frames = np.random.default_rng(0).integers(0, 256, (6, 3, 96, 144)).astype(np.uint8)
    boxes = [np.array([[2, 30, 40, 60, 64], [0, 0, 0, 144, 96]]), np.array([[5, 1, 2, 9, 8]])]
    scores, where = box_difference([SimpleNamespace(frames=frames)] * 2, boxes)
    assert where.tolist() == [[0, 2], [0, 0], [1, 5]]
    maps = frame_difference(frames, 0)
    expected = [maps[2, 40:64, 30:60].mean(), maps[0].mean(), maps[5, 2:8, 1:9].mean()]
    assert np.allclose(scores, expected, rtol=1e-5)
    assert not np.isclose(scores[0], maps[3, 40:64, 30:60].mean())
    empty, nowhere = box_difference([SimpleNamespace(frames=frames)], [np.empty((0, 5), int)])
    assert empty.shape == (0,) and nowhere.shape == (0, 2)


def test_cv2_counts_the_background_as_region_0():
    """`moving` leaves out row 0 of the statistics; this holds even where everything moves."""
    assert len(cv2.connectedComponentsWithStats(np.ones((8, 8), np.uint8))[2]) == 2


def thing_on_ground(thing: int = 60, ground: int = 200) -> np.ndarray:
    """A disc with a hole in it, a small stain apart from it: uint8 (1, 128, 128)."""
    y, x = np.mgrid[:128, :128]
    far = np.hypot(y - 70, x - 60)
    picture = np.full((128, 128), ground)
    picture[far < 30] = thing
    picture[far < 5] = ground
    picture[10:14, 100:104] = thing
    return picture.astype(np.uint8)[None]


@pytest.mark.parametrize(("thing", "ground"), [(60, 200), (200, 60)])
def test_the_silhouette_is_the_largest_thing_with_its_holes_and_a_margin(thing, ground):
    found = silhouette(thing_on_ground(thing, ground), margin=2 / 128)
    assert found.dtype == bool and found.shape == (128, 128)
    assert found[70, 60], "the hole is filled"
    assert not found[12, 102], "the stain is background"
    radius = np.sqrt(found.sum() / np.pi)
    assert 31 <= radius <= 34, "30 pixels and a margin of two"


def test_an_empty_picture_has_no_silhouette():
    assert not silhouette(np.full((3, 32, 32), 120, np.uint8)).any()


def test_silhouette_refuses_other_ways():
    with pytest.raises(ValueError, match="'magic'.*'threshold' or 'sam'"):
        silhouette(thing_on_ground(), how="magic")


@pytest.fixture
def no_segmenter():
    """Nothing is loaded before or left after."""
    foreground.load_segmenter.cache_clear()
    yield
    foreground.load_segmenter.cache_clear()


class FakeSam:
    """Takes everything left of the point for the object, and is surest of its second mask."""

    loaded = 0

    @classmethod
    def from_pretrained(cls, name):
        cls.loaded += 1
        if name == "nowhere":
            raise OSError("no such folder")
        return cls()

    def __call__(self, picture=None, input_points=None, return_tensors=None, **given):
        if given:
            masks = torch.zeros(1, 1, 3, 128, 128, dtype=torch.bool)
            masks[0, 0, 1, :, : given["point"]] = True
            return SimpleNamespace(pred_masks=masks, iou_scores=torch.tensor([[[0.1, 0.9, 0.5]]]))
        assert picture.shape == (128, 128, 3), "Segment Anything wants three channels last"
        ((point,),) = input_points
        return {"point": point[0], "original_sizes": None, "reshaped_input_sizes": None}

    @property
    def image_processor(self):
        return SimpleNamespace(post_process_masks=lambda masks, *_: [masks[0]])


def test_segment_anything_is_asked_at_the_innermost_point(monkeypatch, no_segmenter):
    fake = SimpleNamespace(SamModel=FakeSam, SamProcessor=FakeSam)
    monkeypatch.setitem(sys.modules, "transformers", fake)
    found = silhouette(thing_on_ground(), how="sam", margin=0)
    assert 58 <= found[0].sum() <= 63, "up to the disc's centre, and the least margin of one"
    silhouette(thing_on_ground(), how="sam", margin=0)
    assert FakeSam.loaded == 2, "network and processor are loaded once, not for every image"
    with pytest.raises(RuntimeError, match="nowhere, cannot be had.*how='threshold'"):
        foreground.segmented(thing_on_ground(), (60, 70), "nowhere")


def test_segment_anything_needs_its_package(monkeypatch, no_segmenter):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RuntimeError, match="pip install transformers"):
        silhouette(thing_on_ground(), how="sam")
