"""Thresholds that keep their promise, and pictures judged by them."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmabs_lite.data import DataError
from fmabs_lite.decision import predict, threshold
from fmabs_lite.detector import Detector, Prepared
from fmabs_lite.saving import System


def test_a_threshold_by_hand():
    assert threshold(range(9), 0.1) == 8  # the highest of nine, for one in ten
    assert threshold([3.0, 1.0, 2.0], 0.5) == 2.0
    assert threshold(range(19), 0.05) == 18  # 20 · 0.95 is a little more than 19 in floats
    assert threshold(range(99), 0.1) == 89


@given(st.integers(2, 60), st.floats(0.02, 0.9))
def test_a_new_normal_picture_is_flagged_at_most_at_the_rate(count, rate):
    """Of count + 1 exchangeable scores each is the new one equally often: counted out in full."""
    scores = np.arange(count + 1.0)
    if count < 1 / rate - 1:
        with pytest.raises(ValueError, match="too few"):
            threshold(scores[1:], rate)
        return
    flagged = [scores[k] > threshold(np.delete(scores, k), rate) for k in range(count + 1)]
    assert np.mean(flagged) <= rate + 1e-9
    assert np.mean(flagged) > rate - 1 / (count + 1) - 1e-9  # and no stricter than it must be


@pytest.mark.parametrize(("scores", "rate", "match"), [
    (range(8), 0.1, "8 held-out scores are too few.*9 are needed.*0.11"),
    ([1.0, float("nan")], 0.5, "not finite"),
    (range(9), 1.5, "share of false alarms"),
])  # fmt: skip
def test_a_threshold_that_cannot_be_had(scores, rate, match):
    with pytest.raises(ValueError, match=match):
        threshold(scores, rate)


class Brightness(Detector):
    """Scores a picture by its pixels: a detector that can be foreseen."""

    def __init__(self, with_maps: bool = True):
        super().__init__()
        self.network, self.with_maps = torch.nn.Identity(), with_maps

    def prepare(self, batch):
        return Prepared(batch, batch)

    def score(self, prepared):
        seen = self.network(prepared.input).mean(dim=1)
        parts = {"S_o": seen.amax(dim=(1, 2))}
        return parts | ({"map_o": seen} if self.with_maps else {})


def put(path: Path, level: int, spot: int | None = None) -> Path:
    picture = np.full((20, 30, 3), level, np.uint8)
    if spot is not None:
        picture[5:15, 10:20] = spot
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path


def a_system(with_maps: bool = True, line: float | None = 0.5) -> System:
    return System(Brightness(with_maps), (20, 30), threshold=line)


def test_a_folder_is_judged_picture_by_picture(tmp_path):
    put(tmp_path / "a/1.png", 51)
    put(tmp_path / "b/2.jpg", 255)
    found = predict(a_system(), tmp_path)
    assert [path.name for path in found.paths] == ["1.png", "2.jpg"]
    assert found.scores == pytest.approx([0.2, 1.0], abs=0.01)
    assert found.anomalous.tolist() == [False, True]
    assert found.maps.shape == (2, 20, 30)


def test_one_picture_of_another_size_is_brought_to_the_systems(tmp_path):
    cv2.imwrite(str(tmp_path / "large.png"), np.full((40, 90, 3), 102, np.uint8))
    found = predict(a_system(), tmp_path / "large.png")
    assert found.scores == pytest.approx([0.4], abs=0.01)


def test_what_cannot_be_read_is_named_and_has_no_score(tmp_path):
    put(tmp_path / "1.png", 51)
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"1 of 2 pictures could not be read.*2\.png"):
        found = predict(a_system(), tmp_path)
    assert len(found.scores) == 1 and [path.name for path in found.unread] == ["2.png"]
    found.to_csv(tmp_path / "out.csv")
    lines = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [line["anomalous"] for line in lines] == ["0", ""]
    assert float(lines[0]["score"]) == pytest.approx(0.2, abs=0.01)
    assert "2.png" in lines[1]["note"]


def test_batches_do_not_change_a_score(tmp_path):
    for k in range(5):
        put(tmp_path / f"{k}.png", 50 * k)
    one, many = (predict(a_system(), tmp_path, batch_size=size) for size in (1, 32))
    assert np.array_equal(one.scores, many.scores) and np.array_equal(one.maps, many.maps)


def test_an_overlay_has_the_outline_where_the_map_is_above_the_line(tmp_path):
    put(tmp_path / "in/plain.png", 51)
    put(tmp_path / "in/spot.png", 51, spot=255)
    found = predict(a_system(), tmp_path / "in")
    plain, spot = map(str, found.overlays(tmp_path / "out"))
    blue = np.array([0x56, 0xB4, 0xE9])
    near = [(np.abs(cv2.imread(path)[..., ::-1].astype(int) - blue).max(axis=2) < 12).sum()
            for path in (plain, spot)]  # fmt: skip
    assert near[0] == 0 and near[1] > 50
    assert plain.endswith("0000-plain.png")


def test_without_maps_there_is_nothing_to_lay_over(tmp_path):
    put(tmp_path / "1.png", 51)
    found = predict(a_system(with_maps=False), tmp_path)
    assert found.maps is None and found.scores == pytest.approx([0.2], abs=0.01)
    with pytest.raises(ValueError, match="no maps"):
        found.overlays(tmp_path / "out")


@pytest.mark.parametrize("line", [None, float("nan"), float("inf")])
def test_without_a_threshold_nothing_is_decided(tmp_path, line):
    put(tmp_path / "1.png", 51)
    with pytest.raises(ValueError, match=f"threshold is {line}, by which nothing can be decided"):
        predict(a_system(line=line), tmp_path)


def test_a_folder_without_a_readable_picture(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"No picture could be read.*1\.png"):
        predict(a_system(), tmp_path)
