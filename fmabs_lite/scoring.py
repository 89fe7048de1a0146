"""From raw parts to one anomaly score (chapters 04 and 09)."""

import numpy as np
from torch import Tensor


def feature_score(fea_t: Tensor, fea_s: Tensor) -> Tensor:
    """S_fea = ‖Fea_T − Fea_S‖²₂, as a mean over channels and positions (FMABS eq. 5, ch. 09).

    The paper writes a sum. A mean differs by a constant factor, which eq. 6 needs to be taken
    out anyway before the two scores can be added.

    Args:
        fea_t, fea_s: features of teacher and student, (B, C, H, W) or any other (B, …).
    Returns:
        (B,), not negative.
    """
    return ((fea_t - fea_s) ** 2).flatten(1).mean(dim=1)


def hybrid_score(s_fea: np.ndarray, s_o: np.ndarray, lam: float) -> np.ndarray:
    """S_total = λ · S_fea + (1 − λ) · S_o (FMABS eq. 6, chapter 09).

    Args:
        s_fea, s_o: scores of equal shape, already on one scale (see `minmax`, `standardise`).
        lam: λ in [0, 1].
    Raises:
        ValueError: when λ is outside [0, 1] or the shapes differ.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam is {lam}; λ weighs two scores and must lie in [0, 1].")
    if np.shape(s_fea) != np.shape(s_o):
        raise ValueError(
            f"s_fea has shape {np.shape(s_fea)} and s_o {np.shape(s_o)}; eq. 6 adds them "
            "element by element, so score the same images or frames with both."
        )
    return lam * np.asarray(s_fea) + (1 - lam) * np.asarray(s_o)


def minmax(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Scale the scores of each group (a video) to [0, 1] by that group's own range (chapter 09).

    A group whose scores are all equal becomes 0. Note what this assumes: the whole video has
    been seen, and every video holds something anomalous.

    Args:
        scores: (N,).
        groups: (N,), which video a frame belongs to.
    """
    out = np.zeros(len(scores), dtype=np.float64)
    for group in np.unique(groups):
        part = np.asarray(scores)[groups == group].astype(np.float64)
        span = part.max() - part.min()
        out[groups == group] = (part - part.min()) / span if span else 0.0
    return out


def standardise(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Put scores on the scale of normal training scores: mean 0, standard deviation 1 (ch. 04).

    Unlike `minmax` it looks at no test image but the one that is scored.

    Raises:
        ValueError: when the reference has no spread, or is not finite.
    """
    mean, spread = moments(reference)
    return (np.asarray(scores) - mean) / spread


def moments(reference: np.ndarray) -> tuple[np.floating, np.floating]:
    """Mean and standard deviation of normal training scores; ValueError as `standardise`."""
    spread = np.std(reference)
    if not 0 < spread < np.inf:
        raise ValueError(
            f"reference has no finite spread ({spread}), so nothing can be scaled by it; pass the "
            "scores of several different training images."
        )
    return np.mean(reference), spread


def smooth(maps: np.ndarray, sigma: float) -> np.ndarray:
    """Blur each map with a Gaussian of σ pixels; mirrored edges; σ = 0 changes nothing (ch. 04).

    Args:
        maps: (N, H, W).
    """
    if sigma == 0:
        return np.asarray(maps)
    import cv2

    return np.stack(
        [
            cv2.GaussianBlur(m, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
            for m in np.asarray(maps, dtype=np.float32)
        ]
    )


def peak(maps: np.ndarray) -> np.ndarray:
    """The largest value of each map: (N, H, W) to (N,). One bad spot makes a bad part (ch. 03)."""
    return np.asarray(maps).max(axis=(1, 2))


def enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize maps (N, h, w) bilinearly to (N, H, W), so that they can be laid over the images."""
    import cv2

    return np.stack(
        [
            cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR)
            for m in np.asarray(maps, dtype=np.float32)
        ]
    )
