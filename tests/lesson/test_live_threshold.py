"""The threshold to drag: its curves are those of the book's metrics, its words are counts."""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from io import BytesIO
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.integrate import trapezoid

from fmabs_lite.lesson.live import drag
from fmabs_lite.lesson.live.threshold import COLUMNS, LIMIT, MOST, points, told
from fmabs_lite.metrics import localization, region_weights


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """The bundles that a figure displays."""
    found: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda it, raw: found.append(it) or None)
    return found


def world(seed: int, lift: float = 2, count: int = 12, side: int = 64):
    """Smooth noise, higher on one or two defects of each map of the first half."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(count, side, side)), (0, 2, 2), mode="wrap")
    masks = np.zeros(noise.shape, bool)
    for k in range(count // 2):
        for _ in range(1 + k % 2):
            y, x = rng.integers(0, side - 14, 2)
            masks[k, y : y + 10 + k % 3, x : x + 13] = True
    return noise / noise.std() + lift * masks, masks


WORLDS = {
    "weak": world(0),
    "strong": world(1, lift=4),
    "blind": world(2, lift=0),
    "heavy tail": (np.exp(2 * world(3)[0]), world(3)[1]),
    "ties": (world(4)[0].round(1), world(4)[1]),
    "float32": (world(5)[0].astype(np.float32), world(5)[1]),
}


def held(html: str) -> dict:
    """The numbers in a figure, as its script reads them."""
    (block,) = re.findall(r'<script type="application/json">(.*?)</script>', html, flags=re.S)
    return json.loads(block)


@cache
def html_of(name: str) -> str:
    found: list[dict] = []
    with patch("IPython.display.display", lambda it, raw: found.append(it)):
        drag(*WORLDS[name], alt="Maps.")
    return found[0]["text/html"]


@pytest.fixture(params=WORLDS)
def case(request) -> tuple[np.ndarray, np.ndarray, dict, str]:
    """Maps and masks, and what the page has of them."""
    html = html_of(request.param)
    return *WORLDS[request.param], held(html), html


def test_the_areas_under_the_page_s_points_are_those_of_the_metrics(case):
    maps, masks, data, html = case
    areas = localization(maps, masks, LIMIT)
    tpr, fpr, overlap = (np.array(data[key])[::-1] for key in ("tpr", "fpr", "overlap"))
    precision = np.array([data["precision"][-2], *data["precision"][-2::-1]])
    ap = trapezoid(precision, tpr)  # of many thresholds; of all there are, the steps are exact
    if len(np.unique(maps)) < len(tpr):
        ap = np.diff(tpr) @ precision[1:]
    inside = np.append(fpr[fpr <= LIMIT], LIMIT)
    pro = trapezoid(np.interp(inside, fpr, overlap), inside) / LIMIT
    assert trapezoid(tpr, fpr) == pytest.approx(areas["auroc"], abs=1e-3)
    assert ap == pytest.approx(areas["ap"], abs=1e-3)
    assert pro == pytest.approx(areas["pro"], abs=1e-3)
    for name, key in (("AUROC", "auroc"), ("AP", "ap"), ("PRO", "pro")):
        assert f"{name} {areas[key]:.3f}<" in html


def test_each_point_is_what_its_threshold_gives(case):
    maps, masks, data, _ = case
    exact = points(maps, masks)
    weights = np.zeros(masks.shape)
    weights[masks] = region_weights(masks)
    assert 20 < len(exact.threshold) <= 256
    assert np.array_equal(exact.threshold, np.unique(exact.threshold))
    for k, at in enumerate(exact.threshold):
        marked = maps >= at
        assert data["tpr"][k] == pytest.approx(marked[masks].mean(), rel=1e-4)
        assert data["fpr"][k] == pytest.approx(marked[~masks].mean(), rel=1e-4)
        assert data["overlap"][k] == pytest.approx((weights * marked).sum(), rel=1e-4)
        if marked.any():
            assert data["precision"][k] == pytest.approx(masks[marked].mean(), rel=1e-4)
    assert data["tpr"][0] == data["fpr"][0] == 1 and data["precision"][-1] is None
    assert data["tpr"][-1] == data["fpr"][-1] == 0


def test_an_image_is_flagged_where_its_largest_value_reaches_the_threshold(case):
    maps, masks, data, _ = case
    exact = points(maps, masks)
    peaks = np.sort(maps.max(axis=(1, 2)))[::-1]
    assert np.array_equal(exact.threshold[data["peaks"]], peaks)  # the highest first
    bad = masks.any(axis=(1, 2))[np.argsort(-maps.max(axis=(1, 2)), kind="stable")]
    assert data["defective"] == bad.astype(int).tolist()
    for k, at in enumerate(exact.threshold):
        assert [peak >= k for peak in data["peaks"]] == (peaks >= at).tolist()


def test_the_sheet_holds_levels_and_masks_exactly(case):
    maps, masks, data, _ = case
    order = np.argsort(-maps.max(axis=(1, 2)), kind="stable")
    sheet = Image.open(BytesIO(base64.b64decode(data["sheet"].split(",")[1])))
    bytes_ = np.asarray(sheet.convert("RGB"))
    height, width = maps.shape[1:]
    exact = points(maps, masks).threshold
    for place, number in enumerate(order):
        row, column = divmod(place, COLUMNS)
        tile = bytes_[row * height : (row + 1) * height, column * width : (column + 1) * width]
        for k in (0, len(exact) // 2, len(exact) - 2):
            assert np.array_equal(tile[..., 0] >= k, maps[number] >= exact[k])
        assert np.array_equal(tile[..., 1] > 0, masks[number])


def test_words_count_pixels_and_images():
    maps = np.zeros((3, 2, 2))
    maps[0, 0] = 5, 3
    maps[1, 0, 0] = 4
    masks = np.zeros((3, 2, 2), bool)
    masks[0, 0] = True
    found = points(maps, masks)
    peaks, bad = np.searchsorted(found.threshold, [5, 4, 0]), np.array([True, False, False])
    at = int(np.searchsorted(found.threshold, 4))
    assert told(found, peaks, bad, at) == (
        "Pixels at 4.000 or above: TPR (recall) 0.500, FPR 0.1000, precision 0.500, "
        "mean covered share 0.500.",
        "Images: 1 of 1 defective flagged, 1 of 2 normal flagged.",
    )
    pixels, images = told(found, peaks, bad, len(found.threshold) - 1)
    assert "precision none" in pixels and "0 of 1 defective" in images


def test_without_a_script_there_is_one_threshold_in_pictures_and_words(case):
    *_, data, html = case
    assert re.search(r'<img class="still" [^>]*alt="Maps\."', html)
    assert re.search(r"<ol hidden>", html) and '<div class="on-screen" hidden>' in html
    assert re.search(r'<p class="pixels">Pixels at .* TPR', html)
    assert len(re.findall(r"<svg", html)) == 3 and len(re.findall('class="dot" d="M', html)) == 3
    assert len(re.findall("<li>", html)) == len(data["peaks"])


def test_the_figure_can_stand_alone_and_twice(shown):
    drag(*world(0), alt='"<b> & </script>')
    html = shown[0]["text/html"]
    assert "<b>" not in html and html.count("</script>") == 2
    text = re.sub(r'base64,[^"]*', "", html)
    assert not re.search(r"https?:|//[a-z]", text) and not re.search(r'\bid="', html)
    assert len(html) < 120_000


MAPS, MASKS = world(0)
MISTAKES = [
    ({"alt": ""}, "alt is empty"),
    ({"maps": MAPS[1:]}, "differ in shape"),
    ({"maps": MAPS * np.nan}, "NaN"),
    ({"maps": np.where(MAPS > 2, np.inf, MAPS)}, "infinite values"),
    ({"masks": MASKS * 0}, "one class only"),
    ({"maps": MAPS[:6], "masks": MASKS[:6]}, "no image is normal"),
    ({"maps": np.repeat(MAPS, 4, 0), "masks": np.repeat(MASKS, 4, 0)}, f"48 images.* {MOST}"),
]


@pytest.mark.parametrize(("wrong", "message"), MISTAKES, ids=lambda part: str(part)[:16])
def test_wrong_input_is_told_and_nothing_shown(shown, wrong, message):
    given = {"maps": MAPS, "masks": MASKS, "alt": "Maps."} | wrong
    with pytest.raises(ValueError, match=message):
        drag(given.pop("maps"), given.pop("masks"), **given)
    assert shown == []


def test_maps_too_large_for_a_page_are_refused(shown, monkeypatch):
    monkeypatch.setattr("fmabs_lite.lesson.live.threshold.LARGE", 1000)
    with pytest.raises(ValueError, match=r"\(12, 64, 64\) maps make \d+ kB; give smaller or fewer"):
        drag(MAPS, MASKS, alt="Maps.")
    assert shown == []
