"""A threshold to drag: one for the curves of all pixels and for every image (chapter 02)."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fmabs_lite.lesson.live import page
from fmabs_lite.metrics import localization, region_weights

MOST = 40  # images: more are too small to be seen side by side
LIMIT = 0.3  # of PRO's false positive rate
LARGE = 250_000  # bytes of the maps, which base64 makes a third more
COLUMNS = 8
MARKED, OUTLINE = (230, 159, 0), (86, 180, 233)

STYLE = """\
<style>
.live-threshold .curves { align-items: end; display: grid; font-size: .8rem; gap: 1em;
  grid-template-columns: repeat(3, minmax(0, 1fr)); line-height: 1.3; max-width: 42em;
  padding: 0 6px; }
.live-threshold svg { aspect-ratio: 1; margin: .3em 0; }
.live-threshold .chance { stroke: currentColor; stroke-dasharray: 2 4; stroke-opacity: .6; }
.live-threshold .below { display: flex; justify-content: space-between; }
.live-threshold p { font-variant-numeric: tabular-nums; }
.live-threshold .pixels { min-height: 2.8em; }
.live-threshold ol { display: grid; gap: 4px; grid-template-columns: repeat(8, minmax(0, 1fr));
  list-style: none; margin: 0; padding: 0; }
.live-threshold li { border: 3px solid transparent; font-size: .75rem; line-height: 1.2; margin: 0;
  text-align: center; }
.live-threshold li[data-flagged] { border-color: #D55E00; }
.live-threshold li.turned { background: rgba(230, 159, 0, .3); font-weight: bold; }
.live-threshold canvas { display: block; image-rendering: pixelated; width: 100%; }
.live-threshold .still { display: block; height: auto; max-width: 100%; }
@media (max-width: 599.98px) {
  .live-threshold .pixels { min-height: 4.2em; }
  .live-threshold .images { min-height: 2.8em; }
  .live-threshold li span { display: block; min-height: 2.4em; }
  .live-threshold .curves { gap: .6em; font-size: .7rem; }
  .live-threshold ol { grid-template-columns: repeat(6, minmax(0, 1fr)); }
}
"""


class Points(NamedTuple):
    """What every threshold gives, from the lowest up; arrays of one entry for each of them.

    A pixel is marked where its map is at least as high as the threshold. The last threshold is
    above all pixels, and has no precision (NaN).
    """

    threshold: np.ndarray
    tpr: np.ndarray  # share of the defect pixels that are marked: recall
    fpr: np.ndarray  # share of the normal pixels
    precision: np.ndarray  # share of defect pixels among the marked ones
    overlap: np.ndarray  # mean marked share of all defects, which PRO averages


def drag(maps: ArrayLike, masks: ArrayLike, *, alt: str) -> None:
    """Display the ROC, precision–recall and PRO curves with a threshold that the reader drags.

    One threshold on the map serves all: each pixel at least as high is marked, and an image is
    flagged where one of its pixels is. So an image's score is the largest value of its map.

    Args:
        maps: anomaly maps (N, H, W), of at most 40 images, defective and normal ones.
        masks: True on defects, (N, H, W); an image without any is normal.
        alt: what the maps show, for one who cannot see them.

    Raises:
        ValueError: as `metrics.localization`; also for an empty `alt`, too many images or too
            large ones, or where no image is normal or none defective.
    """
    if not (isinstance(alt, str) and alt.strip()):
        raise ValueError("drag: alt is empty; say what the maps show")
    areas = localization(maps, masks, LIMIT)
    maps, masks = np.asarray(maps), np.asarray(masks).astype(bool)
    if len(maps) > MOST:
        raise ValueError(f"drag: {len(maps)} images; give at most {MOST}")
    if masks.any(axis=(1, 2)).all():
        raise ValueError("drag: no image is normal, so none can be a false alarm; add some")
    if np.isinf(maps).any():
        raise ValueError("drag: maps hold infinite values; find the step that made them")
    order = np.argsort(-maps.max(axis=(1, 2)), kind="stable")
    maps, masks = maps[order], masks[order]
    page.show(_html(maps, masks, points(maps, masks), areas, alt.strip()), alt.strip())


def points(maps: np.ndarray, masks: np.ndarray) -> Points:
    """The curves at some 200 thresholds, each image's own score among them."""
    defect, normal = maps[masks], np.sort(maps[~masks])
    order = np.argsort(defect)
    at = _thresholds(maps, defect, normal)
    found = len(defect) - np.searchsorted(defect[order], at)
    alarms = len(normal) - np.searchsorted(normal, at)
    covered = np.append(np.cumsum(region_weights(masks)[order][::-1])[::-1], 0)
    with np.errstate(invalid="ignore"):
        precision = found / (found + alarms)
    overlap = covered[len(defect) - found]
    return Points(at, found / len(defect), alarms / len(normal), precision, overlap)


def _thresholds(maps: np.ndarray, defect: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """At most 255 of the pixels' values, close where curves bend, and one above all."""
    known = np.unique(maps)
    if len(known) > 255:
        known = _chosen(maps, defect, normal)
    return np.append(known, np.nextafter(known[-1], np.inf, dtype=known.dtype))


def _chosen(maps: np.ndarray, defect: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Some 200 values: quantiles of both kinds of pixel, and each image's score."""
    rare = 1 - np.geomspace(1 / len(normal), 1, 50)  # few of the highest normal pixels matter most
    values = [np.quantile(normal, rare, method="nearest"),
              np.quantile(normal, np.linspace(0, 1, 80), method="nearest"),
              np.quantile(defect, np.linspace(0, 1, 70), method="nearest"),
              maps.max(axis=(1, 2)), [maps.min()]]  # fmt: skip
    return np.unique(np.concatenate(values))


def _html(maps: np.ndarray, masks: np.ndarray, found: Points, areas: dict, alt: str) -> str:
    """The figure; `maps` and `masks` come with the highest score first."""
    level = (np.searchsorted(found.threshold, maps, side="right") - 1).astype(np.uint8)
    peaks, bad = level.max(axis=(1, 2)), masks.any(axis=(1, 2))
    start = int(peaks[len(peaks) // 2])
    pixels, images = told(found, peaks, bad, start)
    still = _still(level, masks, found.threshold, start)
    height, width = still.shape[:2]
    source = page.address(page.webp(still, quality=50))
    return f"""\
<div class="live live-threshold" role="group" aria-label="A threshold to drag">
{STYLE}{page.STYLE}</style>
<div class="curves">
{"".join(curve.html(found, start) for curve in _curves(found, areas, masks.mean()))}</div>
<div class="on-screen" hidden><label>threshold <input type="range" min="0" \
max="{len(found.threshold) - 1}" value="{start}" autocomplete="off"></label></div>
<p class="pixels">{pixels}</p>
<p class="images">{images}</p>
<span class="spoken" aria-live="polite"></span>
<img class="still" src="{source}" width="{width}" height="{height}" alt="{escape(alt)}">
<ol hidden>
{"".join(map(_item, bad, maps.max(axis=(1, 2))))}</ol>
<p>The images by their scores, the highest first. Orange: marked pixels. Blue: the defect's \
outline.</p>
{page.block(_data(level, masks, found))}
<script>
{page.script("threshold.js")}</script>
</div>"""


def _item(bad: bool, score: float) -> str:
    what = "defective" if bad else "normal"
    canvas = f'<canvas role="img" aria-label="{what}, score {score:.3g}"></canvas>'
    return f"<li>{canvas}<span></span></li>\n"


def _data(level: np.ndarray, masks: np.ndarray, found: Points) -> dict[str, Any]:
    """What the script reads: maps as levels of the thresholds, and what each threshold gives."""
    sheet = page.webp(_sheet(level, masks), lossless=True, method=4)
    if len(sheet) > LARGE:
        raise ValueError(
            f"drag: {level.shape} maps make {len(sheet) / 1000:.0f} kB; give smaller or fewer ones"
        )
    return {
        "sheet": page.address(sheet),
        "columns": COLUMNS,
        "height": level.shape[1],
        "width": level.shape[2],
        "limit": LIMIT,
        "peaks": level.max(axis=(1, 2)).tolist(),
        "defective": masks.any(axis=(1, 2)).astype(int).tolist(),
        "greys": greys(found.threshold).tolist(),
        **{name: list(map(_short, values.tolist())) for name, values in found._asdict().items()},
    }


def _short(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.7g}")


def told(found: Points, peaks: np.ndarray, bad: np.ndarray, at: int) -> tuple[str, str]:
    """What a threshold does to pixels and to images, as the script says it."""
    flagged = peaks >= at
    precision = found.precision[at]
    pixels = (
        f"Pixels at {found.threshold[at]:.3f} or above: TPR (recall) {found.tpr[at]:.3f}, "
        f"FPR {found.fpr[at]:.4f}, "
        f"precision {'none' if np.isnan(precision) else f'{precision:.3f}'}, "
        f"mean covered share {found.overlap[at]:.3f}."
    )
    images = (
        f"Images: {(flagged & bad).sum()} of {bad.sum()} defective flagged, "
        f"{(flagged & ~bad).sum()} of {(~bad).sum()} normal flagged."
    )
    return pixels, images


def _sheet(level: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Maps as one picture: red is the last threshold that a pixel reaches, green its truth."""
    both = np.stack([level, 255 * masks.astype(np.uint8), 0 * level], axis=3)
    return page.tiled(both, COLUMNS)


def greys(threshold: np.ndarray) -> np.ndarray:
    """A grey for each threshold but the one above all, as bright as it is high."""
    below = threshold[:-1]
    return (160 * (below - below[0]) / max(below[-1] - below[0], 1e-12)).round().astype(np.uint8)


def _still(level: np.ndarray, masks: np.ndarray, threshold: np.ndarray, at: int) -> np.ndarray:
    """All maps at one threshold, as the script draws them."""
    grey = greys(threshold)[level]
    picture = np.repeat(grey[..., None], 3, axis=3)
    picture[level >= at] = MARKED
    around = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    inner = around[:, 2:, 1:-1] & around[:, :-2, 1:-1] & around[:, 1:-1, 2:] & around[:, 1:-1, :-2]
    picture[masks & ~inner] = OUTLINE
    return page.tiled(picture, COLUMNS)


class Curve(NamedTuple):
    """One of the three pictures. x and y are in [0, 1]; `limit` is what stands at x = 1."""

    key: str
    title: str
    area: str
    names: tuple[str, str]  # of x and of y
    points: tuple[np.ndarray, np.ndarray]
    chance: tuple[float, float]  # y of a map that knows nothing, at x = 0 and x = 1
    limit: float = 1

    def html(self, found: Points, at: int) -> str:
        """The picture, its dot where threshold number `at` is."""
        x, y = _spots(found)[self.key]
        line = page.path(np.column_stack([self.points[0], 1 - self.points[1]]))
        left, right = 1 - np.array(self.chance)
        return f"""\
<div class="{self.key}"><strong>{self.title}</strong><br>{self.names[1]}
<svg viewBox="0 0 1 1" preserveAspectRatio="none" role="img" \
aria-label="{self.title} curve, {self.area}"><path class="frame" d="M0 0V1H1"/>\
<path class="chance" d="M0 {left:.4g}L1 {right:.4g}"/><path class="line" d="{line}"/>\
<path class="dot" d="M{x[at]:.4g} {1 - y[at]:.4g}h0"/></svg>
<span class="below"><span>0</span><span>{self.names[0]}</span><span>{self.limit}</span></span>\
{self.area}</div>
"""


def _spots(found: Points) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where the dot of each curve is, for every threshold; PRO's stops at the limit."""
    within = np.minimum(found.fpr / LIMIT, 1)
    return {"roc": (found.fpr, found.tpr), "pr": (found.tpr, found.precision),
            "pro": (within, found.overlap)}  # fmt: skip


def _curves(found: Points, areas: dict[str, float], rare: float) -> list[Curve]:
    """The three curves; `rare` is the share of defect pixels. PRO's ends at the limit exactly."""
    spots, inside = _spots(found), found.fpr <= LIMIT
    end = np.interp(LIMIT, found.fpr[::-1], found.overlap[::-1])
    cut = (np.append(1, spots["pro"][0][inside]), np.append(end, found.overlap[inside]))
    return [
        Curve("roc", "ROC", f"AUROC {areas['auroc']:.3f}", ("FPR", "TPR"), spots["roc"], (0, 1)),
        Curve("pr", "precision–recall", f"AP {areas['ap']:.3f}", ("recall", "precision"),
              spots["pr"], (rare, rare)),
        Curve("pro", "PRO", f"PRO {areas['pro']:.3f}", ("FPR", "mean covered share"), cut,
              (0, LIMIT), LIMIT),
    ]  # fmt: skip
