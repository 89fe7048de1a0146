"""The detectors to beat: no network, no training steps (chapter 02).

Each is a row in every result table of the book. A benchmark's number means little by itself: on
some of these sets, counting how far a pixel is from the average picture, or how much it changed
since the last frame, already scores high. A trained detector that does not beat this row has not
shown that its training did anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from fmabs_lite.metrics import auroc


class PixelDeviation:
    """Every pixel's mean and standard deviation over the normal training images (chapter 02).

    It is what "compare with the average picture" scores, and so a row in every table on images:
    good where all images are aligned, poor where the object lies at any angle.
    """

    def __init__(self, eps: float = 1 / 255) -> None:
        self.eps = eps  # one grey level: keeps a pixel that never varied from dividing by zero

    def fit(self, images: ArrayLike) -> PixelDeviation:
        """Learn from ``images``: uint8 ``(N, C, H, W)``, normal ones only. Returns itself.

        Raises ``ValueError`` when they are not 8-bit images of that shape, or none.
        """
        images = _eight_bit(images, "images", "(N, C, H, W)")
        total = np.zeros(images.shape[1:])
        squares = np.zeros(images.shape[1:])
        for image in images:  # one at a time: a float copy of the whole set may not fit
            value = image / 255
            total += value
            squares += value * value
        self.mean = total / len(images)
        self.std = np.sqrt(np.maximum(squares / len(images) - self.mean**2, 0))
        return self

    def maps(self, images: ArrayLike) -> np.ndarray:
        """``|x - mean| / (std + eps)``, mean over the channels: float32 ``(N, H, W)``, from 0 up.

        ``images``: uint8 ``(N, C, H, W)``, of the size fitted on; else ``ValueError``.
        """
        images = _eight_bit(images, "images", "(N, C, H, W)")
        if images.shape[1:] != self.mean.shape:
            raise ValueError(
                f"images are {images.shape[1:]}, but fit saw {self.mean.shape}; "
                "load both at the same size"
            )
        scale = 1 / (self.std + self.eps)
        deviations = [np.mean(np.abs(image / 255 - self.mean) * scale, axis=0) for image in images]
        return np.stack(deviations).astype(np.float32)


def frame_difference(frames: ArrayLike, sigma: float) -> np.ndarray:
    """``|frame t - frame t-1|``, mean over the channels, Gaussian blurred (chapter 02).

    It is what "something moves fast here" scores, and so a row in every table on video.

    ``frames``: uint8 ``(T, C, H, W)``, T at least 2. ``sigma``: blur in pixels, 0 for none;
    borders are mirrored and the kernel reaches 4 sigma, as in ``scipy.ndimage``.
    Returns float32 ``(T, H, W)`` in [0, 1]; row 0, which has no frame before it, repeats row 1.
    """
    frames = _eight_bit(frames, "frames", "(T, C, H, W)")
    if len(frames) < 2:
        raise ValueError("frames holds one frame only; a difference needs two or more")
    if sigma < 0:
        raise ValueError(f"sigma is {sigma}; give a blur of 0 or more pixels")
    maps = np.empty((len(frames), *frames.shape[2:]), np.float32)
    width = 2 * int(4 * sigma + 0.5) + 1
    for t in range(1, len(frames)):
        change = np.abs(frames[t].astype(np.float32) - frames[t - 1]).mean(axis=0) / 255
        if sigma > 0:
            change = cv2.GaussianBlur(change, (width, width), sigma, borderType=cv2.BORDER_REFLECT)
        maps[t] = change
    maps[0] = maps[1]
    return maps


def box_difference(clips: Sequence, boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """``|frame t - frame t-1|``, mean inside each box: the detector to beat for objects (ch. 12).

    ``clips``: with ``frames`` uint8 ``(T, C, H, W)``, T at least 2. ``boxes``: for each clip int
    ``(K, 5)``, frame, x0, y0, x1, y1, as ``fmabs_lite.data.objects`` returns them. Returns the
    scores in [0, 1] of all boxes, clip after clip, and ``where`` each lies: int ``(…, 2)``, number
    of the clip and frame. In frame 0, which has no frame before it, frame 1 takes its place.
    """
    scores, where = [], []
    for number, (clip, found) in enumerate(zip(clips, boxes, strict=True)):
        for t, x0, y0, x1, y1 in found:
            now, before = (clip.frames[k, :, y0:y1, x0:x1].astype(np.float32)
                           for k in (t, abs(t - 1)))  # fmt: skip
            scores.append(np.abs(now - before).mean() / 255)
            where.append((number, t))
    return np.array(scores, np.float32), np.array(where, int).reshape(-1, 2)


def speed_contrast(training: Iterable[ArrayLike], sigmas: Iterable[float]) -> dict[float, float]:
    """How well each blur tells normal footage from itself at double speed (chapter 02).

    For every sigma the AUROC, by the frames' maxima of ``frame_difference``, of every clip as it
    is against every second frame of it. The sigma with the highest one is used on test footage:
    no test frame and no label has a say in it. ``training``: normal clips, uint8
    ``(T, C, H, W)`` each, T at least 3.
    """
    clips, contrast = list(training), {}
    for sigma in sigmas:
        normal, fast = (
            np.concatenate([frame_difference(c[::step], sigma).max(axis=(1, 2)) for c in clips])
            for step in (1, 2)
        )
        labels = np.repeat([0, 1], [len(normal), len(fast)])
        contrast[sigma] = auroc(np.concatenate([normal, fast]), labels)
    return contrast


def _eight_bit(images: ArrayLike, name: str, shape: str) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ValueError(
            f"{name} must be uint8 {shape} and not empty; these are {images.dtype} {images.shape}"
        )
    return images
