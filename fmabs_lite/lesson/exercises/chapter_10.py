"""Checks of the exercises of chapter 10: DRAEM."""

import math

from fmabs_lite.lesson.exercises.registry import exercise


@exercise("10.1")
def _focal(focal):
    got = focal(0.5, 0)
    assert abs(got - math.log(2)) < 1e-9, (
        f"With γ = 0 it is the cross-entropy: log 2 = {math.log(2):.4f} at one half, not {got}."
    )
    got, right = focal(0.9, 2), 0.01 * -math.log(0.9)
    assert abs(got - right) < 1e-9, (
        f"At p = 0.9 and γ = 2 the cross-entropy is multiplied by 0.1² = 0.01, which gives "
        f"{right:.6f}; yours is {got}."
    )


@exercise("10.2")
def _blend_out(blend_out):
    import torch

    image, texture = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    for beta in (0.25, 0.8):
        mixed = (1 - beta) * texture + beta * image
        gap = (blend_out(mixed, texture, beta) - image).abs().max().item()
        assert gap < 1e-5, (
            f"The blend is (1 − β)·A + β·I; solved for I at β = {beta} yours is off by {gap:.3f}."
        )


@exercise("10.3")
def _image_score(image_score):
    import torch

    maps = torch.zeros(2, 9, 9)
    maps[0, 4, 4] = 1
    maps[1, 0, 0] = 1
    got = image_score(maps, 3)
    assert tuple(got.shape) == (2,), f"One number an image: (2,), not {tuple(got.shape)}."
    assert abs(float(got[0]) - 1 / 9) < 1e-6, (
        f"One pixel of 1 in a square of 3 × 3 has the mean 1/9; yours is {float(got[0]):.4f}."
    )
    assert abs(float(got[1]) - 1 / 9) < 1e-6, (
        "In the corner the square sticks out of the picture, and what is outside counts as zero: "
        f"1/9 again; yours is {float(got[1]):.4f}."
    )
    full = image_score(torch.ones(1, 9, 9), 3)
    assert abs(float(full[0]) - 1) < 1e-6, f"A map of ones scores 1; yours {float(full[0]):.4f}."
