"""From the scores of frames or objects to one number for a set of videos (chapter 11).

Every published protocol strings together some of these steps, each its own. Here each is a small
function, so that a chapter can say which it takes and measure what it is worth. All arrays are
as long as the set has frames: `scores` and `labels` (N,), and `videos` (N,), the number of the
clip that a frame belongs to.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from scipy import ndimage

from fmabs_lite.data.clips import Clip
from fmabs_lite.metrics import auroc


def videos_of(clips: Sequence[Clip]) -> np.ndarray:
    """The number of its clip for every frame of all clips, one after the other: int (N,)."""
    return np.repeat(np.arange(len(clips)), [len(clip) for clip in clips])


def labels_of(clips: Sequence[Clip]) -> np.ndarray:
    """1 for every abnormal frame of all clips, one after the other: int8 (N,)."""
    return np.concatenate([clip.labels for clip in clips])


def psnr(error: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in decibels of a mean squared error on images in [0, 1].

    10 · log10(1 / error); large where the error is small. No error at all counts as 1e-10.
    """
    return -10 * np.log10(np.maximum(error, 1e-10))


def frame_scores(
    values: np.ndarray,
    where: np.ndarray,
    clips: Sequence[Clip],
    top: int = 1,
    empty: float | None = None,
) -> np.ndarray:
    """Give each frame the mean of its `top` highest values (chapter 12).

    Args:
        values: (K,), one for each object or window.
        where: int (K, 2), number of the clip and of the frame to which each belongs.
        clips: the videos.
        top: how many count; a frame with fewer takes those it has.
        empty: the score of a frame without any; the lowest of all values when None.
    Returns:
        (N,), for every frame of all clips.
    """
    starts = np.cumsum([0, *(len(clip) for clip in clips)])
    frame = starts[where[:, 0]] + where[:, 1]
    best = np.full((starts[-1], top), np.nan)
    order = np.lexsort((-np.asarray(values), frame))  # by frame, and there the highest first
    first = np.searchsorted(frame[order], frame[order])
    rank = np.arange(len(order)) - first
    keep = rank < top
    best[frame[order][keep], rank[keep]] = np.asarray(values)[order][keep]
    found = ~np.isnan(best[:, 0])
    scores = np.full(len(best), np.min(values) if empty is None else empty, dtype=np.float64)
    scores[found] = np.nanmean(best[found], axis=1)
    return scores


def median(scores: np.ndarray, videos: np.ndarray, width: int) -> np.ndarray:
    """Median over `width` frames, within each video; the ends are mirrored (chapters 11, 12, 15).

    HF2VAD takes 17 frames, PKG-Net 19; PKG-Net's code sets zeros beyond the ends.
    """
    return each_video(lambda part: ndimage.median_filter(part, width), scores, videos)


def average(scores: np.ndarray, videos: np.ndarray, width: int) -> np.ndarray:
    """Mean over `width` frames, within each video; the ends are mirrored (Jigsaw)."""
    return each_video(lambda part: ndimage.uniform_filter1d(part, width), scores, videos)


def gaussian(
    scores: np.ndarray, videos: np.ndarray, sigma: float, radius: int | None = None
) -> np.ndarray:
    """Gaussian blur of σ frames, within each video; the ends are mirrored (Jigsaw).

    It reaches `radius` frames to each side, 4 σ when None. Jigsaw cuts σ = 20 off at 24.
    """
    return each_video(
        lambda part: ndimage.gaussian_filter1d(part, sigma, radius=radius), scores, videos
    )


def box_maps(
    values: np.ndarray,
    where: np.ndarray,
    boxes: np.ndarray,
    clips: Sequence[Clip],
    block: int = 1,
    empty: float = 0.0,
) -> Iterator[np.ndarray]:
    """Paint each object's value into its box: a map of every frame (chapter 13).

    Args:
        values: (K,), not below `empty`; of two boxes that overlap the higher value shows.
        where: int (K, 2), number of the clip and of the frame of each object.
        boxes: int (K, 4), x0, y0, x1, y1 in pixels, x1 and y1 not included.
        clips: the videos.
        block: side of a cell in pixels; every cell that a box touches is painted.
        empty: the value where nothing is painted.
    Yields:
        float32 (T, ⌈H / block⌉, ⌈W / block⌉), for each clip.
    """
    for number, clip in enumerate(clips):
        frames, _, height, width = clip.frames.shape
        cells = np.full((frames, -(-height // block), -(-width // block)), empty, np.float32)
        for k in np.flatnonzero(where[:, 0] == number):
            x0, y0, x1, y1 = boxes[k]
            rows, columns = slice(y0 // block, -(-y1 // block)), slice(x0 // block, -(-x1 // block))
            inside = cells[where[k, 1], rows, columns]
            np.maximum(inside, values[k], out=inside)
        yield cells


def painted(
    values: np.ndarray,
    where: np.ndarray,
    boxes: np.ndarray,
    clips: Sequence[Clip],
    block: int = 1,
    width: int = 5,
) -> np.ndarray:
    """Paint values into their boxes, blur in space and time, take each frame's highest.

    So a value that its box does not keep for some frames, at the same place, counts for less
    (Jigsaw; chapter 13).

    Args:
        values, where, boxes, clips, block: as in `box_maps`.
        width: of the mean filter, in cells and in frames; outside there is 0.
    Returns:
        (N,), for every frame of all clips.
    """
    maps = box_maps(values, where, boxes, clips, block)
    blurred = (ndimage.uniform_filter(cells, width, mode="constant") for cells in maps)
    return np.concatenate([cells.max(axis=(1, 2)) for cells in blurred]).astype(np.float64)


def pixel_auroc(
    maps: Iterable[np.ndarray],
    clips: Sequence[Clip],
    block: int = 4,
    frames: slice = slice(None),
) -> float:
    """Where in the frame: AUROC over the cells of all frames and clips (chapters 12, 13, 15).

    A cell has the highest value of its pixels, and is anomalous if an anomaly's mask touches it.

    Args:
        maps: for each clip (T, H, W), such as `box_maps` yields them.
        clips: the videos, with masks.
        block: side of a cell in pixels; at the frame's edge it may be smaller.
        frames: those of each clip that are judged.
    Raises:
        ValueError: for a clip without masks, and as `auroc` does.
    """
    if bare := [clip.name for clip in clips if clip.masks is None]:
        raise ValueError(f"clip {bare[0]} has no masks, so nobody can say where it is abnormal.")
    cells = [coarse(one[frames], block) for one in maps]
    truth = [coarse(clip.masks[frames], block) for clip in clips]
    return auroc(np.concatenate(cells), np.concatenate(truth))


def coarse(maps: np.ndarray, block: int) -> np.ndarray:
    """The highest value in every cell of `block` × `block` pixels: (T, ⌈H/block⌉, ⌈W/block⌉)."""
    down, right = (-size % block for size in maps.shape[1:])
    whole = np.pad(maps, ((0, 0), (0, down), (0, right)), mode="edge")
    frames, height, width = whole.shape
    cells = whole.reshape(frames, height // block, block, width // block, block)
    return cells.max(axis=(2, 4))


def each_video(
    step: Callable[[np.ndarray], np.ndarray], scores: np.ndarray, videos: np.ndarray
) -> np.ndarray:
    """Apply `step` to the scores of each video by itself, as float64."""
    out = np.empty(len(scores), dtype=np.float64)
    for video in np.unique(videos):
        out[videos == video] = step(np.asarray(scores)[videos == video].astype(np.float64))
    return out


def one_class(labels: np.ndarray, videos: np.ndarray) -> list[int]:
    """Numbers of the videos in which every frame is abnormal, or none is: no AUROC exists."""
    return [int(v) for v in np.unique(videos) if len(np.unique(labels[videos == v])) == 1]


def macro(scores: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> float:
    """Mean over videos of each one's AUROC; those of one class are left out (chapter 11).

    The *micro* AUROC, the field's default, is `auroc` over the frames of all videos together.

    Raises:
        ValueError: when every video has one class only.
    """
    left_out = one_class(labels, videos)
    both = [v for v in np.unique(videos) if v not in left_out]
    if not both:
        raise ValueError("every video has frames of one class only, so no AUROC exists.")
    return float(np.mean([auroc(scores[videos == v], labels[videos == v]) for v in both]))
