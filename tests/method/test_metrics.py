"""The metrics against hand-computed numbers, scikit-learn, two other exact PROs, and invariants."""

import os
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from fmabs_lite import metrics
from fmabs_lite.metrics import auroc, average_precision, localization, pro, region_weights

EIGHT = np.ones((3, 3))


# ---- masks, maps, and independent PROs (the benchmark uses them too) ----


def screw_masks(count: int) -> tuple[np.ndarray, str]:
    """`count` masks (count, 256, 256), three quarters with a defect, and where they come from."""
    folder = Path(os.environ.get("FMABS_DATA", "")) / "mvtec" / "screw" / "ground_truth"
    files = sorted(folder.glob("*/*.png")) if "FMABS_DATA" in os.environ else []
    masks = np.zeros((count, 256, 256), bool)
    if files:
        used = files[:: max(1, len(files) * 4 // (count * 3))][: count * 3 // 4]
        for mask, file in zip(masks, used, strict=False):
            mask[:] = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) > 127
        return masks, f"{len(used)} of them MVTec AD screw"
    rng = np.random.default_rng(1)
    for mask in masks[: count * 3 // 4]:
        for _ in range(rng.integers(1, 3)):
            centre, axes = rng.integers(40, 216, 2), rng.integers(1, 18, 2)
            canvas = np.zeros(mask.shape, np.uint8)
            angle = int(rng.integers(180))
            cv2.ellipse(canvas, centre.tolist(), axes.tolist(), angle, 0, 360, 1, -1)
            mask |= canvas > 0
    return masks, "drawn"


def maps_for(masks: np.ndarray, kind: str) -> np.ndarray:
    """Plausible anomaly maps: smooth noise that is higher on most, but not all, of each defect."""
    rng = np.random.default_rng(2)
    noise = ndimage.gaussian_filter(rng.normal(size=masks.shape).astype(np.float32), (0, 3, 3))
    glow = ndimage.gaussian_filter(masks.astype(np.float32), (0, 4, 4))
    maps = np.exp(noise / noise.std() + 8 * glow * rng.random((len(masks), 1, 1)))
    if kind == "quantised":
        return np.round(4 * np.log(maps)).astype(np.float32)
    return maps.astype(kind)


def trapezoids(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def pro_by_cumulative_sums(maps: np.ndarray, masks: np.ndarray, max_fpr: float) -> float:
    """Sort everything, walk down the distinct thresholds, trapezoids."""
    regions, count = ndimage.label(masks, structure=np.stack([0 * EIGHT, EIGHT, 0 * EIGHT]))
    weight = np.append(0.0, 1 / (np.bincount(regions.ravel())[1:] * count))[regions.ravel()]
    order = np.argsort(maps.ravel())[::-1]
    last_of_ties = np.append(np.diff(maps.ravel()[order]) != 0, True)
    covered = np.append(0.0, np.cumsum(weight[order])[last_of_ties])
    normal = (regions.ravel() == 0)[order]
    rate = np.append(0, np.cumsum(normal)[last_of_ties]) / normal.sum()
    inside = rate <= max_fpr
    x = np.append(rate[inside], max_fpr)
    y = np.append(covered[inside], np.interp(max_fpr, rate, covered))
    return trapezoids(x, y) / max_fpr


def pro_by_region(maps: np.ndarray, masks: np.ndarray, max_fpr: float) -> float:
    """For each region on its own: what it covers at every distinct threshold, by searchsorted."""
    thresholds = np.unique(maps)[::-1]
    normal = np.sort(maps[~masks])
    rate = (len(normal) - np.searchsorted(normal, thresholds, side="left")) / len(normal)
    curves = []
    for image, mask in zip(maps, masks, strict=True):
        regions, count = ndimage.label(mask, structure=EIGHT)
        for region in range(1, count + 1):
            inside = np.sort(image[regions == region])
            curves.append(1 - np.searchsorted(inside, thresholds, side="left") / len(inside))
    rate, curve = np.append(0, rate), np.append(0, np.mean(curves, axis=0))
    x = np.append(rate[rate <= max_fpr], max_fpr)
    y = np.append(curve[rate <= max_fpr], np.interp(max_fpr, rate, curve))
    return trapezoids(x, y) / max_fpr


# ---- numbers one can check by hand ----


def test_auroc_counts_pairs_and_gives_ties_half():
    # pairs (anomalous, normal): 3>1, 3>2, 2>1, 2=2 -> 3.5 of 4
    assert auroc([1, 2, 3, 2], [0, 0, 1, 1]) == 3.5 / 4
    assert auroc([5.0, 5.0, 5.0], [0, 1, 1]) == 0.5


def test_average_precision_reads_precision_at_each_hit():
    # from the top: hit (1/1), miss, hit (2/3)
    assert average_precision([4, 3, 2, 1], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)
    # a tie between a hit and a miss is passed in one step: precision 1/2 for the hit
    assert average_precision([2, 2, 1], [1, 0, 0]) == 0.5
    assert average_precision(np.ones(10), np.arange(10) < 2) == 0.2


def test_pro_by_hand():
    # Two regions, of 1 and 4 pixels; 10 normal pixels with scores 0..9.
    masks = np.zeros((1, 3, 5), bool)
    masks[0, 0, 0] = masks[0, 1:, 2:4] = True
    maps = np.zeros((1, 3, 5))
    maps[~masks] = np.arange(10)
    maps[0, 0, 0] = 100.0  # covered from the start
    maps[0, 1:, 2:4] = 7.5  # covered once two of the ten normal pixels are passed
    # curve: 1/2 up to FPR 0.2, then 1
    assert pro(maps, masks, max_fpr=0.3) == pytest.approx((0.2 * 0.5 + 0.1 * 1) / 0.3)
    assert pro(maps, masks, max_fpr=0.1) == pytest.approx(0.5)
    assert pro(maps, masks, max_fpr=1.0) == pytest.approx(0.2 * 0.5 + 0.8)


def test_the_last_point_is_interpolated_at_exactly_max_fpr():
    masks = np.array([[[True, False, False, False, False]]])
    maps = np.array([[[1.0, 1.0, 1.0, 0.0, 0.0]]])
    # one straight rise from (0, 0) to (0.5, 1): at 0.3 the curve stands at 0.6
    assert pro(maps, masks, max_fpr=0.3) == pytest.approx(0.3 * 0.6 / 2 / 0.3)


def test_small_and_large_defects_weigh_the_same_and_corners_connect():
    masks = np.zeros((2, 4, 6), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = True  # one region: they touch at a corner
    masks[0, 3, 5] = True
    masks[1, :, :2] = True
    weights = region_weights(masks)
    np.testing.assert_allclose(weights, [1 / 6, 1 / 6, 1 / 3] + [1 / 24] * 8)


def test_regions_do_not_join_across_images():
    masks = np.zeros((2, 2, 2), bool)
    masks[0, :, 0] = masks[1, 0, 0] = True
    np.testing.assert_allclose(region_weights(masks), [1 / 4, 1 / 4, 1 / 2])


# ---- against others, on whole test sets ----


@pytest.mark.parametrize(
    "count, kind, max_fpr", [(160, "quantised", 0.3), (24, "float32", 0.3), (24, "float64", 0.05)]
)
def test_localization_equals_scikit_learn_and_an_independent_pro(count, kind, max_fpr):
    masks, _ = screw_masks(count)
    maps = maps_for(masks, kind)
    assert kind != "quantised" or len(np.unique(maps)) < 100  # ties by the thousand
    ours = localization(maps, masks, max_fpr)
    assert ours["auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-6)
    theirs = average_precision_score(masks.ravel(), maps.ravel())
    assert ours["ap"] == pytest.approx(theirs, abs=1e-6)
    assert ours["pro"] == pytest.approx(pro_by_cumulative_sums(maps, masks, max_fpr), abs=1e-6)
    assert 0.05 < ours["pro"] < 0.95  # the maps are neither perfect nor blind


SMALL = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def small_set(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A few small maps with integer scores (so: ties) and masks with both classes."""
    shape = tuple(rng.integers(1, 6, 3) + 1)
    masks = rng.random(shape) < rng.uniform(0.05, 0.8)
    masks.flat[0], masks.flat[-1] = True, False
    return rng.integers(0, rng.integers(2, 60), shape).astype(float), masks


@settings(max_examples=100, deadline=None)
@given(rng=SMALL, max_fpr=st.sampled_from([0.01, 0.1, 0.3, 0.5, 1.0]))
def test_all_three_equal_the_references_on_small_sets_with_ties(rng, max_fpr):
    maps, masks = small_set(rng)
    ours = localization(maps, masks, max_fpr)
    theirs = roc_auc_score(masks.ravel(), maps.ravel())
    assert ours["auroc"] == pytest.approx(theirs, abs=1e-12)
    theirs = average_precision_score(masks.ravel(), maps.ravel())
    assert ours["ap"] == pytest.approx(theirs, abs=1e-12)
    assert ours["pro"] == pytest.approx(pro_by_region(maps, masks, max_fpr), abs=1e-9)
    assert ours["pro"] == pytest.approx(pro_by_cumulative_sums(maps, masks, max_fpr), abs=1e-9)


# ---- what must hold for any scores ----


@pytest.mark.parametrize("portion", [1, 500, 10**9])
def test_portions_change_nothing(monkeypatch, portion):
    masks = screw_masks(8)[0][:, ::4, ::4]
    maps = maps_for(masks, "quantised")
    line, labels = maps[:, 20:40].ravel(), masks[:, 20:40].ravel()
    whole, flat = localization(maps, masks), auroc(line, labels)
    monkeypatch.setattr(metrics, "PORTION", portion)
    assert localization(maps, masks) == whole and auroc(line, labels) == flat


def test_memory_is_that_of_the_defect_pixels_and_of_one_portion(monkeypatch):
    """Counted, not timed. Of the maps, 16 MB here, nothing is copied as a whole."""
    monkeypatch.setattr(metrics, "PORTION", 2**16)
    maps = np.random.default_rng(0).random((64, 256, 256), np.float32)
    masks = np.zeros(maps.shape, bool)
    masks[:, :16, :16] = True
    tracemalloc.start()
    localization(maps, masks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120 * masks.sum() + 16 * 2**16


@settings(max_examples=60, deadline=None)
@given(rng=SMALL)
def test_a_monotone_transformation_changes_nothing(rng):
    maps, masks = small_set(rng)
    ours = localization(maps, masks)
    assert localization(np.sqrt(maps), masks) == ours
    assert localization(3 * maps - 7, masks) == ours
    assert localization(maps.astype(np.float32), masks) == ours


@settings(max_examples=60, deadline=None)
@given(rng=SMALL)
def test_turning_the_scores_round_turns_auroc_round(rng):
    maps, masks = small_set(rng)
    assert auroc(-maps, masks) == pytest.approx(1 - auroc(maps, masks), abs=1e-12)
    assert auroc(maps, ~masks) == pytest.approx(1 - auroc(maps, masks), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(rng=SMALL)
def test_order_and_copies_of_the_set_change_nothing(rng):
    maps, masks = small_set(rng)
    ours = localization(maps, masks)
    shuffled = rng.permutation(len(maps))
    assert localization(maps[shuffled], masks[shuffled]) == pytest.approx(ours)
    twice = localization(np.concatenate([maps, maps]), np.concatenate([masks, masks]))
    assert twice == pytest.approx(ours)


@settings(max_examples=60, deadline=None)
@given(rng=SMALL)
def test_pro_up_to_one_with_single_pixel_defects_is_auroc(rng):
    maps = rng.integers(0, 30, (3, 9, 9)).astype(float)
    masks = np.zeros(maps.shape, bool)
    masks[:, ::2, ::2] = rng.random((3, 5, 5)) < 0.3
    masks[0, 0, 0] = True
    assert pro(maps, masks, max_fpr=1.0) == pytest.approx(auroc(maps, masks))


@settings(max_examples=60, deadline=None)
@given(rng=SMALL)
def test_the_single_functions_agree_with_the_three_together(rng):
    maps, masks = small_set(rng)
    three = {
        "auroc": auroc(maps, masks),
        "ap": average_precision(maps, masks),
        "pro": pro(maps, masks),
    }
    assert localization(maps, masks) == three


def test_pooling_is_not_the_mean_over_images():
    # Each image alone is ranked without a fault; the second lives on a higher level.
    maps = np.array([[[0.0, 1.0]], [[5.0, 6.0]]])
    masks = np.array([[[False, True]], [[False, True]]])
    each = [average_precision(m, k) for m, k in zip(maps, masks, strict=True)]
    assert each == [1.0, 1.0]
    assert average_precision(maps, masks) == pytest.approx((1 + 2 / 3) / 2)
    assert auroc(maps, masks) == 0.75


def test_perfect_and_useless_maps():
    masks, _ = screw_masks(4)
    perfect = localization(masks.astype(np.float32), masks)
    assert perfect == pytest.approx({"auroc": 1, "ap": 1, "pro": 1})
    constant = localization(np.zeros(masks.shape, np.float32), masks)
    assert constant["auroc"] == 0.5
    assert constant["ap"] == pytest.approx(masks.mean())
    assert constant["pro"] == pytest.approx(0.15)  # half of 0.3: the straight line


# ---- bad input ----


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_unfit_scores_and_labels_are_refused(metric):
    with pytest.raises(ValueError, match=r"scores \(3,\) and labels \(2,\) differ in shape"):
        metric([1, 2, 3], [0, 1])
    with pytest.raises(ValueError, match="scores and labels are empty"):
        metric([], [])
    with pytest.raises(ValueError, match=r"scores holds 1 NaN, the first at index \(2,\)"):
        metric([1, 2, np.nan], [0, 1, 1])
    with pytest.raises(ValueError, match="labels holds one class only, all normal"):
        metric([1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match="labels holds one class only, all anomalous"):
        metric([1.0, 2.0], [True, True])
    with pytest.raises(ValueError, match="labels must be 0 .normal. or 1 .anomalous."):
        metric([1.0, 2.0], [0, 255])


@pytest.mark.parametrize("metric", [pro, localization])
def test_unfit_maps_and_masks_are_refused(metric):
    maps = np.arange(8.0).reshape(2, 2, 2)
    masks = maps > 5
    with pytest.raises(ValueError, match="maps .* and masks .* differ in shape"):
        metric(maps, masks[:1])
    with pytest.raises(ValueError, match=r"maps holds 8 NaN, the first at index \(0, 0, 0\)"):
        metric(maps * np.nan, masks)
    with pytest.raises(ValueError, match="masks holds one class only, all normal"):
        metric(maps, masks & False)
    with pytest.raises(ValueError, match=r"must be \(N, H, W\), not \(2, 2\)"):
        metric(maps[0], masks[1])
    for max_fpr in (0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="max_fpr is"):
            metric(maps, masks, max_fpr)
