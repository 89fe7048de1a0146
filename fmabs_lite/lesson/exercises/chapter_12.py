"""Checks of the exercises of chapter 12: PKG-Net."""

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("12.1")
def _covered(covered):
    cases = [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1, "A box lies wholly inside itself"),
        ((0, 0, 4, 4), (2, 0, 10, 10), 0.5, "The right half of a lies in b"),
        ((2, 0, 10, 10), (0, 0, 4, 4), 0.1, "The share is of a, the first box, not of b"),
        ((0, 0, 4, 4), (6, 6, 8, 8), 0, "Apart in both directions, nothing is shared"),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0, "x1 is not included, so boxes that meet share nothing"),
    ]
    for a, b, right, why in cases:
        got = covered(a, b)
        assert abs(got - right) < 1e-9, f"{why}: covered({a}, {b}) is {right}, not {got}."


@exercise("12.2")
def _median_of(median_of):
    import numpy as np

    scores = [0.0, 9.0, 0.0, 0.0, 5.0, 6.0]
    got = np.asarray(median_of(scores, 3), dtype=float)
    assert got.shape == (6,), f"One score a frame: (6,), not {got.shape}."
    assert got[1] == 0, f"A single high frame flickers and goes: 0 at frame 1, not {got[1]}."
    assert np.array_equal(got[:5], [0, 0, 0, 0, 5]), (
        f"The medians of the first five frames are 0, 0, 0, 0, 5; yours are {got[:5].tolist()}."
    )
    assert got[5] == 6, (
        f"At the end the last score is repeated: the median of 5, 6, 6 is 6, not {got[5]}."
    )
    wide = np.asarray(median_of([1.0, 2.0, 3.0, 4.0, 5.0], 5), dtype=float)
    assert np.array_equal(wide, [1, 2, 3, 4, 5]), (
        f"With a width of 5 two scores are repeated at either end: 1 … 5, not {wide.tolist()}."
    )


@exercise("12.3")
def _apart(apart):
    import torch

    f = torch.tensor([[[1.0, 3.0]], [[0.0, 3.0]]])
    got = apart(f, f.flip(0))
    assert tuple(got.shape) == (1, 2), f"One number a position: (1, 2), not {tuple(got.shape)}."
    assert abs(float(got[0, 0]) - 1) < 1e-5, (
        f"(1, 0) and (0, 1) stand at a right angle: 1, not {float(got[0, 0]):.3f}."
    )
    assert abs(float(got[0, 1])) < 1e-5, (
        f"(3, 3) reversed is itself: 0, not {float(got[0, 1]):.3f}."
    )
    twice = apart(f, 2 * f)
    assert float(twice.abs().max()) < 1e-5, "Lengths do not count: f and 2f are not apart at all."


@exercise("12.4")
def _told_apart(told_apart):
    rows = {
        "encoder": [0.75, 0.77, 0.76],
        "bottleneck": [0.80, 0.82, 0.81],
        "decoder": [0.70, 0.95, 0.84],
        "all three": [0.85, 0.86, 0.85],
    }
    got = set(told_apart(rows))
    assert "bottleneck" not in got, "The bottleneck is what the others are compared with."
    assert "decoder" not in got, (
        "decoder has the highest seed, yet its interval holds zero: it is not told apart."
    )
    assert got == {"encoder", "all three"}, (
        f"encoder lies 5 points below in every seed, all three above; you have {sorted(got)}."
    )
